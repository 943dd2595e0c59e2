"""What becomes of rows that are given to a gallery which may know their subjects already."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.gallery.schema import ENROLLED, FACE_ID, QUALITY, SUBJECT_ID
from frpipe.gallery.spill import Bucket

Policy = Literal["skip", "replace", "append"]
POLICIES: tuple[Policy, ...] = ("skip", "replace", "append")


class Fate(IntEnum):
    """Of one row that was given."""

    ADDED = 0
    REPLACED = 1
    SKIPPED = 2
    UNCHANGED = 3


@dataclass(frozen=True, slots=True)
class Known:
    """Rows of the gallery whose subjects may be in a bucket. vectors: (n, dim) in the stored type."""

    texts: pa.Table
    vectors: NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Verdict:
    """fates: (n,) of the rows of the bucket; kept: those to be written, by key; gone: rows of `Known`."""

    fates: NDArray[np.int8]
    kept: NDArray[np.int64]
    gone: NDArray[np.int64]


def judge(bucket: Bucket, known: Known | None, policy: Policy) -> Verdict:
    """Compare a bucket with what the gallery has of its subjects.

    A row is the same if its vector, photo, quality and attributes are; when it was enrolled does not count.
    """
    unique = sorted_unique(bucket)
    fates = np.full(bucket.texts.num_rows, Fate.SKIPPED, np.int8)
    fates[unique] = Fate.ADDED
    gone = np.zeros(0, np.int64)
    if known is not None and known.texts.num_rows:
        gone = _compared(bucket, known, policy, unique, fates)
    return Verdict(fates, unique[np.isin(fates[unique], (Fate.ADDED, Fate.REPLACED))], gone)


def sorted_unique(bucket: Bucket) -> NDArray[np.int64]:
    """Rows of a bucket in the order of their keys, each key once.

    Of rows with the same key the one enrolled last stays, then the one of best quality, then the one whose
    content is greatest: a choice that the order of the input cannot change.
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
    bucket: Bucket, known: Known, policy: Policy, unique: NDArray[np.int64], fates: NDArray[np.int8]
) -> NDArray[np.int64]:
    """Set the fates of the rows `unique` by what is known; rows of `known` that go."""
    mine, its = _matches(bucket.texts, known.texts, unique)
    same = _same(bucket, known, mine, its)
    subjects = pc.is_in(bucket.texts.column(SUBJECT_ID), value_set=_values(known.texts))
    familiar = unique[subjects.to_numpy()[unique]]
    gone = np.zeros(0, np.int64)
    if policy == "skip":
        fates[familiar] = Fate.SKIPPED
    elif policy == "append":
        fates[mine] = Fate.REPLACED
        gone = its[~same]
    else:
        fates[familiar] = Fate.REPLACED
        named = pc.is_in(known.texts.column(SUBJECT_ID), value_set=_values(bucket.texts)).to_numpy()
        gone = np.setdiff1d(np.flatnonzero(named), its[same])
    fates[mine[same]] = Fate.UNCHANGED
    return gone


def _values(texts: pa.Table) -> pa.Array:
    return pc.unique(texts.column(SUBJECT_ID))


def _matches(
    texts: pa.Table, known: pa.Table, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of both with the same key, pair by pair."""
    where = {key: row for row, key in enumerate(_keys(known))}
    keys = _keys(texts)
    pairs = [(row, where[keys[row]]) for row in rows.tolist() if keys[row] in where]
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _keys(texts: pa.Table) -> list[tuple[str, str]]:
    columns = (texts.column(name).to_pylist() for name in (SUBJECT_ID, FACE_ID))
    return list(zip(*columns, strict=True))


def _same(bucket: Bucket, known: Known, mine: NDArray[np.int64], its: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(len(mine),) whether the contents of two rows are the same; a column that is missing is null."""
    left, right = bucket.texts.take(pa.array(mine)), known.texts.take(pa.array(its))
    same: NDArray[np.bool_] = np.all(bucket.vectors(mine) == known.vectors[its], axis=1)
    for name in {*left.column_names, *right.column_names} - {ENROLLED, SUBJECT_ID, FACE_ID}:
        if name not in left.column_names or name not in right.column_names:
            present = left if name in left.column_names else right
            same &= present.column(name).is_null().to_numpy()
            continue
        a, b = left.column(name), right.column(name)
        equal = pc.fill_null(pc.equal(a, b), False)
        same &= pc.or_(equal, pc.and_(a.is_null(), b.is_null())).to_numpy()
    return same
