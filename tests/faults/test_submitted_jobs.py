"""Every job by `ray job submit` on a cluster of several nodes, of which one is lost midway of bulk jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from clean_runs import Clean
from enrollment import ROOT
from faulty_jobs import Job
from injection import Point
from kill_points import WORKERS, Bench, same
from nights import Place
from real_photos import people_with

_FIRST, _SECOND = "2026-11-24", "2026-11-25"


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
    calm = _two_nights(bench, shared, tmp_path / "calm")
    events = bench.injector.count("worker")
    lost = _two_nights(bench, shared, tmp_path / "lost", Point("worker", events // 2, "during", "node"))
    assert bench.nodes.alive() == WORKERS, "no node was lost"
    assert lost.content(_SECOND) == calm.content(_SECOND)
    assert lost.templates() == calm.templates()


def _two_nights(bench: Bench, shared: Path, root: Path, point: Point | None = None) -> Place:
    """point: in the second, which has a gallery to search."""
    place, people = Place(root), people_with(3, shared / "data/lfw/images")[:8]
    for photos in people:
        place.add(photos[:1])
    bench.ready()
    _submitted(bench, place, _FIRST)
    for photos in people:
        place.add(photos[1:])
    bench.ready()
    if point:
        bench.injector.arm(point)
    _submitted(bench, place, _SECOND)
    bench.injector.disarm()
    return place


def _submitted(bench: Bench, place: Place, date: str) -> None:
    words = place.words(date, settings={"resources": {"part_rows": 3}})
    done = bench.nodes.submit(ROOT, "python", "jobs/nightly.py", *words)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert (place.night(date) / "report.html").exists()
