"""What the duplicates job refuses, and what it keeps of a run that was begun; no cluster is started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from gallery_rows import ids, people, spec

from frpipe.core.config import ExecutorChoice
from frpipe.core.errors import ConfigError, GalleryError, OutputError, PlanError
from frpipe.core.threshold import ThresholdCard
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dedup.job import Dedup, DedupExecution
from frpipe.jobs.dedup.sheet import check_page
from frpipe.runtime.allocation import Node
from frpipe.runtime.executor import Executor
from frpipe.runtime.local import LocalExecutor
from frpipe.runtime.runtime import Runtime

Meanwhile = Callable[[], object]


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """Sixty people with two templates each."""
    made = Gallery.create(str(tmp_path / "G"), spec())
    lifecycle.enroll(made, [people(ids(60), faces=2)])
    return made


@dataclass(frozen=True)
class TwoCpus(Runtime):
    """Worker processes of a machine of two CPUs; something may happen while they are asked for."""

    choice: ExecutorChoice = "local"
    meanwhile: Meanwhile = lambda: None

    @contextmanager
    def open(self, *, small: bool) -> Iterator[Executor]:
        self.meanwhile()
        yield LocalExecutor(self.nodes(small=small))

    def nodes(self, *, small: bool) -> list[Node]:
        return [Node(2)]


def _job(gallery: Gallery, out: Path, block_rows: int = 40, workers: int | None = None, **more: Any) -> Dedup:
    execution = DedupExecution(block_rows=block_rows, workers=workers)
    asked = {"threshold": 0.5, "runtime": TwoCpus(), **more}
    return Dedup(str(out), gallery=gallery.uri, execution=execution, **asked)


def _begun(out: Path) -> dict[str, Any]:
    return run.begun(Folder.at(str(out)))


def test_of_two_drivers_at_once_the_second_takes_the_blocks_of_the_first(
    gallery: Gallery, tmp_path: Path
) -> None:
    rival = _job(gallery, tmp_path / "R", 13)
    claim = partial(run.claim, Folder.at(rival.output), _identity(gallery), {"block_rows": 13})
    first = TwoCpus(meanwhile=claim)
    found = _job(gallery, tmp_path / "R", 40, runtime=first).run()
    assert found["units"] == len(_job(gallery, tmp_path / "other", 13).plan(Folder.at(rival.output)).units)
    assert _begun(tmp_path / "R")["block_rows"] == 13


def _identity(gallery: Gallery) -> dict[str, Any]:
    return {
        "job": "dedup",
        "schema_version": 1,
        "source": gallery.snapshot(1).id.as_dict(),
        "threshold_similarity": 0.5,
        "kind": "similarity",
        "since": None,
    }


def test_workers_that_fit_nowhere_leave_no_output(gallery: Gallery, tmp_path: Path) -> None:
    for attempt in (Dedup.run, Dedup.dry_run):
        with pytest.raises(PlanError):
            attempt(_job(gallery, tmp_path / "R", workers=9))
    assert not (tmp_path / "R").exists()
    assert "dedup: 2 x (1 CPU)" in _job(gallery, tmp_path / "R").dry_run().text()


def test_a_version_that_was_compacted_away_asks_for_a_new_output(gallery: Gallery, tmp_path: Path) -> None:
    job = _job(gallery, tmp_path / "R")
    run.claim(Folder.at(job.output), _identity(gallery), {"block_rows": 40})
    lifecycle.delete(gallery, ids(1))
    assert job.plan(Folder.at(job.output)).source.version == 1
    lifecycle.compact(gallery)
    with pytest.raises(GalleryError, match="the output was begun with it") as caught:
        job.run()
    assert "new --output" in caught.value.remedy
    assert _job(gallery, tmp_path / "new").run()["source"]["version"] == 3


def test_the_output_of_another_gallery_is_refused_as_such(gallery: Gallery, tmp_path: Path) -> None:
    for number in range(3):
        lifecycle.delete(gallery, ids(1, number))
    _job(gallery, tmp_path / "R").run()
    other = Gallery.create(str(tmp_path / "other"), spec())
    lifecycle.enroll(other, [people(ids(5))])
    with pytest.raises(OutputError, match="is another gallery"):
        _job(other, tmp_path / "R").run()


def test_a_card_for_a_search_is_held_against_the_people_not_their_templates(
    gallery: Gallery, tmp_path: Path
) -> None:
    said: list[str] = []
    facts: dict[str, Any] = {"purpose": "identification", "gallery_subjects": 60, "source": "a test"}
    card = ThresholdCard(
        embedder_hash="e" * 64, kind="distance", value=0.5, created=datetime(2026, 5, 1, tzinfo=UTC), **facts
    )
    _job(gallery, tmp_path / "R", threshold=None, card=card, say=said.append).run()
    assert not [line for line in said if "threshold" in line]


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
