"""Decide what happens to given rows whose subjects the gallery may have already."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.distinct import merged, without
from frpipe.gallery.external_sort import Bucket
from frpipe.gallery.photos import MADE_OF, Hashes, differ, is_absolute, photos_of, place_hashes
from frpipe.gallery.schema import ENROLLED, FACE_ID, QUALITY, SUBJECT_ID, URI

Policy = Literal["skip", "replace", "append"]
POLICIES: tuple[Policy, ...] = ("skip", "replace", "append")
SAME_FACE = 0.999
"""Least similarity of two vectors of one face on one photo, computed on different machines."""


class Fate(IntEnum):
    """What happens to a given row."""

    ADDED = 0
    REPLACED = 1
    SKIPPED = 2
    UNCHANGED = 3


@dataclass(frozen=True, slots=True)
class Known:
    """Rows of the gallery whose subjects may be in a bucket. vectors: (n, dim) in the stored type.

    told: (n,) bool, whether the run reports the row's photo.  elsewhere: (n,) bool, those whose photo lay at
    another place.
    """

    texts: pa.Table
    vectors: NDArray[np.floating]
    told: NDArray[np.bool_]
    elsewhere: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RowFates:
    """Decision on the rows of a bucket.

    fates: (n,) of its rows.  kept: rows to be written, by key.  gone: rows of `Known`.

    superseded: those of `gone` whose photo the run reports without giving them.  apart: rows of `Known` whose
    photo came from another place with another face, or none.
    """

    fates: NDArray[np.int8]
    kept: NDArray[np.int64]
    gone: NDArray[np.int64]
    superseded: NDArray[np.int64]
    apart: NDArray[np.int64]


_NONE = np.zeros(0, np.int64)


def judge(bucket: Bucket, known: Known | None, policy: Policy, held: Hashes | None = None) -> RowFates:
    """Compare a bucket with the gallery's rows of its subjects.

    A row is the same if its vector, photo, quality and attributes are; the time of enrolment does not count.
    A row of `known` whose photo the run reports is removed, under every policy, unless it is given anew.
    held: hashes of the photos that the gallery has templates of, sorted: their rows are not skipped.
    """
    if not bucket.parts:
        told = _NONE if known is None else np.flatnonzero(known.told)
        apart = told if known is None else np.flatnonzero(known.elsewhere)
        return RowFates(np.zeros(0, np.int8), _NONE, told, told, apart)
    unique = sorted_unique(bucket)
    fates = np.full(bucket.texts.num_rows, Fate.SKIPPED, np.int8)
    fates[unique] = Fate.ADDED
    gone = superseded = apart = _NONE
    if known is not None and known.texts.num_rows:
        gone, superseded, apart = _compared(bucket, known, policy, held, fates)
    kept = unique[np.isin(fates[unique], (Fate.ADDED, Fate.REPLACED))]
    return RowFates(fates, kept, gone, superseded, apart)


def sorted_unique(bucket: Bucket) -> NDArray[np.int64]:
    """Rows of a bucket in the order of their keys, each key once.

    Of rows with the same key the one enrolled last is kept, then the one of best quality, then the one with
    the greatest content: a choice that does not depend on the order of the input.
    """
    keys = [(SUBJECT_ID, "ascending"), (FACE_ID, "ascending")]
    order: NDArray[np.int64] = pc.sort_indices(bucket.texts, sort_keys=keys).to_numpy().astype(np.int64)
    same = _repeats(bucket.texts.select([SUBJECT_ID, FACE_ID]).take(pa.array(order)))
    if not same.any():
        return order
    chosen: NDArray[np.int64] = order.copy()
    starts = np.flatnonzero(~same)
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        if end - start > 1:
            chosen[start] = max(order[start:end], key=lambda row: _rank(bucket, int(row)))
    return np.asarray(chosen[starts])


def _repeats(keys: pa.Table) -> NDArray[np.bool_]:
    same = np.zeros(keys.num_rows, bool)
    if keys.num_rows > 1:
        equal = [pc.equal(c.slice(1), c.slice(0, keys.num_rows - 1)) for c in keys.combine_chunks().columns]
        same[1:] = pc.and_(*equal).to_numpy()
    return same


def _rank(bucket: Bucket, row: int) -> tuple[Any, ...]:
    values: dict[str, Any] = bucket.texts.slice(row, 1).to_pylist()[0]
    quality = values.pop(QUALITY)
    facts = (values.pop(ENROLLED), -1.0 if quality is None else quality)
    content = bucket.vectors(np.array([row])).tobytes()
    return (*facts, content, sorted((key, value) for key, value in values.items() if value is not None))


def _compared(
    bucket: Bucket,
    known: Known,
    policy: Policy,
    held: Hashes | None,
    fates: NDArray[np.int8],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Set the fates of rows that are ADDED so far; returns the rows of `known` as in `RowFates`."""
    unique = np.flatnonzero(fates == Fate.ADDED)
    mine, its, twins = _matches(bucket.texts, known.texts, unique)
    same = _same(bucket, known, mine, its)
    left = without(np.flatnonzero(known.told), its)
    here = known.texts.column(SUBJECT_ID)
    if policy == "skip":
        # A person of whom only the given rows would be left counts as not there.
        here = here.take(pa.array(without(np.arange(len(here)), left)))
    subjects = pc.is_in(bucket.texts.column(SUBJECT_ID), value_set=pc.unique(here))
    familiar = unique[subjects.to_numpy()[unique]]
    if policy == "skip":
        taken = _taken(bucket, known, mine, its, held)
        fates[familiar[~taken[familiar]]] = Fate.SKIPPED
        fates[mine[same]] = Fate.UNCHANGED
        chosen = taken[mine]
        mine, its, same = mine[chosen], its[chosen], same[chosen]
        fates[mine] = Fate.REPLACED
        gone = merged(its[~same], _of_keys(known.texts, twins, its))
    elif policy == "append":
        fates[mine] = Fate.REPLACED
        gone = merged(its[~same], twins)
    else:
        fates[familiar] = Fate.REPLACED
        named = pc.is_in(known.texts.column(SUBJECT_ID), value_set=_values(bucket.texts)).to_numpy()
        gone = without(np.flatnonzero(named), its[same])
    fates[mine[same]] = Fate.UNCHANGED
    apart = np.concatenate([_apart(bucket, known, mine, its, same), left[known.elsewhere[left]]])
    return merged(gone, left), left, apart


