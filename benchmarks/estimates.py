"""What the dry runs of identify and dedup estimate, against the jobs that follow.

    python benchmarks/estimates.py

Vectors are synthetic. Each job runs in a process of its own, which forks as many workers as the estimate
is for, however few CPUs there are. So its time is what the driver and the busiest worker take of a CPU, one
after the other, as if each had one. Memory is the peak of all processes, shared pages divided among those
that share them. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from cpu_time import measure
from machine import machine
from match_data import DIM, Floats, names, probes_of, unit_vectors
from match_job import features_of
from match_memory import HASH
from node_cache import Processes

from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import vector_array
from frpipe.gallery.spec import GallerySpec
from frpipe.jobs.dedup.job import Dedup, DedupExecution
from frpipe.jobs.dedup.worker import Deduplicator
from frpipe.jobs.estimate import SCALES
from frpipe.jobs.identify.job import Identifying, SearchExecution
from frpipe.jobs.identify.worker import Searcher
from frpipe.runtime.runtime import Runtime

_THRESHOLD = 0.5
# Peaks of short jobs are short.
_LOOK_S = 0.03


def main() -> None:
    options = _parser().parse_args()
    if options.child:
        _child(options)
        return
    report: dict[str, Any] = {"bench": "estimates", "machine": machine()}
    with tempfile.TemporaryDirectory(prefix="frpipe-bench-") as name:
        place = Path(name)
        vectors = unit_vectors(max(options.people, options.pairs_of))
        people, pairs = (
            _gallery(place / f"G-{rows}", vectors[:rows], options.shard)
            for rows in (options.people, options.pairs_of)
        )
        for probes in options.probes:
            features_of(place / f"probes-{probes}", probes_of(vectors, probes))
            report[f"identify, {probes} probes"] = _each(options, place, people, str(probes))
        report["dedup"] = _each(options, place, pairs, "dedup")
    print(json.dumps(report))


def _each(options: argparse.Namespace, place: Path, gallery: str, what: str) -> dict[str, Any]:
    found = {f"{workers} workers": _run(options, place, gallery, what, workers) for workers in SCALES}
    print(json.dumps({what: found}, indent=1), file=sys.stderr, flush=True)
    return found


def _run(options: argparse.Namespace, place: Path, gallery: str, what: str, workers: int) -> dict[str, Any]:
    """Estimates and figures of one job: seconds, MB, and figure / estimate."""
    answer = place / "answer.json"
    words = ["--child", what, "--workers", str(workers), "--place", str(place), "--gallery", gallery]
    words += ["--kernel", options.kernel, "--shard", str(options.shard)]
    usage = measure([sys.executable, __file__, *words], {"OMP_NUM_THREADS": "1"}, pss_every_s=_LOOK_S)
    found: dict[str, Any] = json.loads(answer.read_text())
    found["mb"] = round(usage.pss_mb)
    for figure, estimate in (("work_s", "estimate_s"), ("job_s", "estimate_s"), ("mb", "estimate_mb")):
        found[f"{figure.split('_')[0]}_ratio"] = round(found[figure] / found[estimate], 2)
    return found


def _child(options: argparse.Namespace) -> None:
    """Estimate a job, do it, and write down what both say."""
    place, workers = options.place, options.workers
    log = place / "log"
    log.write_text("")
    _logging(Searcher, log)
    _logging(Deduplicator, log)
    job = _job(options, Processes(cpus=workers), str(place / f"out-{options.child}-{workers}"))
    facts = job.dry_run().facts
    (estimate,) = (each for each in facts["estimate"]["scales"] if each["workers"] == workers)
    start = time.process_time()
    job.run()
    driver_s = time.process_time() - start
    # What a worker wrote last is all that it has taken.
    busy = {pid: float(seconds) for pid, seconds in map(str.split, log.read_text().splitlines())}
    found = {
        "kernel": facts["kernel"],
        "units": facts["units"],
        "estimate_s": round(estimate["seconds"], 2),
        "work_s": round(max(busy.values()), 2),
        "job_s": round(driver_s + max(busy.values()), 2),
        "estimate_mb": round(estimate["memory_mb"]),
    }
    (place / "answer.json").write_text(json.dumps(found))


def _job(options: argparse.Namespace, runtime: Runtime, output: str) -> Identifying | Dedup:
    if options.child == "dedup":
        how = DedupExecution(kernel=options.kernel, block_rows=options.shard, forms=False)
        return Dedup(output, gallery=options.gallery, threshold=_THRESHOLD, execution=how, runtime=runtime)
    execution = SearchExecution(kernel=options.kernel, forms=False)
    probes = str(options.place / f"probes-{options.child}")
    return Identifying(
        probes, options.gallery, output, threshold=_THRESHOLD, execution=execution, runtime=runtime
    )


def _logging(worker: type[Any], log: Path) -> None:
    """Have workers write down, after each unit, what they have taken of a CPU since they were forked."""
    work = worker.__call__

    def logged(self: Any, table: pa.Table) -> Any:
        done = work(self, table)
        with log.open("a") as file:
            file.write(f"{os.getpid()} {time.process_time()}\n")
        return done

    worker.__call__ = logged  # type: ignore[method-assign]


def _gallery(place: Path, vectors: Floats, shard: int) -> str:
    made = Gallery.create(str(place), GallerySpec(DIM, HASH, HASH, HASH, rows_per_shard=shard))
    lifecycle.enroll(made, _tables(names(len(vectors)), vectors, shard))
    return made.uri


def _tables(ids: pa.StringArray, vectors: Floats, shard: int) -> Iterator[pa.Table]:
    for start in range(0, len(ids), shard):
        some = ids.slice(start, shard)
        rows = vector_array(vectors[start : start + shard])
        yield pa.table({"subject_id": some, "face_id": some, "embedding": rows})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--people", type=int, default=100_000, metavar="N", help="templates that identify searches")
    add("--probes", type=int, nargs="+", default=[1000, 10_000], metavar="N")
    add("--pairs-of", type=int, default=40_960, metavar="N", help="templates of the dedup")
    add("--shard", type=int, default=8192, metavar="N", help="templates of a shard, and of a block")
    add("--kernel", default="auto", help="(default: %(default)s)")
    add("--workers", type=int, help=argparse.SUPPRESS)
    add("--child", help=argparse.SUPPRESS)
    add("--place", type=Path, help=argparse.SUPPRESS)
    add("--gallery", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
