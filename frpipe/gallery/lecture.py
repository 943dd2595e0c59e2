"""The gallery file of the lecture: one HDF5 group per person, readable by hand with h5py.

    /0                       attribute subject_id: the key; without it the name of the group is the key
    /0/Name, /0/Department   scalar variable-length UTF-8 strings, one dataset per attribute that is known
    /0/Feature Map/feature_1 ... feature_k   (dim,) float32

Beyond what is taught the file carries HDF5 attributes, so that nothing is lost on the way back: hashes of
the model at the root, and face_id, image_uri, quality and enrolled_at at each feature. An attribute whose
name is no name for a dataset (it holds a slash) is written percent-encoded.

It is for people and small galleries: a person takes 3 to 5 KB and about a millisecond.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import h5py
import numpy as np
import pyarrow as pa

from frpipe.core.errors import GalleryError
from frpipe.gallery.schema import (
    EMBEDDING,
    ENROLLED,
    FACE_ID,
    FIXED_COLUMNS,
    QUALITY,
    SUBJECT_ID,
    URI,
    vectors_of,
)

FEATURES = "Feature Map"
_TEXT = h5py.string_dtype("utf-8")


def write_lecture(
    path: Path, subject_ids: Iterable[str], tables: Iterable[pa.Table], root: Mapping[str, str | int]
) -> int:
    """Write a new file; the number of persons.

    subject_ids: all persons; groups are numbered in their order, ids that are numbers first, by value.
    tables: templates tables, of any size and in any order.  root: attributes of the file.
    Raises GalleryError for a text with a NUL, and a time that no calendar has.
    """
    numbers = {subject: str(n) for n, subject in enumerate(sorted(subject_ids, key=natural))}
    with h5py.File(path, "w") as file:
        for name, value in root.items():
            file.attrs[name] = value
        for table in tables:
            vectors = vectors_of(table)
            for row, vector in zip(_rows(table), vectors, strict=True):
                _write_feature(_group(file, numbers[row[SUBJECT_ID]], row), row, vector)
    return len(numbers)


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = table.drop_columns([EMBEDDING]).to_pylist()
    except (OverflowError, ValueError):
        raise GalleryError(
            f"{ENROLLED} of a template is not in the years 1 to 9999, which this layout cannot keep",
            "export with --layout parquet",
        ) from None
    return rows


def natural(subject: str) -> tuple[bool, int, str]:
    """Sort key: numbers first and by value, then texts."""
    number = subject.isascii() and subject.isdigit()
    return not number, len(subject) if number else 0, subject


def _group(file: h5py.File, number: str, row: dict[str, Any]) -> h5py.Group:
    if number not in file:
        group = file.create_group(number)
        group.attrs.create(SUBJECT_ID, _storable(row[SUBJECT_ID]), dtype=_TEXT)
        group.create_group(FEATURES)
    group = file[number]
    for name, value in row.items():
        if name not in FIXED_COLUMNS and value is not None and dataset_name(name) not in group:
            group.create_dataset(dataset_name(name), data=_storable(value), dtype=_TEXT)
    return group


def _write_feature(group: h5py.Group, row: dict[str, Any], vector: np.ndarray) -> None:
    features = group[FEATURES]
    feature = features.create_dataset(f"feature_{len(features) + 1}", data=vector.astype(np.float32))
    for name in (FACE_ID, URI):
        if row.get(name) is not None:
            feature.attrs.create(name, _storable(row[name]), dtype=_TEXT)
    if row.get(QUALITY) is not None:
        feature.attrs[QUALITY] = np.float32(row[QUALITY])
    feature.attrs[ENROLLED] = row[ENROLLED].isoformat()


def dataset_name(attribute: str) -> str:
    """The name of an attribute's dataset: the attribute's own, percent-encoded where HDF5 or we could not."""
    if re.search(r"[/%\x00]", attribute) or attribute in ("", ".", "..", FEATURES):
        return quote(attribute, safe=" ").replace(".", "%2E").replace("Feature Map", "Feature%20Map") or "%"
    return attribute


def attribute_name(dataset: str) -> str:
    """The inverse of `dataset_name`."""
    return "" if dataset == "%" else unquote(dataset)


def _storable(text: str) -> str:
    if "\x00" in text:
        raise GalleryError(
            "a text of the gallery holds a NUL character, which this layout cannot keep",
            "export with --layout parquet",
        )
    return text
