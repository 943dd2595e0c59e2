"""All changes to a gallery, in one place: import this module and call its functions."""

from __future__ import annotations

from frpipe.gallery.compact import MOST_SMALL, compact, merge_shards
from frpipe.gallery.delete import Suppressing, adopt_list, clear, delete, obey, rollback
from frpipe.gallery.diff import GalleryDifference, diff
from frpipe.gallery.enroll import enroll, merge
from frpipe.gallery.outcome import Outcome
from frpipe.gallery.verify import GalleryProblem, verify

__all__ = [
    "MOST_SMALL",
    "GalleryDifference",
    "GalleryProblem",
    "Outcome",
    "Suppressing",
    "adopt_list",
    "clear",
    "compact",
    "delete",
    "diff",
    "enroll",
    "merge",
    "merge_shards",
    "obey",
    "rollback",
    "verify",
]
