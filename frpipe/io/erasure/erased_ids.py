"""Keyed digests of the ids of people to be erased: what is looked for, and what a receipt may hold.

A digest is of the id in Unicode NFC, so that all rows go whose ids look the same. One that was recorded
before ids were brought to NFC may be of another form: rows are looked for by their ids as they are, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.text import canonical_text
from frpipe.core.text_column import canonical_column
from frpipe.io.manifest.columns import ID, SUBJECT


def subject_digest(key: str, subject_id: str) -> str:
    """The digest that stands for a person's id: 32 hex digits. key: up to 64 ASCII characters, of the run."""
    return _digest(canonical_text(subject_id), key, b"subject")


def image_digest(key: str, image_id: str) -> str:
    """The digest of a photo's id, as `subject_digest`: the same text gives another digest."""
    return _digest(canonical_text(image_id), key, b"image")


@dataclass(frozen=True, slots=True)
class ErasedIds:
    """Digests of the ids of persons and photos, under one key. The rows that bear one of them are erased.

    told: ids by their digests, of those that were given as texts: to compare a text costs a hundredth of a
    digest. It decides nothing, and is stored nowhere.
    """

    key: str
    subjects: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    told: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, key: str, subjects: Iterable[str], images: Iterable[str]) -> ErasedIds:
        """Digest the ids of some persons and photos."""
        people = {subject_digest(key, each): canonical_text(each) for each in subjects}
        photos = {image_digest(key, each): canonical_text(each) for each in images}
        return cls(key, frozenset(people), frozenset(photos), {**people, **photos})

    def __or__(self, other: ErasedIds) -> ErasedIds:
        told = {**self.told, **other.told}
        return ErasedIds(self.key, self.subjects | other.subjects, self.images | other.images, told)

    def __and__(self, other: ErasedIds) -> ErasedIds:
        told = {**self.told, **other.told}
        return ErasedIds(self.key, self.subjects & other.subjects, self.images & other.images, told)

    def __sub__(self, other: ErasedIds) -> ErasedIds:
        return ErasedIds(self.key, self.subjects - other.subjects, self.images - other.images, self.told)

    def __len__(self) -> int:
        return len(self.subjects) + len(self.images)

    def mask(self, table: pa.Table) -> np.ndarray:
        """Mark the rows of these people, (rows,) bool. table: with `image_id` and `subject_id`, or one."""
        hit = np.zeros(table.num_rows, bool)
        for name, wanted, digest in self._columns(table):
            hit |= self._holds(table[name], wanted, digest)
        return hit

    def among(self, table: pa.Table) -> ErasedIds:
        """Reduce the ids to those that a table names."""
        found = {
            name: set().union(*(_digests(value, digest) & wanted for value in _distinct(table[name])))
            for name, wanted, digest in self._columns(table)
        }
        return ErasedIds(self.key, frozenset(found.get(SUBJECT, ())), frozenset(found.get(ID, ())), self.told)

    def _columns(self, table: pa.Table) -> Iterable[tuple[str, frozenset[str], Callable[[str], str]]]:
        kinds = ((SUBJECT, self.subjects, b"subject"), (ID, self.images, b"image"))
        for name, wanted, kind in kinds:
            digest = partial(_digest, key=self.key, kind=kind)
            if wanted and name in table.column_names:
                yield name, wanted, digest

    def _holds(
        self, column: pa.ChunkedArray, wanted: frozenset[str], digest: Callable[[str], str]
    ) -> np.ndarray:
        texts = [self.told[each] for each in wanted if each in self.told]
        hit: np.ndarray = _is_in(canonical_column(column), texts)
        untold = wanted - self.told.keys()
        if untold:
            hit = hit | _is_in(column, [v for v in _distinct(column) if _digests(v, digest) & untold])
        return hit


def _is_in(column: pa.ChunkedArray, values: Sequence[str]) -> np.ndarray:
    found: np.ndarray = pc.is_in(column, value_set=pa.array(values, column.type)).to_numpy()
    return found


def _distinct(column: pa.ChunkedArray) -> Iterable[str]:
    return (value for value in column.unique().to_pylist() if value is not None)


def _digests(value: str, digest: Callable[[str], str]) -> set[str]:
    """Digests of an id in NFC and of the id as it is written."""
    found = {digest(canonical_text(value))}
    return found if value.isascii() else found | {digest(value)}


def _digest(value: str, key: str, kind: bytes) -> str:
    return hashlib.blake2b(value.encode(), digest_size=16, key=key.encode(), person=kind).hexdigest()
