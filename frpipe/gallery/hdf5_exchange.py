"""Write the lecture's gallery file: one HDF5 group per person, readable by hand with h5py.

    /0                       a person: the group is called by the id, and has it as attribute subject_id
    /0/Name, /0/Department   scalar variable-length UTF-8 strings, one dataset per attribute of the person
    /0/Feature Map/feature_1 ... feature_k   (dim,) float32

Every person has a `Name`. If none is known, or the templates disagree, it is the id, and an HDF5 attribute
of the dataset marks it, so that frpipe does not read it as a name.

A dataset holds the value on which all templates of the person that have the attribute agree; if they
disagree, there is no dataset. HDF5 attributes, which the lecture does not have, carry the rest, so that an
import restores everything: hashes of the model at the root, and at each feature face_id, image_uri, quality
and enrolled_at. A template that differs from a dataset has `attribute:NAME` at its feature: its value, or a
null dataspace for none.
An id, or the name of an attribute, that is no name in HDF5 (it holds a slash) is written percent-encoded.

It is meant for human readers and small galleries: a person takes 3 to 5 KB and about a millisecond.
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
from frpipe.gallery.persons import agreed_attributes
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

FEATURES, NAME = "Feature Map", "Name"
# HDF5 attribute that marks a `Name` which is the id.
IS_ID = "is_subject_id"
# Prefix of the HDF5 attributes, at a feature, for values in which one template differs from its person.
OWN = "attribute:"
# Limits for a person. A reader refuses more, since anybody may have written the file.
MAX_TEXT, MAX_FEATURES, MAX_ATTRIBUTES = 1 << 16, 10_000, 256
_TEXT = h5py.string_dtype("utf-8")


def write_lecture(path: Path, tables: Iterable[pa.Table], root: Mapping[str, str | int]) -> int:
    """Write a new file in the lecture's form; returns the number of persons.

    tables: templates, all of a person in one table; a table is in memory at a time.  root: attributes of the
    file.
    Raises GalleryError for what a reader would refuse: a text with a NUL or above 64 KiB, a person of more
    than 256 attributes or 10,000 templates; and for a time that no calendar has.
    """
    count = 0
    with h5py.File(path, "w") as file:
        for name, value in root.items():
            file.attrs[name] = value
        for table in tables:
            people, vectors = agreed_attributes(table), vectors_of(table)
            count += len(people)
            for row, vector in zip(_rows(table), vectors, strict=True):
                shared = people[row[SUBJECT_ID]]
                group = _group(file, row[SUBJECT_ID], shared)
                _write_feature(group, row, shared, vector)
    return count


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = table.drop_columns([EMBEDDING]).to_pylist()
    except (OverflowError, ValueError):
        raise _unkept(f"{ENROLLED} of a template is not in the years 1 to 9999, which this layout") from None
    return rows


def natural(subject: str) -> tuple[bool, int, str]:
    """Sort key that compares numbers by value and puts them before texts."""
    number = subject.isascii() and subject.isdigit()
    return not number, len(subject) if number else 0, subject


def _group(file: h5py.File, subject: str, shared: Mapping[str, str]) -> h5py.Group:
    name = dataset_name(_storable(subject))
    if name not in file:
        group = file.create_group(name)
        group.attrs.create(SUBJECT_ID, subject, dtype=_TEXT)
        group.create_group(FEATURES)
        for attribute, value in shared.items():
            group.create_dataset(dataset_name(attribute), data=_storable(value), dtype=_TEXT)
        if NAME not in shared:
            group.create_dataset(NAME, data=subject, dtype=_TEXT).attrs[IS_ID] = 1
    return file[name]


def _write_feature(
    group: h5py.Group, row: dict[str, Any], shared: Mapping[str, str], vector: np.ndarray
) -> None:
    features = group[FEATURES]
    own = {name: row[name] for name in row.keys() - {*FIXED_COLUMNS} if row[name] != shared.get(name)}
    if len(features) == MAX_FEATURES or len(shared) + len(own) > MAX_ATTRIBUTES:
        raise _unkept("a person has more templates or attributes than this layout")
    feature = features.create_dataset(f"feature_{len(features) + 1}", data=vector.astype(np.float32))
    for name in (FACE_ID, URI):
        if row.get(name) is not None:
            feature.attrs.create(name, _storable(row[name]), dtype=_TEXT)
    if row.get(QUALITY) is not None:
        feature.attrs[QUALITY] = np.float32(row[QUALITY])
    feature.attrs[ENROLLED] = row[ENROLLED].isoformat()
    for name, value in sorted(own.items()):
        key = OWN + _storable(name)
        if value is None:
            feature.attrs[key] = h5py.Empty(_TEXT)
        else:
            feature.attrs.create(key, _storable(value), dtype=_TEXT)


def dataset_name(attribute: str) -> str:
    """Name of an attribute's dataset: its own, percent-encoded if HDF5 or this layout cannot hold it."""
    if re.search(r"[/%\x00]", attribute) or attribute in ("", ".", "..", FEATURES):
        return quote(attribute, safe=" ").replace(".", "%2E").replace("Feature Map", "Feature%20Map") or "%"
    return attribute


def attribute_name(dataset: str) -> str:
    """Name of the attribute of a dataset: the inverse of `dataset_name`."""
    return "" if dataset == "%" else unquote(dataset)


def _storable(text: str) -> str:
    if "\x00" in text:
        raise _unkept("a text of the gallery holds a NUL character, which this layout")
    if len(text.encode()) > MAX_TEXT:
        raise _unkept(f"a text of the gallery has more than {MAX_TEXT:,} bytes, which this layout")
    return text


def _unkept(what: str) -> GalleryError:
    return GalleryError(f"{what} cannot keep", "export with --layout parquet")
