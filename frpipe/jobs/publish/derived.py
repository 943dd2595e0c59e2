"""The tables that are derived: people from photos, clusters and members from a result of dedup."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.io.tables.state import NONE, State
from frpipe.io.tables.table import Change, PublishedTable, conformed, edited, unified
from frpipe.jobs.publish.merge import Tally
from frpipe.jobs.publish.rows import plain, with_run, with_texts
from frpipe.jobs.publish.sources import Publication

_PHOTOS = "photos"
_READ = ["source", "subject_id", "recipe", "status", "faces", "as_of", "vanished"]
_KEYS = ["source", "subject_id", "recipe"]
_HELD = 1_000_000
_SUMS = [
    ("photos", "sum"),
    ("photos_ok", "sum"),
    ("faces", "sum"),
    ("first_as_of", "min"),
    ("last_as_of", "max"),
]


def make_people(people: PublishedTable, photos: PublishedTable) -> Tally:
    """Bring `people` up to the newest version of `photos`. After a kill between them the next call does."""
    tally = Tally()

    def change(base: State) -> Change | None:
        tally.clear()
        head = photos.head()
        if head.version in (NONE, base.applied.get(_PHOTOS)):
            return None
        fresh = _people(photos, head)
        schema = unified(base.schema, people.schema)
        written = people.write(schema, [fresh])
        tally.rows, tally.files = len(fresh), len(written)
        tally.bytes = sum(each.bytes for each in written)
        return Change(edited(base, base.files, written, {_PHOTOS: head.version}, schema))

    people.transact(change)
    return tally


def _people(photos: PublishedTable, head: State) -> pa.Table:
    sums = [pa.table({name: pa.array([], pa.string()) for name in _KEYS})]
    held = 0
    for _, table in photos.scan(head, _READ):
        there = pc.and_(pc.is_valid(table["subject_id"]), pc.is_null(table["vanished"]))
        mine = table.filter(there)
        ok = pc.equal(mine["status"], "ok").cast(pa.int64())
        counted = pa.table(
            {
                **{name: mine[name] for name in _KEYS},
                "photos": pa.repeat(pa.scalar(1, pa.int64()), len(mine)),
                "photos_ok": ok,
                "faces": pc.fill_null(mine["faces"].cast(pa.int64()), 0),
                "first_as_of": mine["as_of"],
                "last_as_of": mine["as_of"],
            }
        )
        sums.append(_summed(counted))
        held += len(sums[-1])
        if held > max(_HELD, 2 * len(sums[0])):
            # Summed up as often as the rows double, and not for each file: people are in many files.
            sums = [_summed(pa.concat_tables(sums[1:] if not len(sums[0]) else sums))]
            held = 0
    return sums[0] if len(sums) == 1 else _summed(pa.concat_tables(sums[1:] if not len(sums[0]) else sums))


def _summed(table: pa.Table) -> pa.Table:
    found = table.group_by(_KEYS).aggregate(_SUMS)
    return found.rename_columns({f"{name}_{how}": name for name, how in _SUMS})


def duplicate_rows(
    clusters: pa.Table,
    scope: str,
    publication: Publication,
    recipe: Mapping[str, str | None],
    schemas: tuple[pa.Schema, pa.Schema],
) -> tuple[pa.Table, pa.Table]:
    """Make the rows of `duplicates` and of `duplicate_members`.

    clusters: of a result of dedup.  recipe: the columns that say its recipe.
    """
    columns = {name: plain(clusters[name], name) for name in clusters.column_names}
    members = pa.table({"scope": pa.repeat(scope, len(clusters)), **columns})
    members = with_texts(with_run(members, publication, None), recipe)
    keepers = members.filter(members["keeper"]).select(["cluster_id", "subject_id"])
    grouped = (
        members.group_by(["scope", "cluster_id", "component_id", "weak"])
        .aggregate([("subject_id", "count")])
        .rename_columns({"subject_id_count": "members"})
        .join(keepers, "cluster_id", join_type="left outer")
        .rename_columns({"subject_id": "keeper"})
    )
    found = with_texts(with_run(grouped, publication, None), recipe)
    return conformed(found, schemas[0]), conformed(members, schemas[1])
