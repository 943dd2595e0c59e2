"""The gallery at size: build, list, delete, compact and verify, against the disk's own rate in the same run.

    python benchmarks/gallery.py [--rows 100000 1000000] [--folder DIR]

Vectors are synthetic unit vectors, no two alike. Each size runs in a process of its own, so that its peak
memory is its own. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from machine import machine

from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.persons import persons
from frpipe.gallery.schema import EMBEDDING, vector_array, vectors_of
from frpipe.gallery.shard_writer import ShardWriter
from frpipe.gallery.spec import GallerySpec

_DIM = 512
_BLOCK = 8192
# As `gallery list` shows unasked.
_PAGE = 100
_DELETED = 1000
_SHARDS = 8
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_HASH = "0" * 64


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measured(args.rows[0], args.folder, args.dtype)))
        return 0
    sizes = {str(rows): _apart(rows, args.folder, args.dtype) for rows in args.rows}
    print(
        json.dumps(
            {"bench": "gallery", "dim": _DIM, "dtype": args.dtype, "machine": machine(), "rows": sizes}
        )
    )
    return 0


def _apart(rows: int, parent: Path, dtype: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="frpipe-bench-", dir=parent) as folder:
        command = [sys.executable, __file__, "--child", "--rows", str(rows), "--folder", folder]
        environment = {**os.environ, "TMPDIR": folder}
        done = subprocess.run(
            [*command, "--dtype", dtype], stdout=subprocess.PIPE, check=True, env=environment
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for name, value in found.items():
        print(f"{rows:>9,} rows  {name:<34} {value}")
    return found


def measured(rows: int, folder: Path, dtype: str) -> dict[str, Any]:
    """All numbers of one size. MB is 10**6 bytes."""
    spec = GallerySpec(_DIM, _HASH, _HASH, _HASH, dtype="float16" if dtype == "float16" else "float32")
    gallery = Gallery.create(str(folder / "gallery"), spec)
    payload_mb = rows * _DIM * np.dtype(spec.stored_type).itemsize / 1e6
    found: dict[str, Any] = {}
    made = _Generator(rows)
    build_s = _time(lambda: lifecycle.enroll(gallery, made.tables())) - made.seconds
    found["build_s"], found["build_mb_s"] = round(build_s, 2), round(payload_mb / build_s)
    found["peak_rss_build_mb"] = _peak_mb()
    found["first_page_s"] = round(_time(lambda: persons(gallery.snapshot(), limit=_PAGE)), 3)
    where = {"Department": "Department 7"}
    found["filtered_page_s"] = round(_time(lambda: persons(gallery.snapshot(), where, limit=_PAGE)), 3)
    found["list_all_s"] = round(_time(lambda: sum(t.num_rows for t in gallery.snapshot().list())), 2)
    found["bytes_per_template"] = round(_bytes_in(folder / "gallery") / rows)
    gone = [_subject(row) for row in range(0, rows, max(rows // _DELETED, 1))][:_DELETED]
    vector = vectors_of(gallery.snapshot().show(gone[1], vectors=True))[0].astype(spec.stored_type).tobytes()
    found["delete_1000_s"] = round(_time(lambda: lifecycle.delete(gallery, gone)), 2)
    found["files_with_vector_before"] = _files_with(folder / "gallery", vector)
    found["compact_s"] = round(_time(lambda: lifecycle.compact(gallery)), 2)
    found["files_with_vector_after"] = _files_with(folder / "gallery", vector)
    found["verify_s"] = round(_time(lambda: _none(lifecycle.verify(gallery))), 2)
    found["rows_after"] = gallery.snapshot().rows
    found["peak_rss_mb"] = _peak_mb()
    found |= _reading(gallery, folder)
    shutil.rmtree(folder / "gallery")
    return found | _writing(spec, folder)


class _Generator:
    """Tables of templates; `seconds` is what making them took."""

    def __init__(self, rows: int) -> None:
        self._rows, self.seconds = rows, 0.0
        base = np.random.default_rng(1).standard_normal((_BLOCK, _DIM), dtype=np.float32)
        self._base = base / np.linalg.norm(base, axis=1, keepdims=True)

    def tables(self) -> Iterator[pa.Table]:
        """Every block is the first one turned along the numbers of a vector: other vectors, same length."""
        for number, start in enumerate(range(0, self._rows, _BLOCK)):
            begin = time.perf_counter()
            table = _table(start, self._base[: self._rows - start], number)
            self.seconds += time.perf_counter() - begin
            yield table


def _table(start: int, base: np.ndarray, turn: int) -> pa.Table:
    count = len(base)
    subjects = [_subject(row) for row in range(start, start + count)]
    return pa.table(
        {
            "subject_id": subjects,
            "face_id": [f"{subject}#0" for subject in subjects],
            "image_uri": [f"photos/{subject}.jpg" for subject in subjects],
            "quality": np.full(count, 0.5, np.float32),
            "enrolled_at": pa.array([_NOW] * count, pa.timestamp("us", tz="UTC")),
            "embedding": vector_array(np.roll(base, turn, axis=1) * np.float32(1 if turn < _DIM else -1)),
            "Department": [f"Department {row % 20}" for row in range(count)],
        }
    )


def _subject(row: int) -> str:
    return f"person-{row:08d}"


def _reading(gallery: Gallery, folder: Path) -> dict[str, Any]:
    """Vectors as views of warm files: the sum of all numbers, and a copy of all; the same of one plain file.

    A sum touches every byte.
    """
    room = np.empty((gallery.spec.rows_per_shard * 2, _DIM), gallery.spec.stored_type)
    size = gallery.snapshot().rows * _DIM * room.dtype.itemsize

    def total() -> None:
        for _, vectors in gallery.snapshot().vectors():
            np.add.reduce(vectors, axis=None)

    def copy() -> None:
        for _, vectors in gallery.snapshot().vectors():
            np.copyto(room[: len(vectors)], vectors)

    plain = folder / "plain"
    with plain.open("wb") as file:
        for _, vectors in gallery.snapshot().vectors():
            file.write(np.ascontiguousarray(vectors).data)

    def total_plain() -> None:
        np.add.reduce(np.memmap(plain, np.float32, "r"))

    def read_plain() -> None:
        view = room.view(np.uint8).reshape(-1).data
        with plain.open("rb", buffering=0) as file:
            while file.readinto(view):
                pass

    rates = {"sum": total, "copy": copy, "plain_sum": total_plain, "plain_copy": read_plain}
    found = {
        f"read_{name}_mb_s": round(max(size / 1e6 / _time(call) for _ in range(3)))
        for name, call in rates.items()
    }
    plain.unlink()
    return found


def _writing(spec: GallerySpec, folder: Path) -> dict[str, Any]:
    """Eight full shards from tables in memory, hashed and durable; the same bytes by write and fsync."""
    gallery = Gallery.create(str(folder / "written"), spec)
    whole = pa.concat_tables(_Generator(spec.rows_per_shard).tables()).combine_chunks()
    texts, vectors = whole.drop_columns([EMBEDDING]), vectors_of(whole).astype(spec.stored_type)

    def shards() -> None:
        with ShardWriter(gallery.shard_store) as sink:
            for _ in range(_SHARDS):
                sink.add(texts, vectors)

    def plain() -> None:
        with (folder / "plain").open("wb", buffering=0) as file:
            for _ in range(_SHARDS):
                file.write(vectors.data)
            os.fsync(file.fileno())

    size = _SHARDS * vectors.nbytes / 1e6
    found: dict[str, list[int]] = {"shard_write_mb_s": [], "plain_write_fsync_mb_s": []}
    for _ in range(3):
        os.sync()
        found["plain_write_fsync_mb_s"].append(round(size / _time(plain)))
        (folder / "plain").unlink()
        os.sync()
        found["shard_write_mb_s"].append(round(size / _time(shards)))
        shutil.rmtree(folder / "written" / "shards")
    return found


def _peak_mb() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def _files_with(folder: Path, needle: bytes) -> int:
    count = 0
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                count += data.find(needle) >= 0
    return count


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _none(problems: list[lifecycle.GalleryProblem]) -> None:
    if problems:
        raise SystemExit(f"verify found {problems[:3]}")


def _time(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
