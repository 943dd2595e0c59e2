"""Whole identify and dedup jobs, code of before against this one, on the same gallery and probes, in turns.

    git worktree add ../before 0c9a993
    python benchmarks/stored_forms.py --before ../before --features out/bench-lfw --place out/bench-forms

CPU seconds of all processes, Ray's included, and the peak of their memory. This code runs twice a turn: as on
a gallery without stored forms, which it makes, and as on every later night. The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cpu_time import Usage, measure
from match_data import Floats
from match_job import features_of
from match_memory import HASH
from match_subspace import EMBEDDERS, real_vectors

from frpipe.gallery import lifecycle
from frpipe.gallery.derived import DerivedFiles
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import vector_array
from frpipe.gallery.spec import GallerySpec

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = 16_384
_NOISE = 0.02


def main() -> None:
    options = _parser().parse_args()
    place: Path = options.place.resolve()
    report: dict[str, Any] = {"bench": "stored_forms", "embedder": options.embedder}
    if options.probes and options.people:
        gallery = _gallery(options, options.people)
        probes = place / f"probes-{options.embedder}-{options.probes}"
        if not probes.exists():
            some = real_vectors(options.features, EMBEDDERS[options.embedder], _BLOCK).probes
            features_of(probes, _more(some, options.probes))
        words = ["--probes", str(probes), "--threshold", "0.5", "--top", "10"]
        words += ["--min-similarity", str(options.floor)] if options.floor is not None else []
        report["identify"] = {"probes": options.probes, "people": options.people, "floor": options.floor}
        report["identify"] |= _turns(options, "identify", gallery, words, "probes")
        print(json.dumps(report["identify"], indent=1), file=sys.stderr, flush=True)
    if options.dedup:
        gallery = _gallery(options, options.dedup)
        report["dedup"] = {"people": options.dedup}
        report["dedup"] |= _turns(options, "dedup", gallery, ["--threshold", str(options.threshold)], "pairs")
    print(json.dumps(report))


def _turns(
    options: argparse.Namespace, job: str, gallery: Gallery, words: list[str], rows: str
) -> dict[str, Any]:
    """The least CPU of each side over the turns, and whether all rows are equal."""
    sides: dict[str, list[Usage]] = {"before": [], "first": [], "later": []}
    files, answers = DerivedFiles(gallery.folder), list[Any]()
    for turn in range(options.turns):
        for side, runs in sides.items():
            if side != "later":
                for name in files.names():
                    gallery.folder.delete(name)
            if side == "before" and options.before is None:
                continue
            # Ray's workers import from the folder that the job was started in.
            root = options.before.resolve() if side == "before" else ROOT
            output = options.place / f"{job}-{side}"
            shutil.rmtree(output, ignore_errors=True)
            command = [sys.executable, str(root / f"jobs/{job}.py"), "--gallery", gallery.uri]
            environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
            runs.append(measure([*command, *words, "--output", str(output)], environment, root))
            answers.append(_rows(output / rows))
            print(f"{job} {turn} {side}: {runs[-1]}", file=sys.stderr, flush=True)
    known = {side: min(runs, key=lambda usage: usage.cpu_s) for side, runs in sides.items() if runs}
    base = known.get("before")
    return {
        "equal": all(each.equals(answers[0]) for each in answers),
        "rows": answers[0].num_rows,
        **{f"{side}_cpu_s": round(usage.cpu_s, 1) for side, usage in known.items()},
        **{f"{side}_pss_mb": round(usage.pss_mb) for side, usage in known.items()},
        **{
            f"{side}_ratio": round(base.cpu_s / usage.cpu_s, 2)
            for side, usage in known.items()
            if base is not None and side != "before"
        },
    }


def _rows(folder: Path) -> pa.Table:
    """What both codes write, in one order."""
    table = pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("*.parquet")))
    names = [name for name in ("image_id", "candidates", "decision", *_PAIRS) if name in table.column_names]
    keys = [name for name in ("image_id", "subject_a", "face_a", "subject_b", "face_b") if name in names]
    return table.select(names).sort_by([(key, "ascending") for key in keys]).combine_chunks()


_PAIRS = ("subject_a", "face_a", "subject_b", "face_b", "similarity", "kind")


def _gallery(options: argparse.Namespace, rows: int) -> Gallery:
    """Made once, of one template a person."""
    place: Path = options.place / f"G-{options.embedder}-{rows}"
    if place.exists():
        return Gallery.open(str(place))
    vectors = real_vectors(options.features, EMBEDDERS[options.embedder], rows).gallery
    begun = place.with_name(f"{place.name}.begun")
    shutil.rmtree(begun, ignore_errors=True)
    made = Gallery.create(str(begun), GallerySpec(vectors.shape[1], HASH, HASH, HASH))
    lifecycle.enroll(made, _tables(vectors))
    begun.rename(place)
    return Gallery.open(str(place))


def _tables(vectors: Floats) -> Iterator[pa.Table]:
    for start in range(0, len(vectors), _BLOCK):
        some = vectors[start : start + _BLOCK]
        ids = [f"person-{row:08d}" for row in range(start, start + len(some))]
        yield pa.table({"subject_id": ids, "face_id": ids, "embedding": vector_array(some)})


def _more(vectors: Floats, count: int) -> Floats:
    """So many probes: real ones, and each again with a little noise, until there are enough."""
    rng = np.random.default_rng(3)
    found = vectors[np.arange(count) % len(vectors)].astype(np.float64)
    noise = rng.normal(size=found.shape) * _NOISE / np.sqrt(found.shape[1])
    # The noise lies where embeddings do.
    found[len(vectors) :] += (noise @ (vectors.T @ vectors) / len(vectors))[len(vectors) :]
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float32)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--before", type=Path, metavar="FOLDER", help="a worktree of the code to compare with")
    add("--features", type=Path, default=ROOT / "out/bench-lfw", metavar="FOLDER")
    add(
        "--place", type=Path, default=ROOT / "out/bench-forms", metavar="FOLDER", help="galleries and outputs"
    )
    add("--embedder", choices=("edgeface", "mobilefacenet"), default="edgeface")
    add("--people", type=int, default=1_000_000, metavar="N", help="templates that identify searches")
    add("--probes", type=int, default=10_000, metavar="N")
    add("--floor", type=float, metavar="S", help="--min-similarity, which only this code knows")
    add("--dedup", type=int, default=300_000, metavar="N", help="templates of the dedup; 0: none")
    add("--threshold", type=float, default=0.5, metavar="S", help="of the dedup")
    add("--turns", type=int, default=2, metavar="N")
    return parser


if __name__ == "__main__":
    main()
