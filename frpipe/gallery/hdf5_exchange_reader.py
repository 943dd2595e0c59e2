"""Read a lecture's gallery file that anybody may have written, without trusting any of it.

Only hard links are followed, to exactly the groups and datasets of the layout. Refused before any value is
read: soft and external links, external storage, virtual datasets, filters other than gzip, shuffle and
Fletcher-32, types and shapes of another kind, and sizes beyond what a person can have. Texts of variable
length pass through the HDF5 library, which a forged heap may crash: the process ends, and no gallery has
changed by then.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.errors import FrpipeError, GalleryError
from frpipe.gallery.hdf5_exchange import (
    FEATURES,
    IS_ID,
    MAX_ATTRIBUTES,
    MAX_FEATURES,
    MAX_TEXT,
    OWN,
    attribute_name,
    natural,
)
from frpipe.gallery.hdf5_faults import not_of_content
from frpipe.gallery.schema import (
    EMBEDDING,
    ENROLLED,
    FACE_ID,
    FIXED_COLUMNS,
    QUALITY,
    SUBJECT_ID,
    URI,
    template_schema,
    vector_array,
)

_REMEDY = "write the file as docs/gallery.md shows, with h5py and nothing else"
_FILTERS = frozenset({h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32})
_MAX_CHUNK = 1 << 20
_BATCH_ROWS = 4096
ROUNDED = 1e-5


def read_lecture(
    path: Path, dim: int, enrolled_at: datetime, tolerance: float = ROUNDED
) -> Iterator[pa.Table]:
    """Read the templates of a file, in tables: unit vectors, persons in the order of their numbers.

    dim: of the gallery's vectors.  enrolled_at: for features without a time.  tolerance: a vector whose
    length is this near to 1 is kept to the last bit; others are scaled to length 1.
    Raises GalleryError where the file is not of the layout, or a vector is not finite, zero or of another
    dimension.
    """
    with _opened(path) as file:
        rows: list[dict[str, Any]] = []
        names = _links(file, "the file")
        people = [name for name in names if not isinstance(file[name], h5py.Dataset)]
        at_root = _at_root(file, [name for name in names if name not in people], people)
        for name in sorted(people, key=natural):
            own = {**at_root, SUBJECT_ID: _utf8(name)}
            rows += _person(file[name], own, dim, enrolled_at, tolerance)
            if len(rows) >= _BATCH_ROWS:
                yield _table(rows, dim)
                rows = []
        if rows:
            yield _table(rows, dim)


def read_root(path: Path) -> dict[str, str]:
    """Read the text attributes of the root: an exported file names its model there."""
    with _opened(path) as file:
        texts = {name: _attribute(file, name) for name in list(file.attrs)[:MAX_ATTRIBUTES]}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; every fault that the HDF5 library finds in it is a GalleryError.

    A lock of another program, missing permission and failing storage are no fault of the file.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FrpipeError:
        raise
    except FileNotFoundError:
        raise GalleryError("there is no such file", "check the path") from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        other = not_of_content(error, "the file", path)
        raise other or GalleryError("the file is damaged, or no HDF5 file", _REMEDY) from None


def _at_root(file: h5py.File, names: list[str], people: list[str]) -> dict[str, str]:
    """Texts at the root, where the lecture's own code puts them: those of the only person."""
    _refuse(bool(names) and not people, "a text is at the root, and there is no group of a person")
    _refuse(bool(names) and len(people) > 1, "a text at the root is of one person, and there are several")
    _refuse(len(names) > MAX_ATTRIBUTES, "a person has too many attributes")
    return {_column(name): _text(file[name]) for name in names}


def _person(
    group: Any, known: dict[str, str], dim: int, enrolled_at: datetime, tolerance: float
) -> Iterator[dict[str, Any]]:
    """Read a person. known: texts that the file has about them outside of the group."""
    _refuse(not isinstance(group, h5py.Group), "the file holds something beside groups of persons")
    names = _links(group, "a person's group")
    _refuse(FEATURES not in names, f"a person's group has no {FEATURES}")
    _refuse(len(names) > MAX_ATTRIBUTES, "a person has too many attributes")
    subject = _attribute(group, SUBJECT_ID)
    person = {**known, **({SUBJECT_ID: subject} if isinstance(subject, str) else {})}
    for name in (name for name in names if name != FEATURES):
        text = _text(group[name])
        # An id that was written in place of a name is none, unless somebody has written a name over it since.
        if _attribute(group[name], IS_ID) is None or text != person[SUBJECT_ID]:
            person[_column(name)] = text
    yield from _features(group[FEATURES], person, dim, enrolled_at, tolerance)


def _features(
    features: Any, person: dict[str, str], dim: int, enrolled_at: datetime, tolerance: float
) -> Iterator[dict[str, Any]]:
    _refuse(not isinstance(features, h5py.Group), f"{FEATURES} is no group")
    names = _links(features, FEATURES)
    _refuse(len(names) > MAX_FEATURES, "a person has too many features")
    odd = [name for name in names if not re.fullmatch(r"feature_\d{1,9}", name)]
    _refuse(bool(odd), f"{FEATURES} holds something beside feature_N")
    for name in sorted(names, key=lambda name: int(name[8:])):
        feature = features[name]
        vector = _vector(feature, dim, tolerance)
        face, uri, quality = (_attribute(feature, key) for key in (FACE_ID, URI, QUALITY))
        yield {
            **person,
            **_own(feature),
            FACE_ID: face if isinstance(face, str) else _face_id(vector),
            URI: uri if isinstance(uri, str) else None,
            QUALITY: float(quality) if isinstance(quality, (float, np.floating)) else None,
            ENROLLED: _time(_attribute(feature, ENROLLED), enrolled_at),
            EMBEDDING: vector,
        }


