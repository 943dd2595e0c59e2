"""The one way to change a gallery: from the head to the next version, or start again. See ADR 8."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from frpipe.core.errors import GalleryConflict
from frpipe.gallery.catalog import Entry, Purged, ShardRef, Version
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.snapshot import Snapshot

_TRIES = 100
_LONGEST_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class Proposal:
    """The next version: its shards, and its line in the log. purging: older versions go with it."""

    shards: list[ShardRef]
    entry: Entry
    purging: bool = False


def transact(gallery: Gallery, change: Callable[[Snapshot], Proposal | None]) -> Version:
    """Apply a change to the newest version and commit what it proposes; the version that then holds.

    `change` is called again, with the newer version, each time that another writer was first, or a compaction
    has removed what it was reading or writing. None means that nothing has to be done. Raises GalleryConflict
    when others were first a hundred times.
    """
    for attempt in range(_TRIES):
        snapshot = gallery.snapshot()
        try:
            proposal = change(snapshot)
        except Purged:
            continue
        if proposal is None:
            return snapshot.version
        following = snapshot.version.followed_by(proposal.shards, proposal.entry, purging=proposal.purging)
        following = replace(following, suppressed=gallery.suppressions.documents())
        if gallery.catalog.commit(following):
            return following
        time.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, 0.002 * 2 ** min(attempt, 10))))
    raise GalleryConflict(
        f"other writers changed the gallery first, {_TRIES} times", "run again when it is less busy"
    )
