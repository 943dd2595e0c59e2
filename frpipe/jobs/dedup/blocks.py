"""Find the pairs of similar templates in two blocks: tables in, rows of the result out; free of Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from frpipe.core.counted import counted
from frpipe.core.errors import OutputError
from frpipe.io.storage.whole_file import batches
from frpipe.jobs.dedup.schema import PAIR_SCHEMA, SAME_PERSON, SAME_PHOTO
from frpipe.matching.kernel import Floats, Indices, Kernel
from frpipe.matching.pairs import Pairs, pairs_between, pairs_within
from frpipe.matching.sieve import Ready

Mask = NDArray[np.bool_]

# Measured with SFace on LFW: of 3,192 pairs of different photos of one person none is above 0.925; the four
# pairs of one photo under two names, cut and saved differently, lie from 0.954 to 0.991.
NEAR_IDENTICAL = 0.95


@dataclass(frozen=True, slots=True)
class Block:
    """A block of templates.

    rows: subject_id, face_id, image_uri; photo, a digest of the photo's bytes, or null; face_index, which of
    that photo's faces it is, or null.  vectors: (n, dim) float32, unit length.  fresh: (n,), False for
    templates whose pairs with each other are known already.  ready: the rows in the form of the kernel, where
    it is stored.
    """

    rows: pa.Table
    vectors: Floats
    fresh: Mask
    ready: Ready | None = None

    def rows_of(self, rows: Indices) -> tuple[Floats, Ready | None]:
        """Select the vectors of some rows, and their stored form."""
        if len(rows) == len(self.vectors):
            return self.vectors, self.ready
        return self.vectors[rows], None if self.ready is None else self.ready.taken(rows)


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule of a pair. threshold: a similarity.  most: pairs of one unit, beyond which the job ends."""

    threshold: float
    most: int


@dataclass(slots=True)
class Counts:
    """Counts of a unit: comparisons, pairs kept by kind, and pairs left out."""

    compared: int = 0
    same_photo: int = 0
    same_person: int = 0
    same_subject: int = 0
    same_image: int = 0

    @property
    def pairs(self) -> int:
        """The number of rows of the result."""
        return self.same_photo + self.same_person

    def merge(self, other: Counts) -> None:
        """Add the counts of another unit."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    def metadata(self) -> dict[str, str]:
        """The counts as metadata of a Parquet file."""
        return {f"frpipe.{name}": str(value) for name, value in asdict(self).items()}

    @classmethod
    def of(cls, table: pa.Table) -> Counts:
        """Read the counts of a table written with `metadata`. Raises OutputError: it was not."""
        found = table.schema.metadata or {}
        try:
            return cls(**{name: int(found[f"frpipe.{name}".encode()]) for name in asdict(cls())})
        except (KeyError, ValueError):
            raise OutputError("a file of pairs has no counts", "use another output folder") from None

    @classmethod
    def of_file(cls, data: bytes) -> Counts:
        """Read the counts of a file of pairs, and every page of it, as `of`."""
        deque(batches(data), maxlen=0)
        return cls.of(pq.read_schema(pa.BufferReader(data)).empty_table())


def too_many(most: int) -> OutputError:
    """Make the error for more pairs than the operator allows."""
    return OutputError(
        f"more than {counted(most, 'pairs')} reach the threshold",
        "raise --threshold: duplicates are few, and a threshold for one-to-one comparison lets strangers "
        "through at this size; or allow more with --max-pairs",
    )


def alike(a: Block, b: Block | None, rule: Rule, kernel: Kernel) -> tuple[pa.Table, Counts]:
    """Find the pairs of two blocks, or within one, with at least one fresh template, in the order of ids.

    Pairs of one subject, and of two faces of one photo, are left out.
    Raises OutputError: there are more than `rule.most`.
    """
    other = a if b is None else b
    who, counts = _Who.of(a.rows, other.rows), Counts()
    kept: list[Pairs] = []
    for piece in _pieces(a, b):
        counts.compared += piece.products
        for pairs in piece.pairs(a, other, rule.threshold, kernel):
            kept.append(who.kept(pairs, counts))
            if counts.pairs > rule.most:
                raise too_many(rule.most)
    return _table(a.rows, other.rows, kept, who), counts


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of the pairs: rows of one block against rows of the other, or each pair within one once."""

    left: Indices
    right: Indices | None

    @property
    def products(self) -> int:
        rows = len(self.left)
        return rows * (rows - 1) // 2 if self.right is None else rows * len(self.right)

    def pairs(self, a: Block, b: Block, threshold: float, kernel: Kernel) -> Iterator[Pairs]:
        """Find pairs, numbered by the rows of the whole blocks."""
        left, left_ready = a.rows_of(self.left)
        if self.right is None:
            found = pairs_within(left, threshold, kernel, ready=left_ready)
            return (Pairs(self.left[p.a], self.left[p.b], p.similarity) for p in found)
        right, right_ready = b.rows_of(self.right)
        if len(left) <= len(right):
            found = pairs_between(left, right, threshold, kernel, ready=right_ready)
            return (Pairs(self.left[p.a], self.right[p.b], p.similarity) for p in found)
        # A probe costs more than a row to bring into the form of a kernel: the smaller side is probes.
        found = pairs_between(right, left, threshold, kernel, ready=left_ready)
        return (Pairs(self.left[p.b], self.right[p.a], p.similarity) for p in found)


