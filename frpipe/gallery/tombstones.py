"""Rows of immutable shards out of sight: a new list of deleted rows beside the old file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from frpipe.gallery.catalog import ShardRef
from frpipe.gallery.shard_store import ShardStore
from frpipe.gallery.snapshot import Snapshot


def hide_rows(
    snapshot: Snapshot, shard_store: ShardStore, gone: Mapping[str, NDArray[np.int64]]
) -> list[ShardRef]:
    """The shards of a snapshot with more rows deleted. gone: live row numbers, by the shard's name.

    A shard of which nothing is left is left out.
    """
    shards = []
    for ref in snapshot.version.shards:
        rows = gone.get(ref.name)
        if rows is None or not len(rows):
            shards.append(ref)
        elif len(rows) < ref.live_rows:
            hidden = np.union1d(snapshot.deleted_rows(ref), rows)
            shards.append(replace(ref, deleted=shard_store.write_deleted(hidden)))
    return shards
