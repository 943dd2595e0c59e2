"""Whose templates a change takes out of sight, as the log says it: by digest."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from frpipe.gallery.catalog import ShardRef, subject_digest
from frpipe.gallery.schema import SUBJECT_ID
from frpipe.gallery.snapshot import Snapshot


def gone_digests(gallery_id: str, snapshot: Snapshot, after: Iterable[ShardRef]) -> set[str]:
    """Digests of the subjects of whom a row in sight in the snapshot is not in sight in the shards `after`.

    Reads the ids of the shards that differ. A row is told by its shard and number, so a shard that was
    rewritten counts as gone whole.
    """
    later = {ref.name: ref for ref in after}
    digests: set[str] = set()
    for ref in snapshot.version.shards:
        now = later.get(ref.name)
        if now == ref:
            continue
        hidden = np.arange(ref.rows) if now is None else snapshot.deleted_rows(now)
        rows = np.setdiff1d(hidden, snapshot.deleted_rows(ref))
        if rows.size:
            subjects = snapshot.open(ref, vectors=False).text(SUBJECT_ID).take(pa.array(rows))
            digests.update(subject_digest(gallery_id, subject) for subject in subjects.unique().to_pylist())
    return digests
