"""Remove suppressed and erased people and photos from published tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.io.tables.state import NONE, State
from frpipe.io.tables.table import Change, PublishedTable, edited
from frpipe.jobs.publish import schema as columns
from frpipe.jobs.publish.derived import make_people
from frpipe.jobs.publish.merge import Barred, Mask, remove_rows
from frpipe.jobs.publish.root import Root

_IDS = ["source", "image_id", "face_id", "subject_id", "content_sha256"]


@dataclass(frozen=True, slots=True)
class Leaving:
    """The people and photos to remove.

    rows: marks the rows of a table that are theirs.  candidates: removes them from the candidates of
    `matches`, and counts the rows that changed.
    """

    rows: Callable[[pa.Table], Mask]
    candidates: Callable[[pa.Table], tuple[pa.Table, int]]


def strike(root: Root, leaving: Leaving, *, barrier: bool = False) -> int:
    """Remove rows from all tables; returns how many. Killed anywhere, it is completed by the same call.

    `photos` loses its rows last, as it alone knows the content of photos. barrier: whether a version of each
    table is committed in any case: a writer that works from an older one has to begin again, without them.
    """
    photos = root.table(columns.PHOTOS)
    theirs = photos_of(photos, leaving)
    gone = gone_with_photos(leaving.rows, theirs)
    count = 0
    # These tables name nobody whom `photos` does not name.
    for spec in (columns.FACES, columns.REJECTS) if theirs or barrier else ():
        count += remove_rows(root.table(spec), _IDS, lambda: gone, barrier=barrier)
    count += _rewrite(root.table(columns.MATCHES), lambda t: _matches(t, gone, leaving), barrier=barrier)
    members = root.table(columns.MEMBERS)
    count += remove_rows(members, [*_IDS, "scope"], lambda: leaving.rows, barrier=barrier)
    _rewrite(root.table(columns.DUPLICATES), lambda t: _clusters(t, members), barrier=barrier)
    count += remove_rows(photos, _IDS, lambda: gone, barrier=barrier)
    make_people(root.table(columns.PEOPLE), photos)
    return count


def obey(root: Root, barred: Barred) -> int:
    """Remove the rows of suppressed people and photos; returns how many."""
    return strike(root, Leaving(barred.mask, barred.candidates)) if barred else 0


def gone_with_photos(
    rows: Callable[[pa.Table], Mask], photos: set[tuple[str, str]]
) -> Callable[[pa.Table], Mask]:
    """Make the function that marks the rows that `rows` marks, and those of photos: by source and id."""

    ids = pa.array({image for _, image in photos}, pa.string())

    def gone(table: pa.Table) -> Mask:
        hit = rows(table)
        if photos and "image_id" in table.column_names:
            # Of these ids few are of another source: pairs are made of them alone.
            at = np.flatnonzero(pc.is_in(table["image_id"], value_set=ids))
            some = table.select(["source", "image_id"]).take(pa.array(at))
            pairs = zip(some["source"].to_pylist(), some["image_id"].to_pylist(), strict=True)
            hit = hit.copy()
            hit[at] |= np.fromiter((each in photos for each in pairs), bool, len(at))
        return hit

    return gone


def photos_of(photos: PublishedTable, leaving: Leaving) -> set[tuple[str, str]]:
    """Collect source and id of the photos that go."""
    found: set[tuple[str, str]] = set()
    head = photos.head()
    if head.version == NONE:
        return found
    for _, table in photos.scan(head, [name for name in _IDS if name in head.schema.names]):
        mine = table.filter(pa.array(leaving.rows(table)))
        found.update(zip(mine["source"].to_pylist(), mine["image_id"].to_pylist(), strict=True))
    return found


def _rewrite(table: PublishedTable, fix: Callable[[pa.Table], tuple[pa.Table, int]], *, barrier: bool) -> int:
    """Rewrite the files of a table that `fix` changes; returns how many rows it changed."""
    counts = [0]

    def change(base: State) -> Change | None:
        counts[0], paths, fresh = 0, [], []
        for file, found in table.scan(base):
            fixed, changed = fix(found)
            if changed:
                counts[0] += changed
                paths.append(file.path)
                fresh += table.write(base.schema, [fixed])
        if not paths and not barrier:
            return None
        return Change(edited(base, paths, fresh))

    if table.head().version != NONE:
        table.transact(change)
    return counts[0]


def _matches(table: pa.Table, gone: Callable[[pa.Table], Mask], leaving: Leaving) -> tuple[pa.Table, int]:
    named = table.rename_columns({"probe_subject_id": "subject_id"}).select(
        ["source", "image_id", "face_id", "subject_id"]
    )
    kept = table.filter(pa.array(~gone(named)))
    fixed, changed = leaving.candidates(kept)
    return fixed, len(table) - len(kept) + changed


def _clusters(table: pa.Table, members: PublishedTable) -> tuple[pa.Table, int]:
    """Recompute clusters from the members that are left; those without any are removed."""
    left = members.rows(["scope", "cluster_id", "subject_id", "keeper"])
    keys = list(zip(left["scope"].to_pylist(), left["cluster_id"].to_pylist(), strict=True))
    keepers = {
        key: who
        for key, who, keeps in zip(
            keys, left["subject_id"].to_pylist(), left["keeper"].to_pylist(), strict=True
        )
        if keeps
    }
    counts, rows = Counter(keys), []
    for row in table.to_pylist():
        key = (row["scope"], row["cluster_id"])
        if counts[key]:
            rows.append({**row, "members": counts[key], "keeper": keepers.get(key)})
    fixed = pa.Table.from_pylist(rows, table.schema)
    return fixed, 0 if fixed.equals(table) else max(1, len(table) - len(fixed))
