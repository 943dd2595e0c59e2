"""Find new faces that fit their person badly: unlike all their other faces, or like another person's."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.distinct import without
from frpipe.core.errors import GalleryError
from frpipe.gallery.schema import EMBEDDING, FACE_ID, SUBJECT_ID, vectors_of
from frpipe.gallery.snapshot import Snapshot

Floats = NDArray[np.float32]
Kind = Literal["unlike_own", "like_another"]
# About twenty seconds on two cores: 1,000 new faces of 512 numbers against two million templates.
MAX_OPERATIONS = 2 * 10**12
DOUBTED = ("unlike_own", "like_another", "not_compared_with_others")
"""Names of the counts in an enrolment's log entry."""
_SHOWN = 20
_BLOCK_ROWS, _PIECE_ROWS = 2048, 8192
# People with up to this many templates are compared by shifts of one sorted array, others one by one.
_FEW = 16


@dataclass(frozen=True, slots=True)
class Likeness:
    """Rule for doubting a new face. threshold: similarity of one person.  strict: refuse the change then.

    fmr: how often two strangers reach the threshold, if that is known.  told: is called with the doubts
    before the change is committed or refused, and again if another writer was first.
    """

    threshold: float
    strict: bool = False
    fmr: float | None = None
    told: Callable[[Doubts], None] | None = None


@dataclass(frozen=True, slots=True)
class Doubt:
    """A doubted new face, and the template most like it, of its own person or of another."""

    kind: Kind
    subject_id: str
    face_id: str
    similarity: float
    other_subject_id: str
    other_face_id: str


@dataclass(frozen=True, slots=True)
class Doubts:
    """Doubts about the new faces of a change. unlike_own, like_another: how many; shown: the worst of each.

    like_another is None if that was not examined: see `MAX_OPERATIONS`.  comparisons: with templates of other
    people.
    """

    threshold: float
    new: int
    unlike_own: int
    like_another: int | None
    comparisons: int
    by_chance: float | None
    shown: tuple[Doubt, ...]

    def counts(self) -> dict[str, int]:
        """Counts, for the receipt."""
        found = {"unlike_own": self.unlike_own, "like_another": self.like_another or 0}
        return found if self.like_another is not None else {**found, "not_compared_with_others": self.new}


@dataclass(slots=True)
class Examination:
    """Examination of the new faces of one change, collected person by person.

    most: greatest number of templates afterwards. New faces are held as long as they can be compared with all
    others: by MAX_OPERATIONS that is at most 90 MB of 512 numbers.
    """

    likeness: Likeness
    dim: int
    most: int
    new: int = 0
    _unlike: int = 0
    _worst: list[tuple[float, int, Doubt]] = field(default_factory=list)
    _held: list[pa.Table] | None = field(default_factory=list)

    def take(self, new: pa.Table, others: pa.Table) -> None:
        """Add new rows of people, with all other rows that they will have.

        Columns: the key and `embedding`.
        """
        if not new.num_rows:
            return
        self.new += new.num_rows
        self._own(new, others)
        if self._held is not None and 2 * self.dim * self.new * self.most <= MAX_OPERATIONS:
            self._held.append(new)
        else:
            self._held = None

    def add(self, other: Examination) -> None:
        """Take over what another of the same change has collected, after what this one has."""
        found = [*self._worst, *((key, at - self._unlike, doubt) for key, at, doubt in other._worst)]
        self._worst = heapq.nlargest(_SHOWN, found, key=lambda entry: entry[:2])
        heapq.heapify(self._worst)
        self.new += other.new
        self._unlike += other._unlike
        few = 2 * self.dim * self.new * self.most <= MAX_OPERATIONS
        both = self._held is not None and other._held is not None and few
        self._held = [*(self._held or ()), *(other._held or ())] if both else None

    def end(self, snapshot: Snapshot, gone: Mapping[str, NDArray[np.int64]]) -> Doubts:
        """Compare with everybody else. gone: rows of the snapshot that this change hides.

        Raises GalleryError where the likeness is strict and a face is doubted.
        """
        likeness, comparisons = self.likeness, 0
        found: list[Doubt] | None = None
        if self._held is not None:
            search = _Search(self._held, likeness.threshold)
            for block in _others(snapshot, gone, search) if self._held else ():
                comparisons += search.against(block)
            found = search.doubts()
        worst = heapq.nlargest(_SHOWN, found or [], key=lambda doubt: (doubt.similarity, doubt.face_id))
        chance = likeness.fmr * comparisons if likeness.fmr is not None else None
        shown = (*(doubt for _, _, doubt in sorted(self._worst, reverse=True)), *worst)
        doubts = Doubts(
            likeness.threshold,
            self.new,
            self._unlike,
            None if found is None else len(found),
            comparisons,
            chance,
            shown,
        )
        if likeness.told is not None:
            likeness.told(doubts)
        if likeness.strict:
            _refuse(doubts)
        return doubts

    def _own(self, new: pa.Table, others: pa.Table) -> None:
        table = pa.concat_tables([new, others]).combine_chunks()
        codes = pc.dictionary_encode(table[SUBJECT_ID]).combine_chunks().indices.to_numpy()
        vectors = vectors_of(table)
        best, at = nearest_own(codes, vectors)
        unlike = np.flatnonzero((at >= 0) & (best < self.likeness.threshold))
        unlike = unlike[unlike < new.num_rows]
        self._unlike += len(unlike)
        subjects, faces = table[SUBJECT_ID], table[FACE_ID]
        for n, row in enumerate(unlike[np.argsort(best[unlike], kind="stable")][:_SHOWN].tolist()):
            one, other = subjects[row].as_py(), int(at[row])
            doubt = Doubt(
                "unlike_own",
                one,
                faces[row].as_py(),
                float(best[row]),
                subjects[other].as_py(),
                faces[other].as_py(),
            )
            # No two doubts have one number: of equals the first is shown.
            heapq.heappush(self._worst, (-doubt.similarity, len(unlike) - self._unlike - n, doubt))
            if len(self._worst) > _SHOWN:
                heapq.heappop(self._worst)


