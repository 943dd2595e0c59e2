"""The templates to search for duplicates, of a gallery or of an enroll run, cut into blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.text_column import canonical_column
from frpipe.gallery.catalog import ShardRef
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import TIME, vectors_of
from frpipe.gallery.shard_cache import CacheSpec
from frpipe.gallery.snapshot import Snapshot
from frpipe.io.output.features import Features, PartRows
from frpipe.io.output.plan import read_part
from frpipe.jobs.dedup.blocks import Block
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.subject_faces import quality, templates_of

KEYS = ["subject_id", "face_id", "image_uri"]
FACTS = ["subject_id", "face_id", "quality", "enrolled_at"]

Mask = NDArray[np.bool_]


class _Plain:
    """A base for what is sent to workers as it was made, without cached properties."""

    def __reduce__(self) -> tuple[type[Any], tuple[Any, ...]]:
        return type(self), tuple(getattr(self, each.name) for each in fields(self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class GallerySource(_Plain):
    """The templates in sight of a version of a gallery. A block is a shard, or several small neighbours.

    fresh: by shard, which of its templates in sight are fresh, as packed bits; shards without any are left
    out; None: all are fresh.  commit: of the version, so that no worker reads another one of that number;
    None: not compared.  cache: of shards, on each node.
    """

    uri: str
    version: int
    block_rows: int
    fresh: Mapping[str, bytes] | None = field(default=None, repr=False)
    commit: str | None = None
    cache: CacheSpec | None = field(default=None, repr=False)

    @cached_property
    def snapshot(self) -> Snapshot:
        """The version that is searched."""
        return Gallery.open(self.uri, self.cache).snapshot(self.version, self.commit)

    @cached_property
    def blocks(self) -> list[list[ShardRef]]:
        """The shards of each block."""
        return _bundled(self.snapshot.version.shards, [s.live_rows for s in self._shards], self.block_rows)

    @property
    def rows(self) -> int:
        """The number of templates in sight."""
        return self.snapshot.rows

    @property
    def fresh_rows(self) -> int:
        """The number of fresh templates."""
        return sum(int(self.fresh_of(ref).sum()) for ref in self._shards)

    def fresh_of(self, ref: ShardRef) -> Mask:
        """Mark the fresh ones of the templates in sight of a shard."""
        if self.fresh is None:
            return np.ones(ref.live_rows, bool)
        packed = self.fresh.get(ref.name)
        if packed is None:
            return np.zeros(ref.live_rows, bool)
        return np.unpackbits(np.frombuffer(packed, np.uint8), count=ref.live_rows).astype(bool)

    def has_fresh(self, number: int) -> bool:
        """Whether a block has a fresh template."""
        return self.fresh is None or any(ref.name in self.fresh for ref in self.blocks[number])

    def size(self, number: int) -> tuple[int, int]:
        """The numbers of templates in sight of a block, and of fresh ones. Reads no shard."""
        refs = self.blocks[number]
        return sum(ref.live_rows for ref in refs), sum(int(self.fresh_of(ref).sum()) for ref in refs)

    def block(self, number: int) -> Block:
        """Read a block anew."""
        refs = self.blocks[number]
        # Vectors first: then the node keeps whole shards, with the columns.
        vectors = [self._vectors(ref) for ref in refs]
        tables = [self.snapshot.table_of(ref, KEYS, vectors=False) for ref in refs]
        rows = pa.concat_tables(tables)
        unknown = {"photo": pa.nulls(len(rows), pa.string()), "face_index": pa.nulls(len(rows), pa.int32())}
        for name, column in unknown.items():
            rows = rows.append_column(name, column)
        fresh = np.concatenate([self.fresh_of(ref) for ref in refs])
        return Block(rows, vectors[0] if len(vectors) == 1 else np.concatenate(vectors), fresh)

    @property
    def gallery(self) -> str | None:
        """The address of the gallery."""
        return self.uri

    @property
    def sizes(self) -> Sequence[int]:
        """The bytes of the shards of each block."""
        return [sum(ref.bytes for ref in block) for block in self.blocks]

    @property
    def has_views(self) -> bool:
        """Whether blocks are views of shards, where their files can be mapped, and no copies."""
        spec = Gallery.open(self.uri).spec
        return (
            spec.encryption is None
            and spec.dtype == "float32"
            and all(len(block) == 1 and block[0].deleted is None for block in self.blocks)
        )

    def with_cache(self, cache: CacheSpec | None) -> Self:
        """Make the same source with shards that each node keeps."""
        return replace(self, cache=cache)

    def check_cache(self) -> None:
        """Raise StorageError where a cached shard of a block in use was changed."""
        self.snapshot.check_cache()

    def shard(self, number: int) -> tuple[ShardRef, NDArray[np.int64] | None] | None:
        """The shard of a block, and its rows in sight, ascending (None: all); None: a block of several."""
        refs = self.blocks[number]
        return (refs[0], self.snapshot.live_rows(refs[0])) if len(refs) == 1 else None

    def facts(self) -> Iterator[pa.Table]:
        """Iterate over subject, face, quality and time of all templates, some at a time."""
        return self.snapshot.tables(FACTS, vectors=False)

    def locations(self, uris: Mapping[str, str | None]) -> dict[str, str]:
        """The locations of the photos of some faces, by face id, as the gallery has them."""
        return {face: uri for face, uri in uris.items() if uri}

    @property
    def _shards(self) -> Sequence[ShardRef]:
        return self.snapshot.version.shards

    def _vectors(self, ref: ShardRef) -> NDArray[np.float32]:
        shard, rows = self.snapshot.open(ref), self.snapshot.live_rows(ref)
        stored = shard.vectors()
        vectors = (stored if rows is None else stored[rows]).astype(np.float32, copy=False)
        self.check_cache()
        return vectors


@dataclass(frozen=True)
class FeatureSource(_Plain):
    """The faces of a finished enroll run. A block is several neighbouring parts.

    The subject's face of a photo is chosen as consolidate does. Every other face, and each of a photo without
    a subject, is a subject of its own, with the face's id.
    """

    uri: str
    created: datetime
    block_rows: int
    embedder: str | None = None

    @cached_property
    def blocks(self) -> list[list[int]]:
        """The parts of each block."""
        rows = self._parts
        return _bundled([*rows], [count.faces for count in rows.values()], self.block_rows)

    @cached_property
    def _parts(self) -> Mapping[int, PartRows]:
        return self._features.rows()

    @cached_property
    def rows(self) -> int:
        """The number of faces."""
        return FeatureRun.open(self.uri).faces

    @property
    def fresh_rows(self) -> int:
        """The number of fresh faces: all."""
        return self.rows

    def has_fresh(self, number: int) -> bool:
        """Always true: all faces of a run are fresh."""
        return True

    def size(self, number: int) -> tuple[int, int]:
        """The numbers of faces of a block, and of fresh ones: all."""
        faces = sum(self._parts[part].faces for part in self.blocks[number])
        return faces, faces

    def block(self, number: int) -> Block:
        """Read a block anew."""
        tables, vectors = [], []
        for images, faces in self._features.tables(parts=self.blocks[number]):
            photo = images["content_sha256"].take(pc.index_in(faces["image_id"], images["image_id"]))
            rows = pa.table({"subject_id": self._subjects(images, faces), **_columns(faces, KEYS[1:])})
            rows = rows.append_column("photo", photo).append_column("face_index", faces["face_index"])
            tables.append(rows)
            vectors.append(vectors_of(faces))
        rows = pa.concat_tables(tables)
        return Block(rows, np.concatenate(vectors), np.ones(rows.num_rows, bool))

    @property
    def gallery(self) -> str | None:
        """Nothing: features are of no gallery."""
        return None

    @property
    def sizes(self) -> Sequence[int]:
        """Nothing: no sizes are known."""
        return ()

    def with_cache(self, cache: CacheSpec | None) -> Self:
        """The same source: features are not cached."""
        return self

    def check_cache(self) -> None:
        """Do nothing: features are not cached."""

    def facts(self) -> Iterator[pa.Table]:
        """Iterate over subject, face, quality and time of all faces, some at a time."""
        for images, faces in self._features.tables():
            sides = (faces[name].to_numpy() for name in ("score", "eye_distance_px", "sharpness"))
            columns = [
                self._subjects(images, faces),
                faces["face_id"],
                pa.array(quality(*sides)),
                pa.array([self.created] * faces.num_rows, TIME),
            ]
            yield pa.table(columns, names=FACTS)

    def locations(self, uris: Mapping[str, str | None]) -> dict[str, str]:
        """The locations of the photos of some faces, by face id, as the run's plan has them."""
        owners = {face: face.rpartition("#")[0] for face in uris}
        wanted = set(owners.values())
        found: dict[str, str] = {}
        for part in self._features.parts():
            plan = read_part(self._features.folder, part).select(["image_id", "location"]).to_pylist()
            found |= {row["image_id"]: row["location"] for row in plan if row["image_id"] in wanted}
        return {face: found[image] for face, image in owners.items() if image in found}

    @property
    def _features(self) -> Features:
        return Features.at(self.uri, self.embedder)

    def _subjects(self, images: pa.Table, faces: pa.Table) -> pa.ChunkedArray:
        chosen, _ = templates_of(images, faces, "centre-largest", self.created)
        own = pc.is_in(canonical_column(faces["face_id"]), value_set=chosen["face_id"].combine_chunks())
        return pc.if_else(own, canonical_column(faces["subject_id"]), faces["face_id"])


def _columns(table: pa.Table, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    return {name: table[name] for name in names}


def _bundled(items: Sequence[Any], rows: Sequence[int], most: int) -> list[list[Any]]:
    """Bundle neighbours up to `most` rows; an item of more rows is a bundle of its own."""
    bundles: list[list[Any]] = []
    room = 0
    for item, count in zip(items, rows, strict=True):
        if not bundles or count > room:
            bundles.append([])
            room = most
        bundles[-1].append(item)
        room -= count
    return bundles
