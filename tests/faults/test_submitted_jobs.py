"""Every job by `ray job submit` on a cluster of several nodes, of which one is lost midway of bulk jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from clean_runs import Clean
from enrollment import ROOT
from faulty_jobs import Job
from injection import Point
from kill_points import WORKERS, Bench, same


@pytest.mark.slow
@pytest.mark.parametrize("name", ["enroll", "consolidate", "identify", "dedup", "verify", "metrics"])
def test_a_submitted_job_survives_the_loss_of_a_node(
    name: str, bench: Bench, clean: Clean, disturbed: dict[str, Job], tmp_path: Path
) -> None:
    job, output = disturbed[name], tmp_path / "out"
    events = clean.events(name)["worker"]
    bench.ready()
    if events:
        bench.injector.arm(Point("worker", events // 2, "during", "node"))
    words = ("python", *job.command(output)[1:])
    done = bench.nodes.submit(ROOT, *words)
    bench.injector.disarm()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    if events:
        assert bench.injector.count("worker") >= events // 2, "no node was lost"
        assert bench.nodes.alive() == WORKERS, "no node was lost"
        assert bench.injector.redone() <= WORKERS
    job.check(output)
    same(job.content(output), job.content(clean.output(name)))
