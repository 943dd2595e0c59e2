"""Resources that every step of a night has at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from frpipe.core.night_config import NightConfig
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly.history import Past
from frpipe.jobs.nightly.journal import Facts, NightJournal
from frpipe.runtime.runtime import Runtime

Say = Callable[[str], None]
SCAN, ENROLL, DEDUP, IDENTIFY, PROBES = "scan", "enroll", "dedup", "identify", "probes"
"""Folders of a night; `identify` holds one for each gallery that is searched."""


@dataclass(frozen=True)
class Work:
    """A night under way.

    past: all nights before it, oldest first.  last: the newest of them that has finished.  runtime: keeps the
    Ray that a step has opened open for those that follow.
    """

    config: NightConfig
    journal: NightJournal
    past: Sequence[Past]
    last: Past | None
    runtime: Runtime
    say: Say

    @property
    def folder(self) -> Folder:
        """The folder of tonight."""
        return self.journal.folder

    def before(self, sub: str) -> Folder | None:
        """The same folder of the newest finished night before; None where there is none."""
        return self.last.folder.child(sub) if self.last else None

    def did(self, step: str) -> bool:
        """Whether a step of tonight is finished and had something to do."""
        return "not_done" not in (self.journal.facts(step) or {"not_done": ""})


def nothing_done(why: str) -> Facts:
    """Make the record of a step that had nothing to do."""
    return {"not_done": why}