def nearest_own(codes: NDArray[np.integer[Any]], vectors: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Nearest other row with the same code: best similarity and row number; -2 and -1 if there is none.

    codes: (n,) from 0 up.  vectors: (n, dim) unit vectors.
    """
    order = np.argsort(codes, kind="stable")
    ordered, counts = codes[order], np.bincount(codes)
    best, at = np.full(len(codes), -2, np.float32), np.full(len(codes), -1, np.int64)
    few = counts[ordered] <= _FEW
    for shift in range(1, min(_FEW, int(counts.max(initial=0)))):
        pairs = np.flatnonzero(few[:-shift] & (ordered[:-shift] == ordered[shift:]))
        for start in range(0, len(pairs), _BLOCK_ROWS):
            one, other = (
                order[pairs[start : start + _BLOCK_ROWS]],
                order[pairs[start : start + _BLOCK_ROWS] + shift],
            )
            values = np.einsum("ij,ij->i", vectors[one], vectors[other])
            for a, b in ((one, other), (other, one)):
                better = values > best[a]
                best[a[better]], at[a[better]] = values[better], b[better]
    starts = np.cumsum(counts) - counts
    for code in np.flatnonzero(counts > _FEW).tolist():
        rows = order[starts[code] : starts[code] + counts[code]]
        for begin in range(0, len(rows), _BLOCK_ROWS):
            some = np.arange(begin, min(begin + _BLOCK_ROWS, len(rows)))
            scores = vectors[rows[some]] @ vectors[rows].T
            scores[np.arange(len(some)), some] = -2
            nearest = scores.argmax(axis=1)
            best[rows[some]], at[rows[some]] = scores[np.arange(len(some)), nearest], rows[nearest]
    return best, at


class _Search:
    """Search for the nearest template of another person, for each new face, that reaches the threshold."""

    def __init__(self, held: Sequence[pa.Table], threshold: float) -> None:
        self.table = pa.concat_tables(held).combine_chunks() if held else None
        self.threshold = threshold
        if self.table is not None:
            self._vectors = vectors_of(self.table)
            self._subjects = np.array(self.table[SUBJECT_ID].to_pylist(), object)
        self._best: dict[int, tuple[float, str, str]] = {}

    def against(self, block: pa.Table) -> int:
        """Compare all new faces with some templates; returns the number of comparisons."""
        theirs, subjects, faces = vectors_of(block), block[SUBJECT_ID], block[FACE_ID]
        for start in range(0, len(self._vectors), _BLOCK_ROWS):
            scores = self._vectors[start : start + _BLOCK_ROWS] @ theirs.T
            rows, columns = np.nonzero(scores >= self.threshold)
            if not len(rows):
                continue
            other = np.array(subjects.take(pa.array(columns)).to_pylist(), object)
            strange = np.flatnonzero(self._subjects[rows + start] != other)
            order = strange[np.lexsort((-scores[rows[strange], columns[strange]], rows[strange]))]
            _, first = np.unique(rows[order], return_index=True)
            for each in order[first].tolist():
                row, column = int(rows[each]) + start, int(columns[each])
                value = float(scores[rows[each], column])
                if row not in self._best or value > self._best[row][0]:
                    self._best[row] = value, subjects[column].as_py(), faces[column].as_py()
        return len(self._vectors) * len(theirs)

    def doubts(self) -> list[Doubt]:
        """Doubts about every new face that is like another person's."""
        if self.table is None:
            return []
        subjects, faces = self.table[SUBJECT_ID], self.table[FACE_ID]
        return [
            Doubt("like_another", subjects[row].as_py(), faces[row].as_py(), *found)
            for row, found in sorted(self._best.items())
        ]


def _others(snapshot: Snapshot, gone: Mapping[str, NDArray[np.int64]], search: _Search) -> Iterable[pa.Table]:
    """Iterate, in pieces, over all templates after the change: those that stay, then the new ones."""
    for ref in snapshot.version.shards:
        live = snapshot.live_rows(ref)
        rows = np.arange(ref.rows) if live is None else live
        rows = without(rows, gone[ref.name]) if ref.name in gone else rows
        if rows.size:
            yield from _pieces(snapshot.table_of(ref, [SUBJECT_ID, FACE_ID, EMBEDDING], rows, vectors=True))
    if search.table is not None:
        yield from _pieces(search.table)


def _pieces(table: pa.Table) -> Iterable[pa.Table]:
    return (table.slice(start, _PIECE_ROWS) for start in range(0, table.num_rows, _PIECE_ROWS))


def _refuse(doubts: Doubts) -> None:
    if doubts.like_another is None:
        raise GalleryError(
            f"{doubts.new:,} new faces are too many to be compared with everybody, as --strict asks",
            "enroll them in smaller runs, or leave --strict out; nothing was written",
        )
    if doubts.unlike_own or doubts.like_another:
        raise DoubtError(doubts)


class DoubtError(GalleryError):
    """Error: a change was refused because new faces are doubted. doubts: which."""

    code = "gallery_doubt"

    def __init__(self, doubts: Doubts) -> None:
        super().__init__(
            f"new faces do not fit: {doubts.unlike_own:,} unlike all others of their person, "
            f"{doubts.like_another or 0:,} as like somebody else's; nothing was written",
            "look at these photos; without --strict they are enrolled and listed",
        )
        self.doubts = doubts