def _pieces(a: Block, b: Block | None) -> list[_Piece]:
    """The parts to compare: all pairs but those of two old rows, which are known already."""
    fresh, old = np.flatnonzero(a.fresh), np.flatnonzero(~a.fresh)
    if b is None:
        return [_Piece(fresh, None), _Piece(fresh, old)]
    return [_Piece(fresh, np.arange(len(b.fresh))), _Piece(old, np.flatnonzero(b.fresh))]


@dataclass(frozen=True, slots=True)
class _Who:
    """Numbers of subjects and photos in both blocks, equal where the subjects or photos are.

    An unknown photo has a negative number.
    """

    subject: tuple[Indices, Indices]
    photo: tuple[Indices, Indices]
    face: tuple[Indices, Indices]

    @classmethod
    def of(cls, a: pa.Table, b: pa.Table) -> _Who:
        faces = (table["face_index"].fill_null(0).to_numpy().astype(np.int64) for table in (a, b))
        one, other = faces
        return cls(_codes(a, b, "subject_id"), _codes(a, b, "photo"), (one, other))

    def kept(self, pairs: Pairs, counts: Counts) -> Pairs:
        """Select the pairs that belong to the result, and count all."""
        same_subject = self.subject[0][pairs.a] == self.subject[1][pairs.b]
        copies = self.of_one_photo(pairs)
        same_image = copies & (self.face[0][pairs.a] != self.face[1][pairs.b]) & ~same_subject
        rows = np.flatnonzero(~same_subject & ~same_image)
        kept = Pairs(pairs.a[rows], pairs.b[rows], pairs.similarity[rows])
        photos = int(self.same_photo(kept).sum())
        counts.merge(Counts(0, photos, len(rows) - photos, int(same_subject.sum()), int(same_image.sum())))
        return kept

    def of_one_photo(self, pairs: Pairs) -> Mask:
        """Mark the pairs whose photos have the same bytes."""
        photo = self.photo[0][pairs.a]
        same: Mask = (photo == self.photo[1][pairs.b]) & (photo >= 0)
        return same

    def same_photo(self, pairs: Pairs) -> Mask:
        """Mark the pairs of one photo: of the same bytes, or at least NEAR_IDENTICAL."""
        same: Mask = self.of_one_photo(pairs) | (pairs.similarity >= NEAR_IDENTICAL)
        return same


def _codes(a: pa.Table, b: pa.Table, name: str) -> tuple[Indices, Indices]:
    both = pa.chunked_array([*a[name].chunks, *b[name].chunks], pa.string()).combine_chunks()
    codes = pc.fill_null(pc.dictionary_encode(both).indices, -1).to_numpy().astype(np.int64)
    return codes[: a.num_rows], codes[a.num_rows :]


def _table(a: pa.Table, b: pa.Table, parts: list[Pairs], who: _Who) -> pa.Table:
    none = np.zeros(0, np.int64)
    pairs = Pairs(
        np.concatenate([none, *(part.a for part in parts)]),
        np.concatenate([none, *(part.b for part in parts)]),
        np.concatenate([none.astype(float), *(part.similarity for part in parts)]),
    )
    one, other = a.take(pa.array(pairs.a)), b.take(pa.array(pairs.b))
    swapped = pc.greater(one["subject_id"], other["subject_id"])
    columns = {"similarity": pa.array(pairs.similarity), "distance": pa.array(1 - pairs.similarity)}
    columns["kind"] = pa.array(np.where(who.same_photo(pairs), SAME_PHOTO, SAME_PERSON), pa.string())
    for side, (yes, no) in {"a": (other, one), "b": (one, other)}.items():
        for column, name in (("subject", "subject_id"), ("face", "face_id"), ("image_uri", "image_uri")):
            columns[f"{column}_{side}"] = pc.if_else(swapped, yes[name], no[name])
    table = pa.table({name: columns[name] for name in PAIR_SCHEMA.names}).cast(PAIR_SCHEMA)
    return table.sort_by([(name, "ascending") for name in PAIR_SCHEMA.names[:4]])
