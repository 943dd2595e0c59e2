"""Check a shard file before anything of it is used, and locate its columns.

A shard is HDF5, and HDF5 files can name other files (external links, external storage, virtual datasets),
run plug-ins (filters) and point back into themselves (soft links, references). Shards do none of that: they
are a fixed set of hard-linked, contiguous, plain datasets, so that each is an extent of bytes in the file.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5g, h5l, h5o, h5p, h5t

from frpipe.core.errors import FrpipeError, GalleryDamaged, GalleryMismatch
from frpipe.gallery.byte_ranges import Bytes
from frpipe.gallery.document import damaged
from frpipe.gallery.hdf5_faults import not_of_content
from frpipe.gallery.schema import ENROLLED, FACE_ID, FIXED_COLUMNS, QUALITY, SUBJECT_ID, URI
from frpipe.gallery.spec import FORMAT_VERSION, NORMALISATION, GallerySpec

VECTORS = "embedding"
ATTRIBUTES = "attributes"
NAME = "name"
TEXT_GROUPS = (SUBJECT_ID, FACE_ID, URI)
_NO_NULLS = frozenset({SUBJECT_ID, FACE_ID})
# To be raised when `read_layout` becomes stricter: what an index says was found by the check of its time.
_CHECK = 1
_FACTS = frozenset(
    {
        "format_version",
        "gallery_id",
        "embedder_hash",
        "preprocessing_hash",
        "dim",
        "normalisation",
        "created",
        "rows",
    }
)


class Extent(NamedTuple):
    """Byte range of a dataset in the file: `numbers` of `dtype` from byte `offset`."""

    offset: int
    dtype: np.dtype[Any]
    numbers: int

    @property
    def end(self) -> int:
        """The byte after the last one."""
        return self.offset + self.numbers * self.dtype.itemsize


class TextExtent(NamedTuple):
    """A packed string column; `valid` is None where it has no nulls."""

    offsets: Extent
    data: Extent
    valid: Extent | None


@dataclass(frozen=True, slots=True)
class Layout:
    """Byte ranges of all columns of a checked shard.

    `texts` holds the built-in text columns and attributes.
    """

    rows: int
    vectors: Extent
    quality: Extent
    enrolled: Extent
    texts: dict[str, TextExtent]
    attributes: tuple[str, ...]

    def extents(self) -> list[Extent]:
        """The byte ranges of all columns that have any bytes, in the order of the file."""
        found = [self.vectors, self.quality, self.enrolled]
        for text in self.texts.values():
            found += [text.offsets, text.data, *([text.valid] if text.valid else ())]
        return sorted((each for each in found if each.numbers), key=attrgetter("offset"))


def structure_digest(content: Bytes, layout: Layout, size: int, *, spec: GallerySpec, gallery_id: str) -> str:
    """Compute the SHA-256 of a shard's structure: all of its bytes that are not a column's.

    It depends on all that `read_layout` reads and compares with. So a shard for which it is the same as when
    that check gave this layout would be found sound again, with the same layout.
    """
    expected = (gallery_id, spec.embedder_hash, spec.preprocessing_hash, spec.dim, spec.stored_type)
    found = hashlib.sha256(repr((_CHECK, FORMAT_VERSION, NORMALISATION, size, *expected)).encode())
    at = 0
    for extent in layout.extents():
        if extent.offset > at:
            found.update(content.read(at, extent.offset - at))
        at = max(at, extent.end)
    found.update(content.read(at, size - at))
    return found.hexdigest()


def facts_of(spec: GallerySpec, gallery_id: str, created: str, rows: int) -> dict[str, Any]:
    """Root attributes of a shard."""
    return {
        "format_version": np.int64(FORMAT_VERSION),
        "gallery_id": np.bytes_(gallery_id),
        "embedder_hash": np.bytes_(spec.embedder_hash),
        "preprocessing_hash": np.bytes_(spec.preprocessing_hash),
        "dim": np.int64(spec.dim),
        "normalisation": np.bytes_(NORMALISATION),
        "created": np.bytes_(created),
        "rows": np.int64(rows),
    }


def read_layout(
    file: Path | BinaryIO, size: int, *, name: str, spec: GallerySpec, gallery_id: str, rows: int
) -> Layout:
    """Check a shard of `size` bytes and locate its columns.

    Raises GalleryDamaged where the file is not exactly of the expected form, GalleryMismatch where it was
    made with another model; GalleryError where another program has it; StorageError, OutOfMemory.
    """
    try:
        if not isinstance(file, Path):
            with h5py.File(file, "r") as opened:
                return _Checker(opened.id, size, name, spec).layout(gallery_id, rows)
        opened = h5f.open(os.fsencode(file), h5f.ACC_RDONLY, fapl=_access())
        try:
            return _Checker(opened, size, name, spec).layout(gallery_id, rows)
        finally:
            opened.close()
    except (FrpipeError, FileNotFoundError):
        raise
    except Exception as error:  # noqa: BLE001 - h5py raises any of six classes for a damaged file
        other = not_of_content(error, name, file if isinstance(file, Path) else None)
        raise other or damaged(name, f"it cannot be read as HDF5 ({type(error).__name__})") from None


def _access() -> h5p.PropFAID:
    """Options for opening a file: without a lock; closing it also closes all objects in it."""
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    access.set_file_locking(False, False)
    return access


class _Checker:
    """Checks of an open file, by low-level calls: h5py's high-level objects take three times as long."""

    def __init__(self, file: h5f.FileID, size: int, name: str, spec: GallerySpec) -> None:
        self._root, self._size, self._name, self._spec = h5o.open(file, b"/"), size, name, spec

    def layout(self, gallery_id: str, rows: int) -> Layout:
        self._facts(gallery_id, rows)
        self._members(self._root, {VECTORS, QUALITY, ENROLLED, *TEXT_GROUPS, ATTRIBUTES})
        texts = {
            name: self._text(self._group(self._root, name), rows, nulls=name not in _NO_NULLS)
            for name in TEXT_GROUPS
        }
        attributes = list(self._attributes(rows))
        if len({name for name, _ in attributes}) != len(attributes):
            raise self._bad("an attribute comes twice")
        return Layout(
            rows=rows,
            vectors=self._extent(self._root, VECTORS, self._spec.stored_type, (rows, self._spec.dim)),
            quality=self._extent(self._root, QUALITY, "<f4", (rows,)),
            enrolled=self._extent(self._root, ENROLLED, "<i8", (rows,)),
            texts=texts | dict(attributes),
            attributes=tuple(name for name, _ in attributes),
        )

    def _facts(self, gallery_id: str, rows: int) -> None:
        if _attribute_names(self._root) != _FACTS:
            raise self._bad("its root attributes are not the expected ones")
        expected, found = facts_of(self._spec, gallery_id, "", rows), dict[str, Any]()
        for key, value in expected.items():
            attribute = h5a.open(self._root, key.encode())
            # Checked before it is read: strings of variable length lie in a heap, and a forged heap can hang.
            if attribute.shape != () or attribute.dtype.kind != value.dtype.kind:
                raise self._bad(f"its root attribute {key} is not plain")
            found[key] = _value(attribute)
        for key in ("embedder_hash", "preprocessing_hash", "dim"):
            if found[key] != expected[key]:
                its, own = _shown(found[key]), _shown(expected[key])
                raise GalleryMismatch(
                    f"{self._name}: {key} is {its}, the gallery's is {own}",
                    "the file belongs to another gallery: restore the right one from a copy",
                )
        if any(found[key] != expected[key] for key in _FACTS - {"created"}):
            raise self._bad("its root attributes are not the gallery's")

    def _attributes(self, rows: int) -> Iterator[tuple[str, TextExtent]]:
        group = self._group(self._root, ATTRIBUTES)
        names = sorted(_link_types(group))
        self._members(group, {f"{number:04d}" for number in range(len(names))})
        for number in names:
            member = self._group(group, number)
            yield self._attribute_name(member, number), self._text(member, rows, nulls=True)

    def _attribute_name(self, group: h5g.GroupID, number: str) -> str:
        if _attribute_names(group) != {NAME}:
            raise self._bad(f"{ATTRIBUTES}/{number} has no name of its own")
        attribute = h5a.open(group, NAME.encode())
        if attribute.dtype.kind != "S" or attribute.shape != ():
            raise self._bad(f"the name of {ATTRIBUTES}/{number} is not plain text")
        name = bytes(_value(attribute)).decode("utf-8")
        if not name or name in FIXED_COLUMNS:
            raise self._bad(f"the name of {ATTRIBUTES}/{number} is taken")
        return name

    def _text(self, group: h5g.GroupID, rows: int, *, nulls: bool) -> TextExtent:
        names = self._members(group, {"offsets", "data"}, frozenset({"valid"} if nulls else ()))
        return TextExtent(
            self._extent(group, "offsets", "<u4", (rows + 1,)),
            self._extent(group, "data", "|u1", None),
            self._extent(group, "valid", "|u1", (rows,)) if "valid" in names else None,
        )

    def _members(
        self, group: h5g.GroupID, needed: set[str], optional: frozenset[str] = frozenset()
    ) -> set[str]:
        """Names of the members of a group. Raises GalleryDamaged unless they are these, and no links."""
        kinds = _link_types(group)
        if not needed <= kinds.keys() <= needed | optional:
            raise self._bad("it holds other objects than expected")
        if group is not self._root and _attribute_names(group) - {NAME}:
            raise self._bad("it holds other attributes than expected")
        if any(kind != h5l.TYPE_HARD for kind in kinds.values()):
            raise self._bad("it holds links to elsewhere")
        return {*kinds}

    def _group(self, parent: h5g.GroupID, name: str) -> h5g.GroupID:
        found = h5o.open(parent, name.encode())
        if not isinstance(found, h5g.GroupID):
            raise self._bad(f"{name} is not a group")
        return found

    def _dataset(self, parent: h5g.GroupID, name: str) -> h5d.DatasetID:
        found = h5o.open(parent, name.encode())
        if not isinstance(found, h5d.DatasetID) or h5a.get_num_attrs(found):
            raise self._bad(f"{name} is not a plain dataset")
        return found

    def _extent(self, parent: h5g.GroupID, name: str, dtype: str, shape: tuple[int, ...] | None) -> Extent:
        """Check a dataset. shape: None: of one dimension, any length."""
        dataset = self._dataset(parent, name)
        kind, plan, found = np.dtype(dtype), dataset.get_create_plist(), dataset.shape
        if plan.get_layout() != h5d.CONTIGUOUS or plan.get_external_count() or plan.get_nfilters():
            raise self._bad(f"{name} is chunked, filtered, virtual or stored elsewhere")
        is_shape = len(found) == 1 if shape is None else found == shape
        if not dataset.get_type().equal(_hdf5_type(dtype)) or not is_shape:
            raise self._bad(f"{name} has another type or shape")
        count = math.prod(found)
        offset = dataset.get_offset() if count else 0
        if offset is None or offset + count * kind.itemsize > self._size:
            raise self._bad(f"{name} ends beyond the file")
        return Extent(int(offset), kind, count)

    def _bad(self, what: str) -> GalleryDamaged:
        return damaged(self._name, what)


def _link_types(group: h5g.GroupID) -> dict[str, int]:
    """Kind of link of each member of a group, by name."""
    found: dict[str, int] = {}
    group.links.iterate(lambda name, info: found.update({_decoded(name): info.type}), info=True)
    return found


def _attribute_names(group: h5g.GroupID) -> set[str]:
    """Names of the HDF5 attributes of a group."""
    found: set[str] = set()
    h5a.iterate(group, lambda name: found.add(_decoded(name)))
    return found


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _value(attribute: h5a.AttrID) -> Any:
    """Value of a scalar HDF5 attribute of plain type."""
    value = np.empty((), attribute.dtype)
    attribute.read(value)
    return value[()]


@cache
def _hdf5_type(dtype: str) -> h5t.TypeID:
    return h5t.py_create(np.dtype(dtype))


def _shown(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
