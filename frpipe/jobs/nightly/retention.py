"""Choose the folders of older nights to remove, and remove each whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

from frpipe.core.counted import counted
from frpipe.core.night_config import NightConfig
from frpipe.io.output import run
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly.drift import window
from frpipe.jobs.nightly.history import Past, strike
from frpipe.jobs.nightly.journal import NIGHT
from frpipe.jobs.nightly.searches import newest_dedup
from frpipe.jobs.nightly.work import Say

_OWN_FOLDERS = ("scan", "enroll", "dedup", "identify", "probes", "drift", "differences")
_OWN_FILES = (run.RUN, NIGHT, run.FILES, run.REPORT, run.REPORT_TEXT, "report.html", run.SUCCESS)


def expired(past: Sequence[Past], tonight: str, config: NightConfig) -> list[Past]:
    """Choose the nights that no rule keeps and nobody needs, oldest first. past: all, also tonight's."""
    rules = config.retention
    if rules.nights is None and rules.days is None:
        return []
    newest = {night.date for night in past[-(rules.nights or 1) :]} if rules.nights else set()
    young = {night.date for night in past if rules.days and _age(night.date, tonight) < rules.days}
    kept = newest | young | {night.date for night in past if night.date >= tonight}
    kept |= _needed(past, kept, config)
    return [night for night in past if night.date not in kept]


def remove(runs: Folder, night: Past, say: Say) -> bool:
    """Remove the folder of a night; False, and nothing is removed, where it holds other files.

    `run.json` goes last, so that a removal that was cut short leaves a night that can be removed.
    """
    names = [entry.name for entry in night.folder.list()]
    foreign = [name for name in names if not _is_own(name)]
    if foreign:
        say(f"the night of {night.date} is kept: it holds {counted(len(foreign), 'files')} of another origin")
        return False
    night.folder.delete(run.SUCCESS)
    night.folder.delete_all(name for name in names if name != run.RUN)
    night.folder.delete(run.RUN)
    if night.folder.is_local:
        # Empty folders, and hidden files of writers that were killed.
        shutil.rmtree(Path(uris.split(night.folder.uri)[1]), ignore_errors=True)
    strike(runs, night.date)
    return True


def _needed(past: Sequence[Past], kept: Iterable[str], config: NightConfig) -> set[str]:
    """Choose the nights that are needed.

    These are the newest finished one, those that the next one compares with, and those that unfinished ones
    began with.
    """
    finished = [night for night in past if night.complete]
    needed = {night.date for night in finished[-1:]}
    needed |= {night.date for night in window(past, config.drift.nights)}
    unfinished = [night for night in past if night.date in kept and not night.complete]
    needed |= {night.base["night"] for night in unfinished if night.base["night"]}
    results = [newest_dedup(past), *(newest_dedup(_before(past, night)) for night in unfinished)]
    return needed | {night.date for night in results if night is not None}


def _before(past: Sequence[Past], night: Past) -> list[Past]:
    return [each for each in past if each.date < night.date]


def _is_own(name: str) -> bool:
    folder, slash, _ = name.partition("/")
    return name in _OWN_FILES or (bool(slash) and folder in _OWN_FOLDERS)


def _age(night: str, tonight: str) -> int:
    return (date.fromisoformat(tonight) - date.fromisoformat(night)).days
