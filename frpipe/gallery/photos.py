"""Photos of templates, and photos whose outcome a run reports.

The face id `IMAGE_ID#INDEX` names a photo. A template that was derived from several names them in the column
MADE_OF, by digests: 16 hex digits of the photo's id and 8 of its place each, separated by blanks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.distinct import distinct
from frpipe.core.errors import ConfigError
from frpipe.core.text import canonical_text
from frpipe.gallery.packed import hashes
from frpipe.gallery.schema import FACE_ID
from frpipe.io.storage import uri as uris

MADE_OF = "frpipe.made_of"
"""Column that is stored and exported like an attribute, but is none: lists do not show it."""

_FACE_INDEX = "#[0-9]+$"
_LIST = "^[0-9a-f]{24}( [0-9a-f]{24})*$"
_MEMBER = np.dtype([("photo", ">u8"), ("place", ">u4")])
_NOWHERE = np.uint64(0)

Hashes = NDArray[np.uint64]
Mask = NDArray[np.bool_]


def image_ids(face_ids: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Ids of the photos that show some faces; a face id without an index stays as it is."""
    return pc.replace_substring_regex(face_ids, _FACE_INDEX, "")


def place_hashes(places: pa.Array | pa.ChunkedArray) -> Hashes:
    """Hash canonical places: (n,); 0 if a place is null, empty or relative, and so unknown."""
    column = places.combine_chunks() if isinstance(places, pa.ChunkedArray) else places
    known = pc.fill_null(is_absolute(column), False).to_numpy(zero_copy_only=False)
    found = np.full(len(column), _NOWHERE)
    if known.any():
        found[known] = hashes(pa.array([canonical(p) for p in column.filter(pa.array(known)).to_pylist()]))
    return found


