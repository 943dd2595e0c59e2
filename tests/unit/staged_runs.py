"""Enroll runs and replays in this process on the tiny models and photos of the fixtures: no Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import frozen
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frpipe.core.config import Config, load_config
from frpipe.core.report import Report
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.enroll import job as enroll_job
from frpipe.jobs.enroll.job import Enrollment
from frpipe.jobs.rejects.choice import Choice, stage_reasons
from frpipe.jobs.replay import job as replay_job
from frpipe.jobs.replay.job import Replay
from frpipe.jobs.replay.source import stored_settings
from frpipe.runtime.allocation import Node
from frpipe.stages import workers
from frpipe.stages.run_spec import RunSpec


def config(*settings: str) -> Config:
    """The settings of the frozen runs, in parts of four photos, and some more. Their photos are drawn."""
    return load_config(None, [*frozen.settings(), "detect.not_photographs=keep", *settings])


def enrolled(manifest: Path, out: Path, *settings: str) -> Report:
    """Enroll, or go on with it."""
    with _alone():
        return Enrollment(str(manifest), str(out), config(*settings)).run()


def dry_run(manifest: Path, out: Path, *settings: str) -> DryRun:
    """What would be enrolled, and how."""
    with _alone():
        return Enrollment(str(manifest), str(out), config(*settings)).dry_run()


def replayed(source: Path, out: Path, *settings: str) -> Report:
    """Do what is rejected once more."""
    given = load_config(None, [*stored_settings(str(source)), *settings])
    choice = Choice.again(staged=stage_reasons(Folder.at(str(source))))
    with _alone():
        return Replay(str(source), choice, str(out), given).run()


def table(out: Path, name: str) -> pa.Table:
    """All rows of a table of the output."""
    return pq.read_table(out / name)


@contextmanager
def _alone() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (enroll_job, replay_job):
            patch.setattr(module, "cluster", _one_node)
        patch.setattr(enroll_job, "stream", _one_by_one)
        yield


@contextmanager
def _one_node(*_: object) -> Iterator[list[Node]]:
    yield [Node(2.0)]


def _one_by_one(spec: RunSpec, parts: Sequence[int], *_: object) -> Iterator[dict[str, int]]:
    worker = workers.Enroll(spec)
    for part in parts:
        yield worker(pa.table({"part": [part]})).to_pylist()[0]
