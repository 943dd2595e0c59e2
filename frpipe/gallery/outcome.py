"""Outcome of a change to a gallery."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from frpipe.gallery.likeness import Doubts


@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts of templates that a change concerned, and the version that holds the result.

    Of an enroll: added + replaced + skipped + unchanged + suppressed = rows given; a row whose key came twice
    in the same call counts as skipped, one that the suppression list names as suppressed. `deleted` counts
    older templates that are no longer visible: those that were replaced, and those that were superseded,
    because their photo has become something else. `incomplete` are superseded templates that were derived
    from other photos too, which were not given again. Of a rollback, `suppressed` counts templates of the
    older version that stay out of sight. `subjects` are the people whom a delete or clear took away,
    `unknown` ids that were not there. `version` is the head where nothing had to be done.  doubts: of the new
    faces; None where they were not looked at.  kept_until: of a compaction with a grace time, when the last
    of what it has left is due (ISO, UTC); empty where nothing is.
    """

    version: int
    added: int = 0
    replaced: int = 0
    skipped: int = 0
    unchanged: int = 0
    deleted: int = 0
    subjects: int = 0
    unknown: int = 0
    suppressed: int = 0
    shards: int = 0
    superseded: int = 0
    incomplete: int = 0
    doubts: Doubts | None = None
    kept_until: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON form of the outcome."""
        return asdict(self)
