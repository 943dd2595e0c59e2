"""Choose the face of a photo that agrees with the person's other photos, where that is not the rule's.

Each photo of a person begins with its face by the rule (`frpipe.stages.subject_face`). A face is as like the
person's other photos as the mean of its similarities to the faces that these have now. On each turn that face
is taken, of all on the person's photos, which is more like the other photos than the face that its photo has,
by most; until none is, by more than 1e-9. Each photo then has the face that is most like those of the other
photos of its person, and these faces agree with each other at least as the rule's do.

Of equal gains the photo first by id comes first, and on it the rule's face, then the better scored. Nothing
depends on the order of photos or parts. A person of one photo keeps the rule's face.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.counted import counted
from frpipe.gallery.photos import image_ids
from frpipe.gallery.schema import FACE_ID, SUBJECT_ID, vectors_of
from frpipe.io.output.parts import to_parquet
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.jobs.subject_faces import BY_RULE

DIFFERENCES = pa.schema(
    [(name, pa.string()) for name in ("subject_id", "image_id", "face_id", "rule_face_id")]
)
"""A photo whose face is not the rule's: the face that was taken, and the rule's."""
_SHOWN = 100
_DIGITS = 9
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The counts of faces that agree and are not the rule's.

    photos: with several faces, of known people.  alone: those of them whose person has no other photo.
    differing: those whose face is not the rule's, of so many `people`.  shown: the first of them by ids.
    """

    photos: int
    alone: int
    differing: int
    people: int
    shown: tuple[dict[str, str], ...] = ()

    def lines(self) -> Iterator[str]:
        """Lines for people, without ids."""
        yield (
            f"agreeing   {counted(self.photos, 'photos')} with several faces: {self.differing:,} with "
            f"another face than the rule's, of {counted(self.people, 'people')}"
        )
        if self.alone:
            yield f"           {self.alone:,} of them: their person's only photo, which keeps the rule's face"


class AgreeingFaces:
    """Choose among the faces of photos, and count where the rule chooses otherwise.

    told: gets the differences, table by table, in the columns of DIFFERENCES.
    """

    def __init__(self, told: Callable[[pa.Table], None] | None = None) -> None:
        self._told = told
        self._photos = self._alone = self._differing = self._people = 0
        self._shown: list[tuple[str, ...]] = []

    @property
    def found(self) -> Agreement:
        """The counts so far."""
        shown = tuple(dict(zip(DIFFERENCES.names, row, strict=True)) for row in self._shown)
        return Agreement(self._photos, self._alone, self._differing, self._people, shown)

    def add(self, other: AgreeingFaces) -> None:
        """Take over the counts of another, of other people."""
        self._photos += other._photos
        self._alone += other._alone
        self._differing += other._differing
        self._people += other._people
        self._shown = heapq.nsmallest(_SHOWN, (*self._shown, *other._shown))

    def of(self, table: pa.Table) -> pa.Table:
        """Choose one template of each photo.

        table: of all faces of the photos of its people, all of each person, with the column BY_RULE, which
        the result has no more.
        """
        people, photos, table = _sorted(table)
        rule = table[BY_RULE].is_valid().to_numpy()
        taken = rule.copy()
        vectors = vectors_of(table)
        edges = np.searchsorted(people, np.arange(people[-1] + 2)) if len(people) else np.zeros(1, np.int64)
        for first, last in self._open(edges, photos):
            own = _chosen(
                vectors[first:last], photos[first:last], rule[first:last], _indices(table, first, last)
            )
            taken[first:last] = own
            self._people += bool((own != rule[first:last]).any())
        self._tell(table, photos, rule, taken)
        return table.filter(pa.array(taken)).drop_columns([BY_RULE])

    def _open(self, edges: Ints, photos: Ints) -> Iterator[tuple[int, int]]:
        """Iterate over the rows of each person with another photo beside one of several faces."""
        for first, last in pairwise(edges.tolist()):
            faces = np.bincount(photos[first:last] - photos[first])
            several = int(np.count_nonzero(faces > 1))
            self._photos += several
            if several and len(faces) > 1:
                yield first, last
            else:
                self._alone += several

    def _tell(self, table: pa.Table, photos: Ints, rule: NDArray[np.bool_], taken: NDArray[np.bool_]) -> None:
        now, before = np.flatnonzero(taken & ~rule), np.flatnonzero(rule & ~taken)
        if not len(now):
            return
        faces = table[FACE_ID].take(pa.array(now))
        columns = [table[SUBJECT_ID].take(pa.array(now)), image_ids(faces), faces]
        rows = pa.table([*columns, table[FACE_ID].take(pa.array(before))], schema=DIFFERENCES)
        self._differing += rows.num_rows
        texts = zip(*(column.to_pylist() for column in rows.columns), strict=True)
        self._shown = heapq.nsmallest(_SHOWN, (*self._shown, *texts))
        if self._told is not None:
            self._told(rows)


