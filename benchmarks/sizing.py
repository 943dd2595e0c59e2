"""Memory of the driver and bytes on its disk, by the number of photos, beside what the formula says.

    FRPIPE_MODEL_DIR=../shared/models python benchmarks/sizing.py --record
    FRPIPE_MODEL_DIR=../shared/models python benchmarks/sizing.py --record --photos 25000 --dim 512

Manifests and finished enroll outputs are synthetic: one face and one person a photo, random unit vectors.
Each command runs in a process of its own, so that its peak is its own: `enroll --dry-run`, which reads and
plans the whole manifest, and `consolidate` into a new gallery, in several ways (`--ways`). What consolidate
puts aside is seen as the size of its open files without a name. The processes of an idle Ray head are
measured once. --record writes what `tests/unit/test_sizing.py` holds the formula to; rows of the size that
constants were taken from are marked `fitted`, all others are held out. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from machine import machine

from frpipe.core.report import PhotoCounts, Report
from frpipe.core.schema import IMAGE_COLUMNS, SCHEMA_VERSION, face_schema, image_schema
from frpipe.core.sizing import GalleryLoad, consolidate_bytes, enroll_bytes, spill_bytes
from frpipe.gallery.encryption import KEY_VARIABLE
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import vector_array
from frpipe.gallery.spec import AES
from frpipe.io.output import run
from frpipe.io.output.parts import check_part, write_part
from frpipe.io.output.plan import plan
from frpipe.io.storage.folder import Folder
from frpipe.jobs.features import FeatureRun

RECORD = Path(__file__).with_name("sizing.json")
FITTED = (25_000, 512)
"""Photos and dimension of the rows that constants were taken from."""
# That shards wait for each other while they are sent was seen here.
_SEEN = (150_000, 256, "encrypted")
PART_ROWS = 2048
_HASHES = {"embedder_hash": "e" * 64, "preprocessing_hash": "p" * 64, "detector_hash": "d" * 64}
_METADATA = {f"frpipe.{name}": value for name, value in _HASHES.items()}
_NOTHING = pa.schema([])
_LOOK_S = 0.02
_EXAMINED = ["--threshold", "0.5"]
# Of each way: options of consolidate, settings of the gallery, and how it is a load.
WAYS: dict[str, tuple[list[str], dict[str, Any], dict[str, Any]]] = {
    "plain": ([], {}, {"examined": False}),
    "examined": (_EXAMINED, {}, {}),
    "small shards": (_EXAMINED, {"rows_per_shard": 8192}, {"shard_rows": 8192}),
    "mean": (["--templates", "mean"], {}, {"examined": False, "reduced": "mean"}),
    "medoid": (["--templates", "medoid"], {}, {"examined": False, "reduced": "chosen"}),
    "encrypted": ([], {"encryption": AES}, {"examined": False, "image": "encrypted"}),
    "encrypted, examined": (_EXAMINED, {"encryption": AES}, {"image": "encrypted"}),
    "float16": ([], {"dtype": "float16"}, {"examined": False, "stored": 2}),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, nargs="+", default=[10_000, 120_000, 400_000])
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["plain", "examined"])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--record", action="store_true", help="write the results beside this program")
    args = parser.parse_args()
    rows = []
    for photos in args.photos:
        with tempfile.TemporaryDirectory(prefix="sizing-", dir=args.folder) as place:
            for row in measured(Path(place), photos, args.dim, args.ways):
                rows.append(row)
                print(json.dumps(row), flush=True)
    result = {"machine": machine(), "head_services_mb": head_services_mb(), "sizes": rows}
    if args.record:
        _record(result)
    print(json.dumps(result))
    return 0


def _record(result: dict[str, Any]) -> None:
    """Write what was measured; sizes that were not this time stay as they are recorded."""
    before = json.loads(RECORD.read_text())["sizes"] if RECORD.exists() else []
    fresh = [{k: v for k, v in row.items() if "formula" not in k} for row in result["sizes"]]
    known = {(row["dim"], row["photos"], row["way"]): row for row in (*before, *fresh)}
    content = {**result, "sizes": [known[key] for key in sorted(known)]}
    RECORD.write_text(json.dumps(content, indent=1) + "\n")


def measured(place: Path, photos: int, dim: int, ways: list[str]) -> Iterator[dict[str, Any]]:
    """Peaks in MB and spilled bytes of each way, each with what the formula says."""
    manifest = place / "manifest.parquet"
    pq.write_table(manifest_of(photos), manifest)
    words = ["enroll", "--manifest", str(manifest), "--output", str(place / "new"), "--dry-run"]
    enroll_mb, _ = _peak(words, place)
    features = made_output(place / "features", manifest, photos, dim)
    for way in ways:
        load = load_of(photos, dim, way)
        consolidate_mb, spilled = _consolidated(features, place / "gallery", way)
        yield {
            "photos": photos,
            "dim": dim,
            "way": way,
            "load": WAYS[way][2],
            "fitted": is_fitted(photos, dim, way),
            "enroll_mb": enroll_mb,
            "enroll_formula_mb": round(enroll_bytes(photos) / 1e6),
            "consolidate_mb": consolidate_mb,
            "consolidate_formula_mb": round(consolidate_bytes(load) / 1e6),
            "spill_mb": round(spilled / 1e6, 1),
            "spill_formula_mb": round(spill_bytes(load) / 1e6, 1),
        }


def is_fitted(photos: int, dim: int, way: str) -> bool:
    """Whether something of the formula was taken from this row."""
    return (photos, dim) == FITTED or (photos, dim, way) == _SEEN


def load_of(photos: int, dim: int, way: str) -> GalleryLoad:
    """The load of a way."""
    return GalleryLoad(photos, photos, dim, part_faces=PART_ROWS, **WAYS[way][2])


def _consolidated(features: Folder, gallery: Path, way: str) -> tuple[int, int]:
    """MB at the peak of a consolidation into a new gallery, and the most bytes that it has put aside."""
    options, settings, _ = WAYS[way]
    os.environ.setdefault(KEY_VARIABLE, base64.b64encode(b"k" * 32).decode())
    shutil.rmtree(gallery, ignore_errors=True)
    Gallery.create(str(gallery), replace(FeatureRun.open(features.uri).spec, **settings))
    words = ["consolidate", "--features", features.uri, "--gallery", str(gallery), *options]
    return _peak(words, gallery.parent)


def made_output(place: Path, manifest: Path, photos: int, dim: int) -> Folder:
    """A finished enroll output of one face a photo, without a photo or a model."""
    out = Folder.at(str(place))
    cut = plan(str(manifest), out, PART_ROWS)
    identity = {"schema_version": SCHEMA_VERSION, "manifest": cut.fingerprint, "recipe": {}}
    run.claim(out, identity, {"created": "2026-05-01T00:00:00+00:00", "manifest": str(manifest)})
    tally, files = PhotoCounts(), []
    for number, start in enumerate(range(0, photos, PART_ROWS)):
        images, faces = _part(range(start, min(start + PART_ROWS, photos)), dim)
        write_part(out, number, images, faces, _METADATA)
        *done, table = check_part(out, number)
        files += done
        tally.add(table)
    report = Report.of(
        tally,
        pools=[],
        models={},
        parts=-(-photos // PART_ROWS),
        launch_rows=photos,
        wall_s=1.0,
        rows_per_s=1.0,
        output=out.uri,
    )
    run.seal(out, files, report.as_dict(), report.text())
    return out


def _names(numbers: range) -> dict[str, pa.Array]:
    """Ids and places as long as those of a bucket."""
    return {
        "image_id": pa.array([f"2026/05/{n // 1000:05d}/photo-{n:09d}.jpg" for n in numbers]),
        "image_uri": pa.array([f"s3://photos/2026/05/{n // 1000:05d}/photo-{n:09d}.jpg" for n in numbers]),
        "subject_id": pa.array([f"person-{n:09d}" for n in numbers]),
    }


def manifest_of(photos: int) -> pa.Table:
    """The manifest of `made_output`."""
    return pa.table(_names(range(photos)))


def _part(numbers: range, dim: int) -> tuple[pa.Table, pa.Table]:
    rows, names = len(numbers), _names(numbers)
    sha = pa.array([hashlib.sha256(str(n).encode()).hexdigest() for n in numbers])
    known: dict[str, Any] = {**names, "status": "ok", "attempts": 1, "faces": 1, "content_sha256": sha}
    known |= {"width": 100, "height": 100}
    schema = image_schema(_NOTHING)
    blank = dict.fromkeys(column.name for column in IMAGE_COLUMNS)
    images = _table(schema, {**blank, **known}, rows)
    ones = (
        "box_x1",
        "box_y1",
        "box_x2",
        "box_y2",
        "score",
        "eye_distance_px",
        "roll_deg",
        "detector_face_px",
    )
    vectors = np.random.default_rng(numbers.start).standard_normal((rows, dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    facts: dict[str, Any] = {
        **dict.fromkeys((*ones, "sharpness", "norm"), 1.0),
        **names,
        "face_id": pa.array([f"{name}#0" for name in names["image_id"].to_pylist()]),
        "face_index": 0,
        "is_subject": True,
        "face_policy": "all",
        "landmarks": [1.0] * 10,
        "refined": False,
        "embedding": vector_array(vectors),
        **_HASHES,
    }
    return images, _table(face_schema(dim, _NOTHING), facts, rows)


def _table(schema: pa.Schema, values: dict[str, Any], rows: int) -> pa.Table:
    columns = []
    for field in schema:
        value = values.get(field.name)
        array = value if isinstance(value, pa.Array) else pa.array([value] * rows, field.type)
        columns.append(array.cast(field.type) if array.type != field.type else array)
    return pa.table(columns, schema=schema)


def _peak(words: list[str], place: Path) -> tuple[int, int]:
    """MB at the peak of a command of frpipe, and the most bytes in its open files without a name."""
    code = (
        "import sys, resource; from frpipe.cli.main import main; code = main(['run', *sys.argv[1:]]); "
        "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    )
    scratch = place / "scratch"
    scratch.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(scratch)}
    command = [sys.executable, "-c", code, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        most = 0
        while process.poll() is None:
            most = max(most, sum(dict(_unnamed(process.pid, str(scratch))).values()))
            time.sleep(_LOOK_S)
        said = process.stdout.read() if process.stdout else ""
    found = re.search(r"^peak (\d+)$", said, re.MULTILINE)
    if process.returncode or not found:
        raise SystemExit(f"exit code {process.returncode}: {' '.join(words)}")
    return round(int(found[1]) * 1024 / 1e6), most


def _unnamed(pid: int, scratch: str) -> Iterator[tuple[int, int]]:
    """Inode and size of the files; one that is mapped is open more than once."""
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = str(link.readlink())
            if target.startswith(scratch) and target.endswith("(deleted)"):
                yield link.stat().st_ino, link.stat().st_size
    except OSError:
        return


def head_services_mb() -> int:
    """Resident memory of the processes of an idle Ray head without CPUs, the object store aside."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    import ray

    ray.init(num_cpus=0, object_store_memory=100_000_000, include_dashboard=True, log_to_driver=False)
    try:
        time.sleep(5)
        own = psutil.Process()
        return round(sum(each.memory_info().rss - each.memory_info().shared
                         for each in own.children(recursive=True)) / 1e6)  # fmt: skip
    finally:
        ray.shutdown()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main())