def _face_id(vector: NDArray[np.float32]) -> str:
    """Make a face id from the content.

    `feature_1` of two files gives two faces, and one file read twice gives the same faces.
    """
    return f"feature:{hashlib.sha256(vector.astype('<f4').tobytes()).hexdigest()[:20]}"


def _own(feature: Any) -> dict[str, str | None]:
    """Attributes in which a template differs from its person's datasets; None: in none."""
    names = list(feature.attrs)
    _refuse(len(names) > 2 * MAX_ATTRIBUTES, "a feature has too many attributes")
    found: dict[str, str | None] = {}
    for key in (name for name in names if name.startswith(OWN)):
        name = _utf8(key.removeprefix(OWN))
        _refuse(name in FIXED_COLUMNS or not name, "an attribute has the name of a column of the gallery")
        raw = feature.attrs.get_id(key)
        if raw.get_space().get_simple_extent_type() == h5py.h5s.NULL:
            found[name] = None
            continue
        text = _attribute(feature, key)
        _refuse(not isinstance(text, str) or len(text.encode()) > MAX_TEXT, "an attribute is no text")
        found[name] = text
    return found


def _vector(feature: Any, dim: int, tolerance: float) -> NDArray[np.float32]:
    _check_dataset(feature)
    _refuse(feature.dtype.kind != "f" or feature.dtype.itemsize > 8, "a feature does not hold floats")
    _refuse(feature.shape not in ((dim,), (1, dim)), f"a feature has another shape than ({dim},)")
    vector = feature[()].reshape(-1).astype(np.float64)
    length = float(np.linalg.norm(vector))
    _refuse(not np.isfinite(length) or length == 0, "a feature is zero or holds numbers that are not finite")
    unit: NDArray[np.float32] = vector.astype(np.float32)
    return unit if abs(length - 1) <= tolerance else (vector / length).astype(np.float32)


def _text(dataset: Any) -> str:
    _check_dataset(dataset)
    text = h5py.check_string_dtype(dataset.dtype)
    _refuse(text is None, "an attribute of a person is no text")
    _refuse(dataset.dtype.itemsize > MAX_TEXT or dataset.shape not in ((), (1,)), "a text is too large")
    value = dataset[()] if dataset.shape == () else dataset[0]
    _refuse(not isinstance(value, bytes) or len(value) > MAX_TEXT, "a text is too large")
    return _utf8(value)


def _check_dataset(dataset: Any) -> None:
    _refuse(not isinstance(dataset, h5py.Dataset), "there is a group where a dataset should be")
    plan = dataset.id.get_create_plist()
    _refuse(plan.get_external_count() > 0, "a dataset lies in another file")
    _refuse(plan.get_layout() == h5py.h5d.VIRTUAL, "a dataset is virtual")
    used = {plan.get_filter(index)[0] for index in range(plan.get_nfilters())}
    _refuse(not used <= _FILTERS, "a dataset is packed with an unknown filter")
    if dataset.chunks:
        _refuse(int(np.prod(dataset.chunks)) * dataset.dtype.itemsize > _MAX_CHUNK, "a chunk is too large")


def _links(group: h5py.Group, where: str) -> list[str]:
    """Names of the members of a group, all of which must be hard links."""
    names = [name.decode("utf-8", "surrogateescape") for name in group.id]
    for name in names:
        kind = group.id.links.get_info(name.encode("utf-8", "surrogateescape")).type
        _refuse(kind != h5py.h5l.TYPE_HARD, f"{where} holds a link to elsewhere")
        _utf8(name)
    return names


def _attribute(owner: Any, name: str) -> Any:
    """Read a scalar attribute as str, float or int; None if there is none or it is of another kind."""
    if not isinstance(owner, (h5py.Group, h5py.Dataset)) or name not in owner.attrs:
        return None
    raw = owner.attrs.get_id(name)
    plain = raw.dtype.kind in "fiu" or h5py.check_string_dtype(raw.dtype) is not None
    if raw.shape != () or not plain or raw.dtype.itemsize > MAX_TEXT:
        return None
    value = owner.attrs[name]
    return _utf8(value) if isinstance(value, (str, bytes)) else value


def _column(dataset: str) -> str:
    name = attribute_name(dataset)
    _refuse(name in FIXED_COLUMNS, "an attribute has the name of a column of the gallery")
    return name


def _utf8(value: str | bytes) -> str:
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise GalleryError("a text is not UTF-8", _REMEDY) from None


def _time(text: Any, default: datetime) -> datetime:
    try:
        parsed = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return default
    try:
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except OverflowError:
        raise GalleryError(f"the file is refused: {ENROLLED} is out of range", _REMEDY) from None


def _table(rows: list[dict[str, Any]], dim: int) -> pa.Table:
    schema = template_schema(dim, sorted({name for row in rows for name in row} - set(FIXED_COLUMNS)))
    columns = [
        vector_array(np.stack([row[EMBEDDING] for row in rows]))
        if field.name == EMBEDDING
        else pa.array([row.get(field.name) for row in rows], field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _refuse(fault: bool, why: str) -> None:
    if fault:
        raise GalleryError(f"the file is refused: {why}", _REMEDY)
