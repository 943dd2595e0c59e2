"""Take people and photos out of published tables: those who are suppressed, and those who are erased."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from frpipe.io.tables.state import NONE, State
from frpipe.io.tables.table import Change, PublishedTable, edited
from frpipe.jobs.identify.candidates import without_candidates
from frpipe.jobs.publish import schema as columns
from frpipe.jobs.publish.derived import make_people
from frpipe.jobs.publish.merge import Barred, Mask, remove_rows
from frpipe.jobs.publish.root import Root

_IDS = ["source", "image_id", "face_id", "subject_id", "content_sha256"]


@dataclass(frozen=True, slots=True)
class Leaving:
    """Who goes. rows: says which rows of a table are theirs.  people: who of some subjects goes."""

    rows: Callable[[pa.Table], Mask]
    people: Callable[[pa.Array], set[str]]


def strike(root: Root, leaving: Leaving, *, barrier: bool = False) -> int:
    """Remove rows from all tables; how many. Killed anywhere, the same call ends it.

    `photos` is the last that loses rows, as it alone knows the content of photos. barrier: a version of each
    table is committed in any case: who works from an older one has to begin again, and finds them gone.
    """
    photos = root.table(columns.PHOTOS)
    theirs = _photos_of(photos, leaving)

    def gone(table: pa.Table) -> Mask:
        hit = leaving.rows(table)
        if theirs and "image_id" in table.column_names:
            pairs = zip(table["source"].to_pylist(), table["image_id"].to_pylist(), strict=True)
            hit = hit | np.array([each in theirs for each in pairs], bool)
        return hit

    count = 0
    # Rows that stand with those of their photos: `photos` would name whom they name.
    for spec in (columns.FACES, columns.REJECTS) if theirs or barrier else ():
        count += remove_rows(root.table(spec), _IDS, lambda: gone, barrier=barrier)
    count += _rewrite(root.table(columns.MATCHES), lambda t: _matches(t, gone, leaving), barrier=barrier)
    members = root.table(columns.MEMBERS)
    count += remove_rows(members, _IDS, lambda: leaving.rows, barrier=barrier)
    _rewrite(root.table(columns.DUPLICATES), lambda t: _clusters(t, members), barrier=barrier)
    count += remove_rows(photos, _IDS, lambda: gone, barrier=barrier)
    make_people(root.table(columns.PEOPLE), photos)
    return count


def obey(root: Root, barred: Barred) -> int:
    """Remove the rows of suppressed people and photos; how many."""

    return strike(root, Leaving(barred.mask, barred.people)) if barred.list else 0


def _photos_of(photos: PublishedTable, leaving: Leaving) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    head = photos.head()
    if head.version == NONE:
        return found
    for _, table in photos.scan(head, [name for name in _IDS if name in head.schema.names]):
        mine = table.filter(pa.array(leaving.rows(table)))
        found.update(zip(mine["source"].to_pylist(), mine["image_id"].to_pylist(), strict=True))
    return found


def _rewrite(table: PublishedTable, fix: Callable[[pa.Table], tuple[pa.Table, int]], *, barrier: bool) -> int:
    """Rewrite the files of a table that `fix` changes; how many rows it changed."""
    counts = [0]

    def change(base: State) -> Change | None:
        counts[0], paths, tables = 0, [], []
        for file, found in table.scan(base):
            fixed, changed = fix(found)
            if changed:
                counts[0] += changed
                paths.append(file.path)
                tables.append(fixed)
        if not paths and not barrier:
            return None
        return Change(edited(base, paths, table.write(base.schema, tables)))

    if table.head().version != NONE:
        table.transact(change)
    return counts[0]


def _matches(table: pa.Table, gone: Callable[[pa.Table], Mask], leaving: Leaving) -> tuple[pa.Table, int]:
    named = table.rename_columns({"probe_subject_id": "subject_id"}).select(
        ["source", "image_id", "face_id", "subject_id"]
    )
    kept = table.filter(pa.array(~gone(named)))
    fixed, changed = without_candidates(kept, leaving.people)
    return fixed, len(table) - len(kept) + changed


def _clusters(table: pa.Table, members: PublishedTable) -> tuple[pa.Table, int]:
    """Clusters with the members that are left; those without any go."""
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
