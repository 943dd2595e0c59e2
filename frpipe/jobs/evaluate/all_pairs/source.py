"""The labelled templates to compare, of a gallery or of an enroll run, cut into blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.errors import ConfigError
from frpipe.core.text import canonical_text
from frpipe.core.text_column import canonical_column
from frpipe.gallery.schema import EMBEDDING, FACE_ID, SUBJECT_ID, vectors_of
from frpipe.gallery.shard_cache import CacheSpec
from frpipe.io.output.features import Features
from frpipe.jobs.dedup.source import FeatureSource, GallerySource
from frpipe.jobs.evaluate.all_pairs.blocks import LabelledTemplates
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.subject_faces import SubjectPolicy, as_text, templates_of


@dataclass(frozen=True, slots=True)
class People:
    """The people of a block, without vectors. subject, cohort: (n,) strings, of its templates.

    photos: subject ids, one for each photo that is said to show somebody; None: a gallery knows of none.
    """

    subject: pa.StringArray
    cohort: pa.StringArray
    photos: pa.StringArray | None = None


class LabelledSource(Protocol):
    """A source of labelled templates, sent to workers. left_out: faces that are no template, by reason."""

    @property
    def block_rows(self) -> int: ...

    def in_blocks(self, block_rows: int) -> LabelledSource:
        """Cut the same templates into blocks of another size."""

    @property
    def left_out(self) -> Mapping[str, int]: ...

    @property
    def blocks(self) -> Sequence[Any]: ...

    def block(self, number: int) -> LabelledTemplates: ...

    @property
    def gallery(self) -> str | None: ...

    @property
    def sizes(self) -> Sequence[int]: ...

    def with_cache(self, cache: CacheSpec | None) -> LabelledSource: ...

    def check_cache(self) -> None: ...

    def people(self, number: int) -> People: ...


@dataclass(frozen=True)
class LabelledGallery:
    """The templates in sight of a version of a gallery.

    by: an attribute; None: there are no cohorts.  commit, cache: as of `GallerySource`.
    """

    uri: str
    version: int
    block_rows: int
    by: str | None = None
    commit: str | None = None
    cache: CacheSpec | None = field(default=None, repr=False)

    @property
    def left_out(self) -> Mapping[str, int]:
        """Always empty: a gallery holds templates alone."""
        return {}

    def in_blocks(self, block_rows: int) -> Self:
        """Cut the same templates into blocks of another size."""
        return replace(self, block_rows=block_rows)

    @property
    def blocks(self) -> Sequence[Any]:
        """The shards of each block."""
        return self._templates.blocks

    def block(self, number: int) -> LabelledTemplates:
        """Read a block anew. Raises GalleryError: the gallery has no such attribute."""
        table = self._table(number, vectors=True)
        return LabelledTemplates(*_labels(table, self._by), vectors_of(table))

    @property
    def gallery(self) -> str | None:
        """The address of the gallery."""
        return self.uri

    def with_cache(self, cache: CacheSpec | None) -> Self:
        """Make the same source with shards that each node keeps."""
        return replace(self, cache=cache)

    @property
    def sizes(self) -> Sequence[int]:
        """The bytes of the shards of each block."""
        return self._templates.sizes

    def check_cache(self) -> None:
        """Raise StorageError where a cached shard of a block in use was changed."""
        self._templates.check_cache()

    def people(self, number: int) -> People:
        """The people of a block."""
        return People(*_labels(self._table(number, vectors=False), self._by))

    @property
    def _by(self) -> str | None:
        """The attribute as a snapshot names it."""
        return canonical_text(self.by) if self.by else None

    @cached_property
    def _templates(self) -> GallerySource:
        return GallerySource(self.uri, self.version, self.block_rows, commit=self.commit, cache=self.cache)

    def _table(self, number: int, *, vectors: bool) -> pa.Table:
        names = [SUBJECT_ID, *([self._by] if self._by else [])]
        snapshot = self._templates.snapshot
        return pa.concat_tables(snapshot.table_of(ref, names, vectors=vectors) for ref in self.blocks[number])


@dataclass(frozen=True)
class LabelledFeatures:
    """The subject's face of each photo of a finished enroll run, where the subject is known.

    chosen: by part, which of its faces are, as packed bits.  left_out: all other faces, by reason.
    """

    uri: str
    created: datetime
    block_rows: int
    by: str | None
    chosen: Mapping[int, bytes] = field(repr=False)
    left_out: Mapping[str, int]
    embedder: str | None = None

    @classmethod
    def of(
        cls, found: FeatureRun, block_rows: int, by: str | None, policy: SubjectPolicy
    ) -> LabelledFeatures:
        """Look at all faces once and choose. Raises ConfigError: the manifest had no such column."""
        chosen, left_out = {}, Counter[str]()
        parts = found.features.parts()
        for part, (images, faces) in zip(parts, found.features.tables(parts=parts), strict=True):
            if by is not None and by not in faces.column_names:
                raise ConfigError(f"the enroll run has no column {by!r}", "name one that its manifest had")
            templates, others = templates_of(images, faces, policy, found.created)
            ids = canonical_column(faces[FACE_ID])
            mask = pc.is_in(ids, value_set=templates[FACE_ID].combine_chunks())
            chosen[part] = np.packbits(mask.to_numpy()).tobytes()
            left_out += others
        uri, embedder = found.folder.uri, found.embedder
        return cls(uri, found.created, block_rows, by, chosen, left_out, embedder)

    def in_blocks(self, block_rows: int) -> Self:
        """Cut the same templates into blocks of another size."""
        return replace(self, block_rows=block_rows)

    @cached_property
    def blocks(self) -> Sequence[Any]:
        """The parts of each block."""
        return FeatureSource(self.uri, self.created, self.block_rows).blocks

    def block(self, number: int) -> LabelledTemplates:
        """Read a block anew."""
        table = pa.concat_tables(faces for _, faces in self._parts(number, [EMBEDDING]))
        return LabelledTemplates(*_labels(table, self.by), vectors_of(table))

    @property
    def gallery(self) -> str | None:
        """Nothing: features are of no gallery."""
        return None

    def with_cache(self, cache: CacheSpec | None) -> Self:
        """The same source: features are not cached."""
        return self

    @property
    def sizes(self) -> Sequence[int]:
        """Nothing: no sizes are known."""
        return ()

    def check_cache(self) -> None:
        """Do nothing: features are not cached."""

    def people(self, number: int) -> People:
        """The people of a block, and of its photos."""
        images, faces = zip(*self._parts(number, []), strict=True)
        photos = pc.drop_null(_text(pa.concat_tables(images)[SUBJECT_ID]))
        return People(*_labels(pa.concat_tables(faces), self.by), photos)

    def _parts(self, number: int, names: list[str]) -> Iterator[tuple[pa.Table, pa.Table]]:
        wanted, parts = [SUBJECT_ID, *([self.by] if self.by else []), *names], self.blocks[number]
        tables = Features.at(self.uri, self.embedder).tables([SUBJECT_ID], wanted, parts)
        for part, (images, faces) in zip(parts, tables, strict=True):
            packed = np.frombuffer(self.chosen[part], np.uint8)
            mask = np.unpackbits(packed, count=faces.num_rows).astype(bool)
            yield images, faces.filter(pa.array(mask))


def _labels(table: pa.Table, by: str | None) -> tuple[pa.StringArray, pa.StringArray]:
    cohort = _text(as_text(table[by])) if by else pa.nulls(table.num_rows, pa.string())
    return _text(table[SUBJECT_ID]), cohort


def _text(column: pa.ChunkedArray) -> pa.StringArray:
    """Join chunks as one array in Unicode NFC; an empty string says nothing."""
    flat = canonical_column(pa.concat_arrays([pa.array([], pa.string()), *column.cast(pa.string()).chunks]))
    return pc.if_else(pc.equal(flat, ""), pa.scalar(None, pa.string()), flat)
