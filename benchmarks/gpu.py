"""What a GPU does here, in under ten minutes: does it start, does it agree with the CPU, and how fast is it.

    python benchmarks/gpu.py --photos FOLDER      or: make check-gpu PHOTOS=FOLDER
    python benchmarks/gpu.py --rehearse           the same on a CPU, of a few photos

The last line printed is JSON. Without --photos it takes those of `make demo`. It ends with 1 where the
vectors of the GPU are not those of the CPU (cosine below .9999), or where search and dedup answer otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
os.environ.pop("RAY_ADDRESS", None)

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from machine import machine  # noqa: E402
from match_data import names, probes_of, unit_vectors  # noqa: E402

from frpipe.core.config import Config, load_config  # noqa: E402
from frpipe.io.output.features import Features  # noqa: E402
from frpipe.jobs.enroll.job import Enrollment  # noqa: E402
from frpipe.matching.kernels import kernel_of  # noqa: E402
from frpipe.matching.pairs import pairs_within  # noqa: E402
from frpipe.matching.ranking import Ranking  # noqa: E402
from frpipe.matching.topk import TopK  # noqa: E402
from frpipe.models.loading import load_embedder  # noqa: E402
from frpipe.stages.locate import locator_of  # noqa: E402
from frpipe.stages.models import Models  # noqa: E402

_LEAST_COSINE = 0.9999
_K, _THRESHOLD = 10, 0.4
_DEMO = ROOT / "out/demo/photos"


def main() -> int:
    options = _parser().parse_args()
    photos = _photos(options.photos or _DEMO, 24 if options.rehearse else options.rows)
    rows, probes = (20_000, 500) if options.rehearse else (500_000, 10_000)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        manifest = _manifest(folder / "manifest.parquet", photos)
        cpu, device = Config(), Config() if options.rehearse else load_config(ROOT / "configs/gpu.yaml")
        result: dict[str, Any] = {
            "rehearsal_without_a_gpu": options.rehearse,
            "photos": len(photos),
            **_stages(device, photos),
            "enroll_photos_s": _enroll(manifest, folder / "device", device),
            "enroll_cpu_photos_s": _enroll(manifest, folder / "cpu", cpu),
            **_agreement(folder / "cpu", folder / "device"),
            **_matching("fp32" if options.rehearse else "cuda", rows, probes),
        }
    good = result["least_cosine"] >= _LEAST_COSINE and result["faces_in_one_alone"] == 0
    good = good and result["search"]["same_answers"] and result["dedup"]["same_answers"]
    print(json.dumps({"good": good, **result, "machine": machine()}))
    return 0 if good else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="JPEG files below it are used")
    parser.add_argument("--rows", type=int, default=4000, help="photos to do, repeated where there are fewer")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, to see that the script works")
    return parser


def _photos(folder: Path, count: int) -> list[Path]:
    found = sorted(folder.rglob("*.jpg"))
    if not found:
        sys.exit(f"no JPEG file below {folder}: give --photos FOLDER, or run `make demo` first")
    return [found[n % len(found)] for n in range(count)]


def _manifest(path: Path, photos: Sequence[Path]) -> Path:
    ids = [f"{n:06d}" for n in range(len(photos))]
    pq.write_table(pa.table({"image_id": ids, "image_uri": [str(each.resolve()) for each in photos]}), path)
    return path


def _stages(config: Config, photos: Sequence[Path]) -> dict[str, float]:
    """Photos and faces a second of the two stages alone, in this process."""
    models = Models.of(config)
    encoded = [photo.read_bytes() for photo in photos]
    locator = locator_of(models.config, models.detector, models.judge)
    embedder = load_embedder(models.embedder, models.config.embedder, models.config.resources.embed)
    crops = np.concatenate([each.crops for each in locator.locate(encoded[:64]) if len(each.faces)])
    embedder.embed(crops)
    located_s, located = _timed(lambda: list(locator.locate(encoded)))
    crops = np.concatenate([each.crops for each in located if len(each.faces)])
    embedded_s, _ = _timed(lambda: embedder.embed(crops))
    return {
        "detect_photos_s": round(len(photos) / located_s, 1),
        "embed_faces_s": round(len(crops) / embedded_s, 1),
    }


def _enroll(manifest: Path, output: Path, config: Config) -> float:
    """Photos a second of the whole job, its start included."""
    seconds, _ = _timed(lambda: Enrollment(str(manifest), str(output), config).run())
    return round(pq.read_metadata(manifest).num_rows / seconds, 1)


def _agreement(cpu: Path, device: Path) -> dict[str, Any]:
    """How near the vectors of both are, face by face."""
    one, other = (_vectors(folder) for folder in (cpu, device))
    shared = sorted(one.keys() & other.keys())
    cosines = [float(one[face] @ other[face]) for face in shared]
    return {
        "faces": len(shared),
        "faces_in_one_alone": len(one.keys() ^ other.keys()),
        "least_cosine": round(min(cosines, default=0.0), 7),
    }


def _vectors(folder: Path) -> dict[str, Any]:
    found = {}
    for faces in Features.at(str(folder)).all_faces(("face_id", "embedding")):
        for row in faces.to_pylist():
            vector = np.array(row["embedding"], np.float64)
            found[row["face_id"]] = vector / np.linalg.norm(vector)
    return found


def _matching(name: str, rows: int, count: int) -> dict[str, Any]:
    """Search and dedup by the device's kernel, and whether the CPU answers the same."""
    vectors = unit_vectors(rows)
    probes = probes_of(vectors, count)
    ids = names(rows)
    kernel, plain = kernel_of(name), kernel_of("fp32")  # type: ignore[arg-type]

    def search(by: Any, some: Any) -> Any:
        found = TopK(some, _K, by)
        found.add(ids, vectors)
        return found.result()

    def dedup(by: Any, some: Any) -> set[tuple[int, int]]:
        return {
            pair
            for pairs in pairs_within(some, _THRESHOLD, by)
            for pair in zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)
        }

    few, some = probes[:200], np.concatenate([vectors[:5000], probes[:5000]])
    some_same = dedup(kernel, some) == dedup(plain, some)
    search_s, _ = _timed(lambda: search(kernel, probes))
    dedup_s, _ = _timed(lambda: dedup(kernel, vectors[: rows // 4]))
    a, b = search(kernel, few), search(plain, few)
    return {
        "search": {
            "rows": rows,
            "probes": count,
            "dim": vectors.shape[1],
            "seconds": round(search_s, 2),
            "same_answers": _same(a, b),
        },
        "dedup": {"rows": rows // 4, "seconds": round(dedup_s, 2), "same_answers": some_same},
    }


def _same(a: Ranking, b: Ranking) -> bool:
    return bool(a.subject_id.equals(b.subject_id) and np.array_equal(a.similarity, b.similarity))


def _timed(do: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = do()
    return time.perf_counter() - begin, result


if __name__ == "__main__":
    sys.exit(main())
