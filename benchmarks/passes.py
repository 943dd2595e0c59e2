"""Consolidate at once, in passes and over workers: disk, memory and time, beside a bare copy and a bare sort.

    python benchmarks/passes.py [--faces 200000] [--dim 512] [--passes 4 16] [--turns 3] [--before CHECKOUT]

The enroll output is synthetic: one face and one person a photo, random unit vectors, in no order of people.
A pass has at least one shard, so that more passes than are asked for may be needed. Each way goes into a new
gallery of shards of 8,192 templates, in a process of its own, in turns; memory is
that of all its processes together (pages that they share are counted once a process), disk that of its files
without a name. Bare: the bytes of the output copied, each file flushed to the disk; and all vectors read with
PyArrow, sorted in memory by a hash of their people, and written, flushed likewise. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from machine import machine
from sizing import made_output, manifest_of

from frpipe.gallery.gallery import Gallery
from frpipe.gallery.packed import hashes
from frpipe.gallery.schema import EMBEDDING, SUBJECT_ID, vectors_of
from frpipe.jobs.features import FeatureRun

_SHARD_ROWS = 8192
_LOOK_S = 0.02
# What `Survey` counts for a template of this output, and room for passes that are not equal.
_TEXT_BYTES, _UNEVEN = 160, 1.1
_RUN = "import sys; from frpipe.cli.main import main; sys.exit(main(['run', *sys.argv[1:]]))"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--passes", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--before", type=Path, help="a checkout of earlier code to compare with")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="frpipe-bench-", dir=args.folder) as folder:
        place = Path(folder)
        pq.write_table(manifest_of(args.faces), place / "manifest.parquet")
        features = made_output(place / "features", place / "manifest.parquet", args.faces, args.dim)
        ways = _ways(args, Path(features.uri), place)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
        for _ in range(args.turns):
            for name, way in ways.items():
                found[name].append(way())
                print(f"{name:<22}", found[name][-1], flush=True)
    rows = {
        name: {key: round(median(turn[key] for turn in turns), 2) for key in turns[0]}
        for name, turns in found.items()
    }
    facts = {"bench": "passes", "faces": args.faces, "dim": args.dim, "turns": args.turns}
    print(json.dumps({**facts, "shard_rows": _SHARD_ROWS, "machine": machine(), "ways": rows}))
    return 0


def _ways(args: argparse.Namespace, features: Path, place: Path) -> dict[str, Callable[[], dict[str, float]]]:
    whole = args.faces * (4 * args.dim + _TEXT_BYTES)

    def way(*words: str, code: Path | None = None) -> Callable[[], dict[str, float]]:
        return lambda: _consolidated(features, place, words, code)

    ways = {
        "bare copy": lambda: _timed(lambda: _copy(features, place / "copy"), place / "copy"),
        "bare sort": lambda: _timed(lambda: _sort(features, place / "sorted"), place / "sorted"),
        "at once": way("--scratch-gb", "1000"),
    }
    if args.before:
        ways["before"] = way(code=args.before)
    for count in args.passes:
        ways[f"{count} passes"] = way("--scratch-gb", f"{_UNEVEN * whole / count / 1e9:.6f}")
    ways["2 workers"] = way("--scratch-gb", "1000", "--executor", "local", "--workers", "2")
    return ways


def _consolidated(features: Path, place: Path, words: tuple[str, ...], code: Path | None) -> dict[str, float]:
    """Seconds, CPU seconds, MB of memory and of temporary files of one consolidation into a new gallery."""
    scratch, gallery = place / "scratch", place / "gallery"
    scratch.mkdir(exist_ok=True)
    shutil.rmtree(gallery, ignore_errors=True)
    Gallery.create(str(gallery), replace(FeatureRun.open(str(features)).spec, rows_per_shard=_SHARD_ROWS))
    environment = {**os.environ, "TMPDIR": str(scratch)} | ({"PYTHONPATH": str(code)} if code else {})
    command = [sys.executable, "-c", _RUN, "consolidate", "--features", str(features)]
    command += ["--gallery", str(gallery), *words]
    os.sync()
    begin, before = time.perf_counter(), os.times()
    memory = disk = 0
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        while process.poll() is None:
            used = [*_used(process.pid, str(scratch))]
            memory = max(memory, sum(each for each, _ in used))
            disk = max(
                disk, sum({inode: size for _, files in used for inode, size in files.items()}.values())
            )
            time.sleep(_LOOK_S)
    wall, after = time.perf_counter() - begin, os.times()
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}")
    if Gallery.open(str(gallery)).snapshot().rows != pq_rows(features):
        raise SystemExit("the gallery has not as many templates as there are faces")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"s": wall, "cpu_s": cpu, "memory_mb": memory / 1e6, "scratch_mb": disk / 1e6}


def _used(pid: int, scratch: str) -> Iterator[tuple[int, dict[int, int]]]:
    """Memory of a process and those it started, and the sizes of their files without a name, by inode."""
    with suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.Error, OSError):
                files = {}
                for link in Path(f"/proc/{process.pid}/fd").iterdir():
                    target = str(link.readlink())
                    if target.startswith(scratch) and target.endswith("(deleted)"):
                        files[link.stat().st_ino] = link.stat().st_size
                yield process.memory_info().rss, files


def pq_rows(features: Path) -> int:
    """The number of faces of an output."""
    return sum(pq.read_metadata(file).num_rows for file in (features / "faces").iterdir())


def _timed(work: Callable[[], None], made: Path) -> dict[str, float]:
    os.sync()
    begin, before = time.perf_counter(), time.process_time()
    work()
    found = {"s": time.perf_counter() - begin, "cpu_s": time.process_time() - before}
    shutil.rmtree(made) if made.is_dir() else made.unlink()
    return found


def _copy(features: Path, target: Path) -> None:
    (target).mkdir()
    for file in sorted((features / "faces").iterdir()):
        with (target / file.name).open("wb") as out:
            out.write(file.read_bytes())
            out.flush()
            os.fsync(out.fileno())


def _sort(features: Path, target: Path) -> None:
    files = sorted((features / "faces").iterdir())
    table = pa.concat_tables(pq.read_table(file, columns=[SUBJECT_ID, EMBEDDING]) for file in files)
    order = np.argsort(hashes(table[SUBJECT_ID]), kind="stable")
    vectors = vectors_of(table)
    with target.open("wb") as out:
        for start in range(0, len(order), 4096):
            out.write(vectors[order[start : start + 4096]].data)
        out.flush()
        os.fsync(out.fileno())


if __name__ == "__main__":
    sys.exit(main())