def _sorted(table: pa.Table) -> tuple[Ints, Ints, pa.Table]:
    """Sort rows by person and photo; (rows,) numbers of both, ascending, and the rows."""
    table = table.append_column("photo", image_ids(table[FACE_ID]))
    keys = [(name, "ascending") for name in (SUBJECT_ID, "photo", FACE_ID)]
    table = table.sort_by(keys).combine_chunks()
    people = _changes(table[SUBJECT_ID])
    photos = np.cumsum(_changes(table["photo"]) | people) - 1
    return np.cumsum(people) - 1, photos, table.drop_columns(["photo"])


def _changes(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Mark, (n,), where another value begins in a sorted column."""
    codes = pc.dictionary_encode(column).combine_chunks().indices.to_numpy()
    return np.asarray(np.diff(codes, prepend=-1) != 0)


def _indices(table: pa.Table, first: int, last: int) -> Ints:
    """The face indices of some rows: 0 is the face that the detector scored best."""
    found = [face.rpartition("#")[2] for face in table[FACE_ID].slice(first, last - first).to_pylist()]
    return np.array(found, np.int64)


def _chosen(
    vectors: NDArray[np.float32], photos: Ints, rule: NDArray[np.bool_], indices: Ints
) -> NDArray[np.bool_]:
    """Mark, (faces,) bool, the face of each photo of one person that is taken.

    vectors: (faces, dim) of unit length.  photos: ascending.  rule: the face of each photo that it takes.
    """
    photos = photos - photos[0]
    count = int(photos[-1]) + 1
    open_faces = np.flatnonzero((np.bincount(photos) > 1)[photos])
    wide, of_photo = vectors[open_faces].astype(np.float64), photos[open_faces]
    now = np.flatnonzero(rule[open_faces])
    # By photo, where in `wide` its face is.
    place = np.zeros(count, np.int64)
    place[of_photo[now]] = now
    to_all = wide @ vectors[rule].sum(axis=0, dtype=np.float64)
    to_own = np.einsum("ij,ij->i", wide, wide[place[of_photo]])
    while True:
        to_others = to_all - to_own
        gains = np.round((to_others - to_others[place[of_photo]]) / (count - 1), _DIGITS)
        if (most := gains.max()) <= 0:
            break
        equal = np.flatnonzero(gains == most)
        ranks = np.lexsort((indices[open_faces[equal]], ~rule[open_faces[equal]], of_photo[equal]))
        best = int(equal[ranks[0]])
        photo = of_photo[best]
        to_all += wide @ (wide[best] - wide[place[photo]])
        place[photo], beside = best, slice(*np.searchsorted(of_photo, (photo, photo + 1)))
        to_own[beside] = wide[beside] @ wide[best]
    chosen = rule.copy()
    chosen[open_faces] = False
    chosen[open_faces[place[np.unique(of_photo)]]] = True
    return chosen


def write_differences(uri: str, tables: Iterable[pa.Table]) -> None:
    """Write differences to a Parquet file, local or remote, in the order of their ids."""
    folder, name = uris.parent(uris.canonical(uri))
    table = pa.concat_tables([DIFFERENCES.empty_table(), *tables])
    table = table.sort_by([(column, "ascending") for column in DIFFERENCES.names])
    Folder.at(folder).write(name, to_parquet(table, {"frpipe.job": "consolidate"}))
