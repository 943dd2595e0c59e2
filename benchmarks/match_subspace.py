"""Search in few dimensions on galleries like real ones, in turns with faiss and with the other kernels."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from match_data import Floats, names, probes_of, unit_vectors
from match_real import Enlarged, enlarged
from match_search import sgemm
from threadpoolctl import threadpool_limits

from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.storage.folder import Folder
from frpipe.matching.choice import Choice, Sample, Task, choose, spread
from frpipe.matching.kernel import Kernel
from frpipe.matching.kernels import kernel_of
from frpipe.matching.pairs import pairs_within
from frpipe.matching.ranking import Ranking
from frpipe.matching.tiles import Tiles
from frpipe.matching.topk import TopK

ROOT = Path(__file__).resolve().parents[1]
EMBEDDERS = {
    "edgeface": "edgeface_xs_q",
    "mobilefacenet": "mobilefacenet_faceplugin",
    "sface": "sface_2021dec",
}
PROBES, K, FLOOR = 1000, 10, 0.5
# A shard of a gallery; and what a worker keeps of rows in the form of its kernel.
_BLOCK, _KEEPS = 65_536, 4 << 30
_SAMPLE = 8192


def features(folder: Path, shared: Path) -> Path:
    """The enroll output of the photos of LFW with three embedders; made, if it is not there."""
    if run.complete(Folder.at(str(folder))) is None:
        manifest = folder.with_suffix(".csv")
        scan = [sys.executable, "-m", "frpipe", "manifest", "scan", str(shared / "data/lfw/images")]
        subprocess.run([*scan, "-o", str(manifest)], cwd=ROOT, check=True, stdout=sys.stderr)
        embed = ", ".join(f"{{model: {name}}}" for name in EMBEDDERS.values())
        words = ["--manifest", str(manifest), "--output", str(folder)]
        words += ["--set", f"embed=[{embed}]", "--set", "detect.model=yunet_n"]
        subprocess.run([sys.executable, "jobs/enroll.py", *words], cwd=ROOT, check=True, stdout=sys.stderr)
    return folder


def few_dimensions(folder: Path, embedder: str, rows: int, rounds: int) -> dict[str, Any]:
    """Ratios of CPU seconds, `theirs / ours`, for the best 10, and for the best 10 of similarity 0.5."""
    faiss.omp_set_num_threads(1)
    found = _random(rows) if embedder == "random" else real_vectors(folder, EMBEDDERS[embedder], rows)
    with threadpool_limits(1):
        contest = _Contest(found, rounds)
        return {"dim": found.gallery.shape[1], "probes": len(found.probes)} | {
            "top10": contest.search(-1),
            "floor05": contest.search(FLOOR),
        }


def few_dimensions_dedup(folder: Path, embedder: str, rows: int, rounds: int) -> dict[str, Any]:
    """`sgemm over n (n - 1) / 2 products / ours` in CPU seconds, all pairs of similarity 0.5."""
    gallery = real_vectors(folder, EMBEDDERS[embedder], rows).gallery
    with threadpool_limits(1):
        return _dedup(gallery, rounds)


def real_vectors(folder: Path, embedder: str, rows: int) -> Enlarged:
    """A gallery of so many rows, and probes; see `enlarged`. folder: the enroll output of `features`."""
    first = next(iter(EMBEDDERS.values()))
    output = Folder.at(str(folder))
    own, further = Features(output), Features(output, None if embedder == first else embedder)
    vectors, people = [], []
    for part in own.rows():
        table = own.faces(part, ["image_id", "is_subject"])
        kept = np.flatnonzero(np.array(table["is_subject"].to_pylist()))
        vectors.append(further.vectors([part])[kept])
        people += [Path(table["image_id"][int(row)].as_py()).name.rpartition("_")[0] for row in kept]
    return enlarged(np.concatenate(vectors), people, rows, PROBES)


def _random(rows: int) -> Enlarged:
    gallery = unit_vectors(rows)
    return Enlarged(gallery, probes_of(gallery, PROBES))


class _Contest:
    """All sides over the same vectors."""

    def __init__(self, vectors: Enlarged, rounds: int) -> None:
        self._gallery, self._probes, self._rounds = vectors.gallery, vectors.probes, rounds
        self._ids: pa.StringArray = names(len(self._gallery))
        self._index = faiss.IndexFlatIP(self._gallery.shape[1])
        self._index.add(self._gallery)

    def search(self, at_least: float) -> dict[str, Any]:
        """Turns of all sides. at_least: of our candidates; faiss finds the best 10 all the same."""
        plain: dict[str, Kernel] = {name: kernel_of(name) for name in ("fp32", "int8")}
        low = {wish: self._choice(wish, at_least) for wish in ("subspace", "subspace-int8", "auto")}
        kept = {wish: self._tiles(choice) for wish, choice in low.items()}
        for wish, (kernel, tiles) in kept.items():
            self._ours(kernel, at_least, tiles)
            print(f"{wish}: {low[wish].name}, {low[wish].why}", file=sys.stderr, flush=True)
        sides: dict[str, Callable[[], Any]] = {
            "sgemm": partial(sgemm, self._gallery, self._probes),
            "faiss_knn": partial(
                faiss.knn, self._probes, self._gallery, K, metric=faiss.METRIC_INNER_PRODUCT
            ),
            "faiss_index": partial(self._index.search, self._probes, K),
        }
        for name, kernel in plain.items():
            sides[name] = partial(self._ours, kernel, at_least)
        for wish, (kernel, tiles) in kept.items():
            sides[f"{wish}_kept"] = partial(self._ours, kernel, at_least, tiles)
            sides[f"{wish}_first"] = partial(self._ours, kernel, at_least)
        seconds, answers = turns(sides, self._rounds)
        ours = {name: answers[name] for name in sides if isinstance(answers[name], Ranking)}
        best = min(seconds["faiss_knn"], seconds["faiss_index"])
        return {
            "cpu_seconds": {name: round(value, 3) for name, value in seconds.items()},
            "subspace_fp32_to_faiss": round(best / seconds["subspace_kept"], 2),
            "subspace_int8_to_faiss": round(best / seconds["subspace-int8_kept"], 2),
            "subspace_fp32_first_to_faiss": round(best / seconds["subspace_first"], 2),
            "subspace_int8_first_to_faiss": round(best / seconds["subspace-int8_first"], 2),
            "fp32_to_faiss": round(best / seconds["fp32"], 2),
            "int8_to_faiss": round(best / seconds["int8"], 2),
            "subspace_fp32_to_fp32": round(seconds["fp32"] / seconds["subspace_kept"], 2),
            "subspace_int8_to_fp32": round(seconds["fp32"] / seconds["subspace-int8_kept"], 2),
            "auto": low["auto"].name,
            "auto_to_faiss": round(best / seconds["auto_kept"], 2),
            "auto_to_best_of_fp32_and_int8": round(
                min(seconds["fp32"], seconds["int8"]) / seconds["auto_kept"], 2
            ),
            "equal_bit_by_bit": all(_equal(each, ours["fp32"]) for each in ours.values()),
            "same_as_faiss": _same_as(ours["fp32"], answers["faiss_knn"], at_least),
        }

    def _choice(self, wish: Any, at_least: float) -> Choice:
        # Some of the probes stand for all; the basis is of the gallery, which has none of them.
        sample = Sample(spread(self._gallery, _SAMPLE), self._probes[::4])
        return choose(wish, sample, Task(len(self._gallery), K, at_least, 10**9))

    @staticmethod
    def _tiles(choice: Choice) -> tuple[Kernel, Tiles]:
        kernel = kernel_of(choice.name, choice.basis)
        return kernel, Tiles(kernel, _KEEPS)

    def _ours(self, kernel: Kernel, at_least: float, tiles: Tiles | None = None) -> Ranking:
        found = TopK(self._probes, K, kernel, at_least=at_least, tiles=tiles)
        for start in range(0, len(self._gallery), _BLOCK):
            block = slice(start, start + _BLOCK)
            found.add(self._ids[block], self._gallery[block], name=start)
        return found.result()


def _dedup(gallery: Floats, rounds: int) -> dict[str, Any]:
    sample = Sample(spread(gallery, _SAMPLE), spread(gallery[1::2], 256))
    task = Task(len(gallery), None, FLOOR, len(gallery) // 2)
    choices = {wish: choose(wish, sample, task) for wish in ("fp32", "int8", "subspace", "subspace-int8")}
    block = gallery[:65_536]
    sides: dict[str, Callable[[], Any]] = {
        "sgemm": partial(sgemm, block, gallery[:PROBES]),
        **{wish: partial(_all_pairs, gallery, each) for wish, each in choices.items()},
    }
    seconds, answers = turns(sides, rounds)
    each = seconds.pop("sgemm") / (len(block) * PROBES)
    whole = each * len(gallery) * (len(gallery) - 1) / 2
    return {
        "cpu_seconds": {name: round(value, 2) for name, value in seconds.items()},
        **{f"{name.replace('-', '_')}_to_sgemm": round(whole / value, 2) for name, value in seconds.items()},
        "pairs": len(answers["fp32"][0]),
        "equal_bit_by_bit": all(
            all(np.array_equal(*both) for both in zip(answers[name], answers["fp32"], strict=True))
            for name in choices
        ),
    }


def _all_pairs(gallery: Floats, choice: Choice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    found = list(pairs_within(gallery, FLOOR, kernel_of(choice.name, choice.basis)))
    a, b, scores = (
        np.concatenate([getattr(each, name) for each in found]) for name in ("a", "b", "similarity")
    )
    order = np.lexsort((b, a))
    return a[order], b[order], scores[order]


def turns(sides: dict[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """The least CPU seconds of each side, which take turns, and its last answer."""
    seconds = dict.fromkeys(sides, float("inf"))
    answers: dict[str, Any] = {}
    for _ in range(rounds):
        for name, side in sides.items():
            begin = time.process_time()
            answers[name] = side()
            seconds[name] = min(seconds[name], time.process_time() - begin)
    return seconds, answers


def _equal(one: Ranking, other: Ranking) -> bool:
    return (
        np.array_equal(one.probe, other.probe)
        and one.subject_id.equals(other.subject_id)
        and np.array_equal(one.similarity, other.similarity)
    )


def _same_as(ours: Ranking, faiss_found: tuple[np.ndarray, np.ndarray], at_least: float) -> float:
    """Share of the probes whose candidates are those of faiss, but for ties within its rounding."""
    (scores, rows), same = faiss_found, 0
    for probe in range(len(rows)):
        mine = ours.probe == probe
        own = {int(name[7:]) for name in ours.subject_id.filter(pa.array(mine)).to_pylist()}
        theirs = {
            int(row) for row, score in zip(rows[probe], scores[probe], strict=True) if score >= at_least
        }
        last = max(float(scores[probe, -1]), at_least)
        known = dict(zip(rows[probe].tolist(), scores[probe].tolist(), strict=True))
        same += all(abs(known.get(row, last) - last) < 1e-5 for row in own ^ theirs)
    return same / len(rows)