def is_absolute(places: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Whether each place is a path from the root or a URI: (n,) bool, null where the place is."""
    return pc.or_(pc.starts_with(places, "/"), pc.match_substring(places, "://"))


def made_of(photos: Hashes, places: Hashes) -> str:
    """Value of the column MADE_OF for a template that was derived from these photos."""
    low = places & np.uint64(0xFFFFFFFF)
    return " ".join(sorted({f"{photo:016x}{place:08x}" for photo, place in zip(photos, low, strict=True)}))


class RunPhotos:
    """Photos whose outcome a run reports, and where they lie. 16 bytes of memory a photo.

    Photos are distinguished by 64 bits of their ids: between ten million and a hundred million, the chance
    that any two are confused is one in 20,000.
    """

    def __init__(self) -> None:
        self._photos: list[Hashes] = []
        self._places: list[Hashes] = []
        self._sample: tuple[str, str] | None = None
        self._sorted = False

    def add(self, ids: pa.Array | pa.ChunkedArray, places: pa.Array | pa.ChunkedArray) -> None:
        """Add photos: their ids, and their places; null if unknown."""
        self._photos.append(hashes(ids))
        self._places.append(place_hashes(places))
        self._sorted = False
        if self._sample is None and len(ids) and self._places[-1][0] != _NOWHERE:
            self._sample = ids[0].as_py(), places[0].as_py()

    def __len__(self) -> int:
        return sum(map(len, self._photos))

    @property
    def hashes(self) -> Hashes:
        """Hashes of the ids of all photos, sorted."""
        self._sort()
        return self._photos[0]

    @property
    def root(self) -> str | None:
        """The folder that the photos' ids are relative to; None where they are not."""
        return root_of(*self._sample) if self._sample else None

    def find(self, photos: Hashes) -> tuple[Mask, Hashes]:
        """For each photo whether the run reports it, and the hash of its place then."""
        self._sort()
        known, places = self._photos[0], self._places[0]
        if not len(known):
            return np.zeros(len(photos), bool), np.full(len(photos), _NOWHERE)
        at = np.minimum(np.searchsorted(known, photos), len(known) - 1)
        return known[at] == photos, places[at]

    def _sort(self) -> None:
        if not self._sorted:
            photos = np.concatenate([np.zeros(0, np.uint64), *self._photos])
            places = np.concatenate([np.zeros(0, np.uint64), *self._places])
            order = np.argsort(photos, kind="stable")
            self._photos, self._places = [photos[order]], [places[order]]
            self._sorted = True


@dataclass(frozen=True, slots=True)
class Told:
    """Rows of a gallery whose photos a run reports.

    rows: (n,) bool.  elsewhere: (n,) bool, those whose photo lay at another place.  photos: hashes of the
    photos of these rows.  lost: (n,) bool, those that were derived from other photos too.
    """

    rows: Mask
    elsewhere: Mask
    photos: Hashes
    lost: Mask


def no_rows(count: int) -> Told:
    """No rows: no run reports any photo."""
    none = np.zeros(count, bool)
    return Told(none, none, np.zeros(0, np.uint64), none)


def told_rows(
    face_ids: pa.StringArray,
    places: pa.StringArray,
    derived: pa.StringArray | None,
    run: RunPhotos,
) -> Told:
    """Find the rows, of some of a gallery, whose photos a run reports.

    derived: the column MADE_OF, None where there is none.
    """
    photos = hashes(image_ids(face_ids))
    rows, now = run.find(photos)
    elsewhere = np.zeros(len(rows), bool)
    some = np.flatnonzero(rows)
    if some.size:
        elsewhere[some] = differ(place_hashes(places.take(pa.array(some))), now[some])
    lost = np.zeros(len(rows), bool)
    found = [distinct(photos[some])]
    for of, members in _members(derived):
        told, now = run.find(members["photo"].astype(np.uint64))
        inside = np.bincount(of[told], minlength=len(rows)) > 0
        rows |= inside
        lost |= inside & (np.bincount(of[~told], minlength=len(rows)) > 0)
        apart = told & differ(members["place"].astype(np.uint64), now & np.uint64(0xFFFFFFFF))
        elsewhere |= np.bincount(of[apart], minlength=len(rows)) > 0
        found.append(distinct(members["photo"][told].astype(np.uint64)))
    return Told(rows, elsewhere, np.concatenate(found), lost)


def photos_of(face_ids: pa.ChunkedArray, derived: pa.ChunkedArray | None, held: Hashes) -> Mask:
    """(n,) bool: whether any photo of each row is among these hashes, which are sorted."""
    rows: Mask = among(hashes(image_ids(face_ids)), held)
    column = derived.combine_chunks() if derived is not None else None
    for of, members in _members(column):
        inside = among(members["photo"].astype(np.uint64), held)
        rows |= np.bincount(of[inside], minlength=len(rows)) > 0
    return rows


def root_of(image_id: str, place: str) -> str | None:
    """The folder that a photo's id is relative to; None where its place does not end in its id."""
    return place[: -len(image_id) - 1] or "/" if place.endswith(f"/{image_id}") else None


def sourced(ids: pa.ChunkedArray, source: str) -> pa.ChunkedArray:
    """Ids of photos or faces, prefixed with `source/`; unchanged where there is no source."""
    return pc.binary_join_element_wise(pa.scalar(f"{source}/"), ids, "") if source else ids


def with_source(table: pa.Table, source: str) -> pa.Table:
    """A templates table whose photo ids are prefixed with `source/`.

    A derived template loses the list of its photos: digests cannot be prefixed.
    """
    if not source:
        return table
    at = table.column_names.index(FACE_ID)
    table = table.set_column(at, table.schema.field(FACE_ID), sourced(table[FACE_ID], source))
    if MADE_OF in table.column_names:
        at = table.column_names.index(MADE_OF)
        table = table.set_column(at, table.schema.field(MADE_OF), pa.nulls(table.num_rows, pa.string()))
    return table


def check_source(source: str) -> None:
    """Raise ConfigError for the name of a source that no id can begin with."""
    if source and (source.strip() != source or source.endswith("/") or not source.isprintable()):
        raise ConfigError("--source is no usable name", "give a word, such as the name of a site")


def members_of(derived: pa.StringArray) -> Iterable[tuple[NDArray[np.int64], Hashes]]:
    """Photos in a column MADE_OF: the row of each, and its hash."""
    for of, members in _members(derived):
        yield of, members["photo"].astype(np.uint64)


def _members(derived: pa.StringArray | None) -> Iterable[tuple[NDArray[np.int64], NDArray[np.void]]]:
    """Iterate over (row, member) pairs of a column MADE_OF; texts that are no such list are skipped."""
    if derived is None:
        return
    rows = np.flatnonzero(pc.fill_null(pc.match_substring_regex(derived, _LIST), False).to_numpy(False))
    if rows.size:
        lists = pc.split_pattern(derived.take(pa.array(rows)), " ")
        counts = pc.list_value_length(lists).to_numpy()
        data = bytes.fromhex("".join(lists.flatten().to_pylist()))
        yield np.repeat(rows, counts), np.frombuffer(data, _MEMBER)


def among(values: Hashes, held: Hashes) -> Mask:
    """(n,) bool: whether each value is among others, which are sorted."""
    if not len(held):
        return np.zeros(len(values), bool)
    at = np.minimum(np.searchsorted(held, values), len(held) - 1)
    return np.asarray(held[at] == values)


def differ(one: Hashes, other: Hashes) -> Mask:
    """Whether two places are both known and differ."""
    return np.asarray((one != other) & (one != _NOWHERE) & (other != _NOWHERE))


def canonical(place: str) -> str:
    """Canonical form of an absolute path or URI, in Unicode NFC, without a look at the file system."""
    scheme, rest = uris.split(canonical_text(place))
    return f"{scheme}://{rest.rstrip('/')}" if scheme else os.path.normpath(rest)
