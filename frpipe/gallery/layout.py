"""Check a shard file before anything of it is used, and locate its columns.

A shard is HDF5, and HDF5 files can name other files (external links, external storage, virtual datasets),
run plug-ins (filters) and point back into themselves (soft links, references). Ours do none of that: a fixed
set of hard-linked, contiguous, plain datasets, so that each is an extent of bytes in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from frpipe.core.errors import FrpipeError, GalleryDamaged, GalleryMismatch
from frpipe.gallery.document import damaged
from frpipe.gallery.hdf5_faults import not_of_content
from frpipe.gallery.schema import ENROLLED, FACE_ID, FIXED_COLUMNS, QUALITY, SUBJECT_ID, URI
from frpipe.gallery.spec import FORMAT_VERSION, NORMALISATION, GallerySpec

VECTORS = "embedding"
ATTRIBUTES = "attributes"
NAME = "name"
TEXT_GROUPS = (SUBJECT_ID, FACE_ID, URI)
_NO_NULLS = frozenset({SUBJECT_ID, FACE_ID})
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


@dataclass(frozen=True, slots=True)
class Extent:
    """Byte range of a dataset in the file: `count` numbers of `dtype` from byte `offset`."""

    offset: int
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True, slots=True)
class TextExtent:
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


def facts_of(spec: GallerySpec, gallery_id: str, created: str, rows: int) -> dict[str, Any]:
    """The root attributes of a shard."""
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
    """Check a shard of `size` bytes and say where its columns lie.

    Raises GalleryDamaged where the file is not exactly of the expected form, GalleryMismatch where it was
    made with another model; GalleryError where another program has it; StorageError, OutOfMemory.
    """
    try:
        with (
            h5py.File(file, "r", locking=False) if isinstance(file, Path) else h5py.File(file, "r") as opened
        ):
            return _Checker(opened, size, name, spec).layout(gallery_id, rows)
    except (FrpipeError, FileNotFoundError):
        raise
    except Exception as error:  # noqa: BLE001 - h5py raises any of six classes for a damaged file
        other = not_of_content(error, name, file if isinstance(file, Path) else None)
        raise other or damaged(name, f"it cannot be read as HDF5 ({type(error).__name__})") from None


class _Checker:
    def __init__(self, file: h5py.File, size: int, name: str, spec: GallerySpec) -> None:
        self._file, self._size, self._name, self._spec = file, size, name, spec

    def layout(self, gallery_id: str, rows: int) -> Layout:
        self._facts(gallery_id, rows)
        self._members(self._file, {VECTORS, QUALITY, ENROLLED, *TEXT_GROUPS, ATTRIBUTES}, ())
        texts = {name: self._text(name, rows, nulls=name not in _NO_NULLS) for name in TEXT_GROUPS}
        attributes = list(self._attributes(rows))
        if len({name for name, _ in attributes}) != len(attributes):
            raise self._bad("an attribute comes twice")
        return Layout(
            rows=rows,
            vectors=self._extent(VECTORS, self._spec.stored_type, (rows, self._spec.dim)),
            quality=self._extent(QUALITY, "<f4", (rows,)),
            enrolled=self._extent(ENROLLED, "<i8", (rows,)),
            texts=texts | dict(attributes),
            attributes=tuple(name for name, _ in attributes),
        )

    def _facts(self, gallery_id: str, rows: int) -> None:
        attributes = self._file.attrs
        if set(attributes) != _FACTS:
            raise self._bad("its root attributes are not the expected ones")
        expected = facts_of(self._spec, gallery_id, "", rows)
        for key, value in expected.items():
            # Before it is read: a string of variable length lies in a heap, and a forged heap can hang.
            kind = attributes.get_id(key)
            if kind.shape != () or kind.dtype.kind != value.dtype.kind:
                raise self._bad(f"its root attribute {key} is not plain")
        for key in ("embedder_hash", "preprocessing_hash", "dim"):
            if attributes[key] != expected[key]:
                its, own = _shown(attributes[key]), _shown(expected[key])
                raise GalleryMismatch(
                    f"{self._name}: {key} is {its}, the gallery's is {own}",
                    "the file belongs to another gallery: restore the right one from a copy",
                )
        if any(attributes[key] != expected[key] for key in _FACTS - {"created"}):
            raise self._bad("its root attributes are not the gallery's")

    def _attributes(self, rows: int) -> Iterator[tuple[str, TextExtent]]:
        group = self._group(ATTRIBUTES)
        names = sorted(group.keys())
        self._members(group, {f"{number:04d}" for number in range(len(names))}, ())
        for number in names:
            path = f"{ATTRIBUTES}/{number}"
            yield self._attribute_name(path), self._text(path, rows, nulls=True)

    def _attribute_name(self, path: str) -> str:
        attrs = self._group(path).attrs
        if set(attrs) != {NAME}:
            raise self._bad(f"{path} has no name of its own")
        kind = attrs.get_id(NAME)
        if kind.dtype.kind != "S" or kind.shape != ():
            raise self._bad(f"the name of {path} is not plain text")
        name = bytes(attrs[NAME]).decode("utf-8")
        if not name or name in FIXED_COLUMNS:
            raise self._bad(f"the name of {path} is taken")
        return name

    def _text(self, path: str, rows: int, *, nulls: bool) -> TextExtent:
        group = self._group(path)
        self._members(group, {"offsets", "data"}, ("valid",) if nulls else ())
        data = self._dataset(f"{path}/data")
        valid = self._extent(f"{path}/valid", "|u1", (rows,)) if "valid" in group else None
        return TextExtent(
            self._extent(f"{path}/offsets", "<u4", (rows + 1,)),
            self._extent(f"{path}/data", "|u1", (int(np.prod(data.shape)),)),
            valid,
        )

    def _members(self, group: h5py.Group, needed: set[str], optional: tuple[str, ...]) -> None:
        names = set(group.keys())
        if not needed <= names <= needed | set(optional):
            raise self._bad("it holds other objects than expected")
        if group.name != "/" and set(group.attrs) - {NAME}:
            raise self._bad("it holds other attributes than expected")
        for name in names:
            if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
                raise self._bad("it holds links to elsewhere")

    def _group(self, path: str) -> h5py.Group:
        found = self._file[path]
        if not isinstance(found, h5py.Group):
            raise self._bad(f"{path} is not a group")
        return found

    def _dataset(self, path: str) -> h5py.Dataset:
        found = self._file[path]
        if not isinstance(found, h5py.Dataset) or len(found.attrs):
            raise self._bad(f"{path} is not a plain dataset")
        return found

    def _extent(self, path: str, dtype: str, shape: tuple[int, ...]) -> Extent:
        dataset = self._dataset(path)
        kind, plan = np.dtype(dtype), dataset.id.get_create_plist()
        if plan.get_layout() != h5py.h5d.CONTIGUOUS or plan.get_external_count() or plan.get_nfilters():
            raise self._bad(f"{path} is chunked, filtered, virtual or stored elsewhere")
        if not dataset.id.get_type().equal(h5py.h5t.py_create(kind)) or dataset.shape != shape:
            raise self._bad(f"{path} has another type or shape")
        count = int(np.prod(shape))
        offset = dataset.id.get_offset() if count else 0
        if offset is None or offset + count * kind.itemsize > self._size:
            raise self._bad(f"{path} ends beyond the file")
        return Extent(int(offset), kind, count)

    def _bad(self, what: str) -> GalleryDamaged:
        return damaged(self._name, what)


def _shown(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
