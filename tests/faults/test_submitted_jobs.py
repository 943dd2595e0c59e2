"""Every job by `ray job submit` on a cluster of several nodes, of which one is lost midway of bulk jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from clean_runs import Clean
from enrollment import ROOT
from faulty_jobs import Job
from injection import Point
from kill_points import WORKERS, Bench, same
from nights import Place, lfw_people

_DATE = "2026-11-24"


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


@pytest.mark.slow
def test_a_submitted_night_survives_the_loss_of_a_node(bench: Bench, shared: Path, tmp_path: Path) -> None:
    calm = _submitted_night(bench, shared, tmp_path / "calm")
    events = bench.injector.count("worker")
    lost = _submitted_night(bench, shared, tmp_path / "lost", Point("worker", events // 2, "during", "node"))
    assert bench.nodes.alive() == WORKERS, "no node was lost"
    assert lost.content(_DATE) == calm.content(_DATE)
    assert lost.templates() == calm.templates()


def _submitted_night(bench: Bench, shared: Path, root: Path, point: Point | None = None) -> Place:
    place = Place(root)
    for photos in lfw_people(shared, 3)[:8]:
        place.add(photos)
    bench.ready()
    if point:
        bench.injector.arm(point)
    words = place.words(_DATE, settings={"resources": {"part_rows": 3}})
    done = bench.nodes.submit(ROOT, "python", "jobs/nightly.py", *words)
    bench.injector.disarm()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (place.night(_DATE) / "report.html").exists()
    return place
