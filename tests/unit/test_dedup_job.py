"""What the duplicates job refuses, and what it keeps of a run that was begun; no cluster is started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from gallery_rows import ids, people, spec

from frpipe.core.errors import ConfigError, GalleryError, OutputError, PlanError
from frpipe.core.threshold import ThresholdCard
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dedup import job as dedup
from frpipe.jobs.dedup.job import Dedup, Execution
from frpipe.jobs.dedup.plan import Plan
from frpipe.jobs.dedup.sheet import check_page
from frpipe.runtime.allocation import Node, Pool

Meanwhile = Callable[[], object]


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """Sixty people with two templates each."""
    made = Gallery.create(str(tmp_path / "G"), spec())
    lifecycle.enroll(made, [people(ids(60), faces=2)])
    return made


@pytest.fixture
def carried_out(monkeypatch: pytest.MonkeyPatch) -> Callable[[Meanwhile], None]:
    """In place of a cluster two CPUs, and the size of the blocks in place of the work."""

    def work(plan: Plan, out: Folder, pool: Pool) -> dict[str, Any]:
        return {"block_rows": plan.source.block_rows, "version": plan.source.version, "pool": str(pool)}

    def joined(meanwhile: Meanwhile) -> None:
        @contextmanager
        def cluster(*_: object) -> Iterator[list[Node]]:
            meanwhile()
            yield [Node(2)]

        monkeypatch.setattr(dedup, "cluster", cluster)

    monkeypatch.setattr(Plan, "carry_out", work)
    joined(lambda: None)
    return joined


def _job(gallery: Gallery, out: Path, block_rows: int = 40, workers: int | None = None, **more: Any) -> Dedup:
    execution = Execution(block_rows=block_rows, workers=workers)
    return Dedup(str(out), gallery=gallery.uri, execution=execution, **{"threshold": 0.5, **more})


def test_of_two_drivers_at_once_the_second_takes_the_blocks_of_the_first(
    gallery: Gallery, carried_out: Callable[[Meanwhile], None], tmp_path: Path
) -> None:
    rival = _job(gallery, tmp_path / "R", 13)
    carried_out(lambda: run.claim(Folder.at(rival.output), _identity(gallery), {"block_rows": 13}))
    assert _job(gallery, tmp_path / "R", 40).run()["block_rows"] == 13


def _identity(gallery: Gallery) -> dict[str, Any]:
    return {
        "job": "dedup",
        "schema_version": 1,
        "source": gallery.snapshot(1).id.as_dict(),
        "threshold_similarity": 0.5,
        "kind": "similarity",
        "since": None,
    }


def test_workers_that_fit_nowhere_leave_no_output(
    gallery: Gallery, carried_out: object, tmp_path: Path
) -> None:
    for attempt in (Dedup.run, Dedup.dry_run):
        with pytest.raises(PlanError):
            attempt(_job(gallery, tmp_path / "R", workers=9))
    assert not (tmp_path / "R").exists()
    assert "dedup: 2 x (1 CPU)" in _job(gallery, tmp_path / "R").dry_run().text()


def test_a_version_that_was_compacted_away_asks_for_a_new_output(
    gallery: Gallery, carried_out: object, tmp_path: Path
) -> None:
    assert _job(gallery, tmp_path / "R").run()["version"] == 1
    lifecycle.delete(gallery, ids(1))
    assert _job(gallery, tmp_path / "R").run()["version"] == 1
    lifecycle.compact(gallery)
    with pytest.raises(GalleryError, match="the output was begun with it") as caught:
        _job(gallery, tmp_path / "R").run()
    assert "new --output" in caught.value.remedy
    assert _job(gallery, tmp_path / "new").run()["version"] == 3


def test_the_output_of_another_gallery_is_refused_as_such(
    gallery: Gallery, carried_out: object, tmp_path: Path
) -> None:
    for number in range(3):
        lifecycle.delete(gallery, ids(1, number))
    _job(gallery, tmp_path / "R").run()
    other = Gallery.create(str(tmp_path / "other"), spec())
    lifecycle.enroll(other, [people(ids(5))])
    with pytest.raises(OutputError, match="is another gallery"):
        _job(other, tmp_path / "R").run()


def test_a_card_for_a_search_is_held_against_the_people_not_their_templates(
    gallery: Gallery, carried_out: object, tmp_path: Path
) -> None:
    said: list[str] = []
    facts: dict[str, Any] = {"purpose": "identification", "gallery_subjects": 60, "source": "a test"}
    card = ThresholdCard(
        embedder_hash="e" * 64, kind="distance", value=0.5, created=datetime(2026, 5, 1, tzinfo=UTC), **facts
    )
    _job(gallery, tmp_path / "R", threshold=None, card=card, say=said.append).run()
    assert said == []


@pytest.mark.parametrize("flag", ["gallery", "features", "since"])
def test_in_a_submitted_job_a_relative_place_is_refused(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    places = {"since": {"gallery": "/data/G", "since": "night"}}.get(flag, {flag: "here"})
    with pytest.raises(ConfigError, match=f"relative --{flag}"):
        Dedup(str(tmp_path / "R"), **places).run()
    with pytest.raises(ConfigError, match="relative --sheet"):
        check_page("review.html")
    check_page("/data/review.html")
    check_page("s3://bucket/review.html")