def _taken(
    bucket: Bucket, known: Known, mine: NDArray[np.int64], its: NDArray[np.int64], held: Hashes | None
) -> NDArray[np.bool_]:
    """Rows that `skip` accepts for people already there, those of photos already there: (rows,) bool.

    It also accepts a derived template whose list of photos the gallery lacks.
    """
    column = bucket.texts.column(MADE_OF) if MADE_OF in bucket.texts.column_names else None
    taken = photos_of(bucket.texts.column(FACE_ID), column, np.zeros(0, np.uint64) if held is None else held)
    if column is not None:
        old = known.texts.column(MADE_OF) if MADE_OF in known.texts.column_names else None
        unsaid = np.ones(len(its), bool) if old is None else old.is_null().to_numpy()[its]
        taken[mine[column.is_valid().to_numpy()[mine] & unsaid]] = True
    return taken


def _apart(
    bucket: Bucket,
    known: Known,
    mine: NDArray[np.int64],
    its: NDArray[np.int64],
    same: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Rows of `its` that come from another place, and show another face, than the rows of `mine`."""
    mine, its = mine[~same], its[~same]
    left, right = bucket.vectors(mine).astype(np.float32), known.vectors[its].astype(np.float32)
    other = np.einsum("ij,ij->i", left, right) < SAME_FACE
    new, old = (table.take(pa.array(rows)) for table, rows in ((bucket.texts, mine), (known.texts, its)))
    elsewhere = known.elsewhere[its] | differ(place_hashes(new[URI]), place_hashes(old[URI]))
    if MADE_OF in new.column_names and MADE_OF in old.column_names:
        # The face id of a derived template is made from its photos' ids: only their places can differ.
        others = pc.fill_null(pc.not_equal(new[MADE_OF], old[MADE_OF]), False).to_numpy()
        elsewhere |= others & ~known.told[its]
    return np.asarray(its[other & elsewhere])


def _values(texts: pa.Table) -> pa.Array:
    return pc.unique(texts.column(SUBJECT_ID))


def _matches(
    texts: pa.Table, known: pa.Table, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of rows of both tables with the same key, and further rows of `known` with such a key.

    The latter come from a gallery that stores one key in several Unicode forms.
    """
    theirs = _keys(known)
    where = {key: row for row, key in enumerate(theirs)}
    keys = _keys(texts)
    pairs = [(row, where[keys[row]]) for row in rows.tolist() if keys[row] in where]
    both = np.array(pairs, np.int64).reshape(-1, 2)
    twins: list[int] = []
    if len(where) < len(theirs):
        given = {keys[row] for row, _ in pairs}
        twins = [row for row, key in enumerate(theirs) if where[key] != row and key in given]
    return both[:, 0], both[:, 1], np.array(twins, np.int64)


def _of_keys(known: pa.Table, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of some rows whose keys other rows have too."""
    if not len(rows):
        return rows
    keys = set(_keys(known.take(pa.array(others))))
    found = [row for row, key in zip(rows, _keys(known.take(pa.array(rows))), strict=True) if key in keys]
    return np.array(found, np.int64)


def _keys(texts: pa.Table) -> list[tuple[str, str]]:
    columns = (texts.column(name).to_pylist() for name in (SUBJECT_ID, FACE_ID))
    return list(zip(*columns, strict=True))


def _same(bucket: Bucket, known: Known, mine: NDArray[np.int64], its: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the contents of two rows are the same: (len(mine),); a missing column counts as null."""
    left, right = bucket.texts.take(pa.array(mine)), known.texts.take(pa.array(its))
    same: NDArray[np.bool_] = np.all(bucket.vectors(mine) == known.vectors[its], axis=1)
    for name in {*left.column_names, *right.column_names} - {ENROLLED, SUBJECT_ID, FACE_ID}:
        if name not in left.column_names or name not in right.column_names:
            present = left if name in left.column_names else right
            same &= present.column(name).is_null().to_numpy()
            continue
        a, b = left.column(name), right.column(name)
        equal = pc.fill_null(pc.equal(a, b), False)
        both = pc.or_(equal, pc.and_(a.is_null(), b.is_null())).to_numpy()
        same &= both | _same_place(a, b) if name == URI else both
    return same


def _same_place(new: pa.ChunkedArray, old: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Whether an older address is relative, as in manifests, and the new one ends in it: (n,)."""
    found = np.zeros(len(new), bool)
    for row in np.flatnonzero(pc.fill_null(pc.invert(is_absolute(old)), False).to_numpy()):
        relative = os.path.normpath(old[int(row)].as_py())
        found[row] = (new[int(row)].as_py() or "").endswith(f"/{relative}")
    return found
