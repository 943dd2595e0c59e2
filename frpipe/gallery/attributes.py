"""Attributes of templates; a person has an attribute where their templates agree on it.

A person has an attribute's value if all their templates that have the attribute have this value. Where they
disagree, lists show all values, and whatever holds one value for each person (a derived template, the dataset
of a person in an HDF5 export) holds none. A template that is enrolled again keeps the attributes that are not
given anew; a derived template itself lacks the attributes on which its photos disagree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.gallery.external_sort import Bucket
from frpipe.gallery.photos import MADE_OF, image_ids
from frpipe.gallery.schema import FACE_ID, FIXED_COLUMNS, SUBJECT_ID, attributes_of

# Columns of frpipe's own among the attributes: they are of one template.
OWN_PREFIX = "frpipe."


def is_shown(column: str) -> bool:
    """Whether a column is an attribute that listings show: not the gallery's own columns, nor frpipe's."""
    return column not in FIXED_COLUMNS and not column.startswith(OWN_PREFIX)


def known_values(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Distinct known values of each attribute in some templates of one person, sorted.

    Columns of frpipe's own (OWN_PREFIX) are left out.
    """
    found: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.items():
            if is_shown(name) and value is not None:
                found.setdefault(name, set()).add(value)
    return {name: sorted(values) for name, values in found.items()}


def agreed(values: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The attributes that have exactly one value, given `known_values`."""
    return {name: some[0] for name, some in values.items() if len(some) == 1}


def filled(bucket: Bucket, known: pa.Table) -> Bucket:
    """Fill missing attributes of a bucket's rows from the gallery's rows.

    They are taken from a row with the same key, else from a row of the same person and photo
    (`IMAGE_ID#INDEX`). A derived template that is given without its list of photos keeps the list of the row
    with the same key, since the key is made from them. If a derived template lacks an attribute that is
    given, its photos disagree on it or do not have it: it is not filled.
    known: rows of the gallery, without vectors.
    """
    names = [
        name
        for name in attributes_of(known.schema)
        if (name == MADE_OF or not name.startswith(OWN_PREFIX)) and known[name].null_count < known.num_rows
    ]
    if not names or not bucket.texts.num_rows:
        return bucket
    rows = _counterparts(bucket.texts, known)
    texts, digest = bucket.texts, hashlib.sha256()
    derived = texts[MADE_OF].is_valid() if MADE_OF in texts.column_names else None
    for name in names:
        theirs = known[name].take(rows)
        if derived is not None and name in texts.column_names:
            theirs = pc.if_else(derived, pa.scalar(None, pa.string()), theirs)
        given = texts[name] if name in texts.column_names else pa.nulls(len(rows), pa.string())
        column = pc.coalesce(given, theirs)
        if column.null_count == given.null_count:
            continue
        digest.update(repr((name, column.to_pylist())).encode())
        texts = (
            texts.set_column(texts.column_names.index(name), name, column)
            if name in texts.column_names
            else texts.append_column(name, column)
        )
    return bucket if texts is bucket.texts else replace(bucket, texts=texts, filled=digest.digest())


def _counterparts(texts: pa.Table, known: pa.Table) -> pa.Array:
    """Row of `known` that matches each row of `texts`: (n,), null where there is none."""
    exact, by_photo = _keys(texts), _keys(texts, photo=True)
    there = {key: row for row, key in enumerate(_keys(known))}
    photos = {key: row for row, key in enumerate(_keys(known, photo=True))}
    pairs = zip(exact, by_photo, strict=True)
    return pa.array([there.get(key, photos.get(photo)) for key, photo in pairs], pa.int64())


def _keys(texts: pa.Table, *, photo: bool = False) -> list[tuple[str, str]]:
    faces = texts[FACE_ID]
    faces = image_ids(faces) if photo else faces
    return list(zip(texts[SUBJECT_ID].to_pylist(), faces.to_pylist(), strict=True))


def value_lists(people: pa.Array, of: NDArray[np.int64], values: pa.Array) -> pa.ListArray:
    """The distinct known values of an attribute, sorted, of each of `people`.

    of: (n,) the number of the person that `values[i]` is of.
    """
    pairs = pa.table({"of": of, "value": values}).filter(pc.is_valid(values)).group_by(["of", "value"])
    pairs = pairs.aggregate([]).sort_by([("of", "ascending"), ("value", "ascending")])
    counts = np.bincount(pairs["of"].to_numpy(), minlength=len(people))
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pairs["value"].combine_chunks())
