"""Enroll runs and replays in this process on the tiny models and photos of the fixtures: no Ray."""

from __future__ import annotations

from pathlib import Path

import frozen
import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.config import Config, load_config
from frpipe.core.report import Report
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.enroll.job import Enrollment
from frpipe.jobs.features import stored_settings
from frpipe.jobs.rejects import Choice, stage_reasons
from frpipe.jobs.replay.job import Replay
from frpipe.testing.executors import InThisProcess

HERE = InThisProcess()


def config(*settings: str) -> Config:
    """The settings of the frozen runs, in parts of four photos, and some more. Their photos are drawn."""
    return load_config(None, [*frozen.settings(), "detect.not_photographs=keep", *settings])


def enrolled(manifest: Path, out: Path, *settings: str) -> Report:
    """Enroll, or go on with it."""
    return Enrollment(str(manifest), str(out), config(*settings), HERE).run()


def dry_run(manifest: Path, out: Path, *settings: str) -> DryRun:
    """What would be enrolled, and how."""
    return Enrollment(str(manifest), str(out), config(*settings), HERE).dry_run()


def replayed(source: Path, out: Path, *settings: str) -> Report:
    """Do what is rejected once more."""
    given = load_config(None, [*stored_settings(str(source)), *settings])
    choice = Choice.again(staged=stage_reasons(Folder.at(str(source))))
    return Replay(str(source), choice, str(out), given, HERE).run()


def table(out: Path, name: str) -> pa.Table:
    """All rows of a table of the output."""
    return pq.read_table(out / name)
