"""What an enroll does before its first part and after its last: it plans, and reads back.

    python benchmarks/driver.py audit --parts 10000          # by one process, and by two workers, in turns
    python benchmarks/driver.py plan --rows 2000000          # a made-up manifest, in Parquet and in CSV

`audit`: the parts are links to one made-up part, so that the output takes no room and no disk is measured.
`cpu_s` is of all processes; `driver_mb` are bytes of the output that pass through the process of the job,
`receipts_mb` those that workers send back. `plan`: `cpu_s` is of the process, `main_s` of the thread that
checks the rows, `first_line_s` when progress is told for the first time. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from erase import HASHES, made_up_tables, named

from frpipe.io.output.parts import FACES, IMAGES, part_name, write_part
from frpipe.io.output.plan import Draft, ManifestPlan, plan_of
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.local_store import LocalStore
from frpipe.jobs import reading_back
from frpipe.jobs.enroll.audit import audit
from frpipe.runtime import between_processes
from frpipe.runtime.allocation import Node
from frpipe.runtime.local import LocalExecutor

_PART_ROWS = 2048
_BATCH_ROWS = 1 << 19


def main() -> None:
    """Measure one of the two, and print one JSON object at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("audit", "plan"))
    parser.add_argument("--parts", type=int, default=10_000, help="of the output")
    parser.add_argument("--part-rows", type=int, default=256, help="faces of a part")
    parser.add_argument("--dim", type=int, default=128, help="numbers of a vector")
    parser.add_argument("--rows", type=int, default=2_000_000, help="of the manifest")
    parser.add_argument("--repeat", type=int, default=2, help="turns (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="frpipe-driver-") as place:
        measured = _audits if options.what == "audit" else _plans
        print(json.dumps(measured(Path(place), options)))


def _audits(place: Path, options: argparse.Namespace) -> dict[str, Any]:
    out = _output(place, options.parts, options.part_rows, options.dim)
    rows = options.parts * options.part_rows
    plan = ManifestPlan(rows, options.parts, options.part_rows, False, "", pa.schema([]))
    size = sum(entry.bytes for entry in out.list())
    reading_back.DRIVER_CPUS = 0
    found: dict[str, list[dict[str, float]]] = {"one process": [], "two workers": []}
    for _ in range(options.repeat):
        for name, measured in found.items():
            # So that two workers have enough to read, however small the output is.
            reading_back.WORKER_BYTES = size // 2 if name == "two workers" else size << 40
            measured.append(_audit(out, plan))
            print({name: measured[-1]}, flush=True)
    best = {name: min(each, key=lambda one: one["cpu_s"]) for name, each in found.items()}
    return {"parts": options.parts, "output_mb": round(size / 1e6, 1), **best}


def _audit(out: Folder, plan: ManifestPlan) -> dict[str, float]:
    with _read_here() as read, _received() as receipts:
        wall, cpu = time.perf_counter(), _cpu()
        result = audit(out, plan, executor=LocalExecutor([Node(2)]))
        wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    assert len(result.files) == 2 * plan.parts and not result.damaged
    return {
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
        "cpu_ms_a_part": round(1000 * cpu / plan.parts, 2),
        "driver_mb": round(sum(read) / 1e6, 1),
        "receipts_mb": round(sum(receipts) / 1e6, 1),
    }


def _output(place: Path, parts: int, rows: int, dim: int) -> Folder:
    """Published parts, all alike. A file has some 65,000 links at most."""
    out, numbers = Folder.at(str(place / "out")), np.arange(rows)
    photos, people = named("photo", numbers), named("person", numbers // 5)
    tables = made_up_tables(photos, people, 0, dim)
    write_part(out, 0, *tables, {f"frpipe.{name}": value for name, value in HASHES.items()})
    for sub in (IMAGES, FACES):
        folder = Path(out.uri, sub)
        for part in range(1, parts):
            os.link(folder / part_name(0), folder / part_name(part))
    return out


def _plans(place: Path, options: argparse.Namespace) -> dict[str, Any]:
    found = {}
    for kind in ("parquet", "csv"):
        manifest = place / f"manifest.{kind}"
        _write_manifest(manifest, options.rows)
        turns = [_plan(manifest, place / f"{kind}-{turn}") for turn in range(options.repeat)]
        found[kind] = min(turns, key=lambda one: one["cpu_s"])
        print({kind: found[kind]}, flush=True)
    return {"rows": options.rows, **found}


def _plan(manifest: Path, out: Path) -> dict[str, float]:
    lines: list[float] = []
    wall, cpu, own = time.perf_counter(), time.process_time(), time.thread_time()
    draft = Draft.of(str(manifest))
    plan = plan_of(draft, Folder.at(str(out)), _PART_ROWS, say=lambda _: lines.append(time.perf_counter()))
    cpu = time.process_time() - cpu
    return {
        "wall_s": round(time.perf_counter() - wall, 2),
        "cpu_s": round(cpu, 2),
        "main_s": round(time.thread_time() - own, 2),
        "microseconds_a_row": round(1e6 * cpu / plan.rows, 2),
        "first_line_s": round(lines[0] - wall, 1) if lines else 0.0,
        "lines": len(lines),
    }


def _write_manifest(path: Path, rows: int) -> None:
    writer: Any = None
    for start in range(0, rows, _BATCH_ROWS):
        numbers = np.arange(start, min(start + _BATCH_ROWS, rows))
        photos, people = named("photo", numbers), named("person", numbers // 5)
        uris = pc.binary_join_element_wise("s3://photos/2026", people, photos, "/")
        table = pa.table({"image_id": photos, "image_uri": uris, "subject_id": people})
        if writer is None:
            make = pq.ParquetWriter if path.suffix == ".parquet" else pa.csv.CSVWriter
            writer = make(str(path), table.schema)
        writer.write_table(table)
    writer.close()


@contextmanager
def _read_here() -> Iterator[list[int]]:
    """While it lasts, the sizes of files that this process reads; workers count in memory of their own."""
    sizes: list[int] = []
    real = LocalStore.read

    def read(store: LocalStore, name: str) -> bytes:
        data = real(store, name)
        sizes.append(len(data))
        return data

    with mock.patch.object(LocalStore, "read", read):
        yield sizes


@contextmanager
def _received() -> Iterator[list[int]]:
    """While it lasts, the sizes of what workers send back."""
    sizes: list[int] = []
    real = between_processes.unpacked

    def unpacked(data: bytes) -> Any:
        sizes.append(len(data))
        return real(data)

    with mock.patch.object(reading_back, "unpacked", unpacked):
        yield sizes


def _cpu() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    main()
