"""Move the photos of one source of published tables to another: of a photo of both the later row stands.

`photos` goes first, as it decides, and `runs` last: while it names the source, the move has not ended, and
the next publication ends it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.io.tables.ranges import Wanted
from frpipe.io.tables.state import NONE, State
from frpipe.io.tables.table import Change, PublishedTable, edited
from frpipe.jobs.publish import schema as columns
from frpipe.jobs.publish.derived import make_people
from frpipe.jobs.publish.merge import FACES, ORDER, Barred, Mask, agrees, ranks, stale
from frpipe.jobs.publish.obeyed import kept
from frpipe.jobs.publish.root import Root

_KEYS, _SEARCHED = ["source", "image_id"], ["search", "gallery_id"]
_OF_RUNS = ("source", "probe_source")
Fix = Callable[[pa.Table], tuple[Mask, pa.Table]]
"""Marks the rows of a file that go or change, and makes the rows that are left of all."""


def move_source(root: Root, source: str, target: str) -> int:
    """Move the photos of a source; returns how many rows were moved.

    Killed anywhere, it is completed by the same call.
    """
    photos = root.table(columns.PHOTOS)
    # No list was asked about them by the ids that photos of the other source may have.
    asked = Barred().filtered([target])
    moved = _edited(photos, lambda base: _of_photos(photos, base, source, target), asked)
    for spec in (columns.FACES, columns.REJECTS):
        table = root.table(spec)
        moved += _edited(table, lambda _: _of_dependents(photos, source, target), asked)
    matches = root.table(columns.MATCHES)
    moved += _edited(matches, lambda base: _of_matches(photos, matches, base, source, target), asked)
    make_people(root.table(columns.PEOPLE), photos)
    _edited(root.table(columns.RUNS), lambda _: _of_runs(source, target))
    return moved


def shared_photos(root: Root, source: str, ids: pa.Array | None = None) -> Counter[str]:
    """Count the photos of a source that stand under others, too, by these: with the same id and content.

    ids: of the photos to look at; None: all of the source.
    """
    table = root.table(columns.PHOTOS)
    return table.looked(lambda head: _shared(table, head, source, ids))


def _shared(table: PublishedTable, head: State, source: str, ids: pa.Array | None) -> Counter[str]:
    found = Counter[str]()
    if ids is None:
        ids = _rows_of(table, head, _KEYS, (source,))["image_id"].combine_chunks()
    wanted = Wanted({"image_id": ids})
    beside = [each.filter(pa.array(~_is_of(each, source))) for _, each in table.scan(head, _KEYS, wanted)]
    there = [each["image_id"].filter(pc.is_in(each["image_id"], value_set=ids)) for each in beside]
    twice = pa.chunked_array([c for each in there for c in each.chunks], pa.string()).combine_chunks()
    if not len(twice):
        return found
    names = [*_KEYS, "content_sha256"]
    both = pa.concat_tables(
        each.filter(pc.is_in(each["image_id"], value_set=twice))
        for _, each in table.scan(head, names, Wanted({"image_id": twice}))
    )
    is_own = pa.array(_is_of(both, source))
    mine, others = both.filter(is_own), both.filter(pc.invert(is_own))
    at = pc.index_in(others["image_id"], value_set=mine["image_id"].combine_chunks())
    contents = mine["content_sha256"].combine_chunks().take(at.combine_chunks())
    same = pc.fill_null(pc.equal(contents, others["content_sha256"].combine_chunks()), False)
    return Counter(others["source"].filter(same).to_pylist())


def sources_there(root: Root, names: Collection[str]) -> set[str]:
    """Select the sources that rows of the tables are of.

    A publisher that was killed may have rows in some tables, and none in `runs`.
    """
    told = root.table(columns.RUNS).rows(_OF_RUNS)
    found = {each for column in told.columns for each in column.to_pylist()}
    wanted = Wanted({"source": pa.array(names, pa.string())})
    for spec in (columns.PHOTOS, columns.FACES, columns.REJECTS, columns.MATCHES) if names else ():
        table = root.table(spec)
        for _, rows in table.scan(table.head(), ["source"], wanted):
            found.update(rows["source"].unique().to_pylist())
    return found & {*names}


def _edited(
    table: PublishedTable, made: Callable[[State], Fix], filtered: Mapping[str, int] | None = None
) -> int:
    """Write the files anew that a change concerns; returns how many rows went or changed.

    filtered: as for `kept`.
    """
    count = [0]

    def change(base: State) -> Change | None:
        count[0], gone, fresh = 0, [], []
        fix = made(base)
        for file, found in table.scan(base):
            hit, left = fix(found)
            if hit.any():
                count[0] += int(hit.sum())
                gone.append(file.path)
                fresh += table.write(base.schema, [left])
        return Change(edited(base, gone, fresh, kept(base, filtered or {}))) if gone else None

    if table.head().version != NONE:
        table.transact(change)
    return count[0]


def _of_photos(table: PublishedTable, base: State, source: str, target: str) -> Fix:
    """Of a photo of both sources the row of the later run stands, with the mark of a night after it."""
    names = [*_KEYS, *ORDER, "vanished"]
    both = _in_order(_rows_of(table, base, names, (source, target)), "image_id")
    ids = both["image_id"].combine_chunks()
    at = np.flatnonzero(_mask(pc.equal(ids[1:], ids[:-1]))) if len(both) else np.array([], np.int64)
    losers, stand = both.take(pa.array(at)), both.take(pa.array(at + 1))
    marks: dict[str, date] = {}
    for lost, row in zip(losers.to_pylist(), stand.to_pylist(), strict=True):
        day = row["night"] or row["as_of"].date()
        if lost["vanished"] and not row["vanished"] and lost["vanished"] > day:
            marks[row["image_id"]] = lost["vanished"]
    lost_ids = {
        each: losers.filter(pc.equal(losers["source"], each))["image_id"] for each in (source, target)
    }

    def fix(found: pa.Table) -> tuple[Mask, pa.Table]:
        gone = np.zeros(len(found), bool)
        for each, lost in lost_ids.items():
            gone |= _is_of(found, each) & _mask(pc.is_in(found["image_id"], value_set=lost.combine_chunks()))
        own, left = _is_of(found, source), _moved(found, gone, source, target)
        days = [marks.get(each) for each in left["image_id"].to_pylist()] if marks else [None] * len(left)
        mine = pa.array(_is_of(left, target))
        fixed = _marked(left, pc.if_else(mine, pa.array(days, pa.date32()), pa.scalar(None, pa.date32())))
        return gone | own | _differs(gone, left, fixed), fixed

    return fix


def _of_dependents(photos: PublishedTable, source: str, target: str) -> Fix:
    """A row goes if its photo has a row of another run, and has the mark of its photo.

    That of a photo that is not there stays: another move may have it on its way.
    """
    current = _standing(photos, target)
    ids, marks = current["image_id"].combine_chunks(), current["vanished"].combine_chunks()

    def fix(found: pa.Table) -> tuple[Mask, pa.Table]:
        own = _is_of(found, source)
        known = _mask(pc.is_in(found["image_id"], value_set=ids))
        gone = (own | _is_of(found, target)) & known & ~agrees(found, "run_id", current)
        left = _moved(found, gone, source, target)
        days = marks.take(pc.index_in(left["image_id"], value_set=ids).combine_chunks())
        mine = pa.array(_is_of(left, target))
        fixed = _marked(left, pc.if_else(mine, days, pa.scalar(None, pa.date32())))
        return gone | own | _differs(gone, left, fixed), fixed

    return fix


def _of_matches(photos: PublishedTable, table: PublishedTable, base: State, source: str, target: str) -> Fix:
    """Of two searches for a photo that of the later faces stands, and of the same faces the later one."""
    current = _standing(photos, target)
    both = _rows_of(table, base, [*_KEYS, *_SEARCHED, *ORDER, *FACES], (source, target))
    both = both.filter(pa.array(~stale(both, current)))
    rank = {f"rank {number}": column for number, column in enumerate(ranks(both, current))}
    known = pa.table({"key": _search_key(both), "run_id": both["run_id"], **rank})
    known = known.sort_by([(name, "ascending") for name in rank])
    latest = known.group_by("key", use_threads=False).aggregate([("run_id", "last")])

    def fix(found: pa.Table) -> tuple[Mask, pa.Table]:
        own = _is_of(found, source)
        at = pc.index_in(_search_key(found), value_set=latest["key"].combine_chunks())
        stands = _mask(pc.fill_null(pc.equal(found["run_id"], latest["run_id_last"].take(at)), False))
        gone = (own | _is_of(found, target)) & ~stands
        return gone | own, _moved(found, gone, source, target)

    return fix


def _of_runs(source: str, target: str) -> Fix:
    def fix(found: pa.Table) -> tuple[Mask, pa.Table]:
        hit, left = np.zeros(len(found), bool), found
        for name in (each for each in _OF_RUNS if each in found.column_names):
            own = _mask(pc.fill_null(pc.equal(found[name], source), False))
            hit, left = hit | own, _replaced(left, name, own, target)
        return hit, left

    return fix


def _standing(photos: PublishedTable, source: str) -> pa.Table:
    return _rows_of(photos, photos.head(), [*_KEYS, *ORDER, "vanished"], (source,))


def _rows_of(table: PublishedTable, state: State, names: Sequence[str], sources: tuple[str, ...]) -> pa.Table:
    found = [table.empty(state, names)]
    for _, each in table.scan(state, names):
        mine = np.logical_or.reduce([_is_of(each, source) for source in sources])
        found.append(each.filter(pa.array(mine)))
    return pa.concat_tables(found)


def _in_order(table: pa.Table, *first: str) -> pa.Table:
    """Sort rows as publications are ordered. first: columns that come before."""
    at = table.column_names.index("night")
    filled = table.set_column(at, "night", pc.fill_null(table["night"], date.max))
    keys = [(name, "ascending") for name in (*first, *ORDER)]
    return table.take(pc.sort_indices(filled, sort_keys=keys))


def _search_key(table: pa.Table) -> pa.ChunkedArray:
    texts = [pc.fill_null(table[name], "") for name in (*_SEARCHED, "image_id")]
    return pc.binary_join_element_wise(*texts, "\n")


def _moved(table: pa.Table, gone: Mask, source: str, target: str) -> pa.Table:
    own = _is_of(table, source)
    return _replaced(table, "source", own, target).filter(pa.array(~gone))


def _replaced(table: pa.Table, name: str, where: Mask, value: str) -> pa.Table:
    at = table.column_names.index(name)
    column = pc.if_else(pa.array(where), pa.scalar(value, pa.string()), table[name])
    return table.set_column(at, table.schema.field(at), column)


def _marked(table: pa.Table, days: pa.Array) -> pa.Table:
    """Mark rows as vanished; those without a day stay as they are."""
    at = table.column_names.index("vanished")
    return table.set_column(at, table.schema.field(at), pc.coalesce(days, table["vanished"]))


def _differs(gone: Mask, left: pa.Table, fixed: pa.Table) -> Mask:
    """Mark the rows of a file whose mark has changed. left, fixed: without those that are gone."""
    days = (pc.fill_null(each["vanished"], date.min) for each in (left, fixed))
    hit = np.zeros(len(gone), bool)
    hit[~gone] = _mask(pc.not_equal(*days))
    return hit


def _is_of(table: pa.Table, source: str) -> Mask:
    return _mask(pc.fill_null(pc.equal(table["source"], source), False))


def _mask(column: pa.ChunkedArray | pa.BooleanArray) -> Mask:
    return np.asarray(column, bool)
