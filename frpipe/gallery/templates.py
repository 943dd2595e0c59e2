"""Reduce the feature vectors of a person to the templates that the gallery keeps.

- all: every vector stays a template (feature_1 ... feature_k). A probe scores the nearest.
- mean: one template, the direction of the mean of the unit vectors.
- quality-mean: the same, each vector weighted by its quality; unweighted where none has a quality above 0.
- quality-score-mean, pose-mean: the same, weighted by what the stage `quality` says (see `gallery.weights`).
  What is not known weighs 0; unweighted where no weight is above 0.
- medoid: the one vector that is most like the others of its person: a real photo, not an average.

A derived template's face id is a hash of the face ids that it was made of, so that the same photos give the
same row again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.gallery.schema import (
    EMBEDDING,
    ENROLLED,
    FACE_ID,
    FIXED_COLUMNS,
    QUALITY,
    SUBJECT_ID,
    URI,
    vector_array,
    vectors_of,
)
from frpipe.gallery.weights import WEIGHED_BY, WEIGHT

TemplatePolicy = Literal["all", "mean", "quality-mean", "quality-score-mean", "pose-mean", "medoid"]
TEMPLATE_POLICIES: tuple[str, ...] = get_args(TemplatePolicy)
_COMPUTED = frozenset({FACE_ID, EMBEDDING, URI})
_AGGREGATES = {QUALITY: "mean", ENROLLED: "max"}
# Below this length a sum of unit vectors has no meaningful direction.
_NO_DIRECTION = 1e-6


def reduce_templates(
    table: pa.Table, policy: TemplatePolicy, disputed: Counter[str] | None = None
) -> pa.Table:
    """Reduce a table, with all rows of each of its persons, to templates; sorted by subject and face id.

    `quality` of a mean is the mean of the known qualities; `enrolled_at` the latest; `image_uri` null; an
    attribute what the photos that have it agree on, and null where they do not. A mean without a direction is
    the medoid.  table: for a kind of WEIGHED_BY it has the column WEIGHT, which the templates have no more.
    disputed: takes, by attribute, the number of people whose photos do not agree.
    """
    table = table.sort_by([(SUBJECT_ID, "ascending"), (FACE_ID, "ascending")]).combine_chunks()
    if policy == "all" or not table.num_rows:
        return table
    vectors, edges = vectors_of(table), _edges(table[SUBJECT_ID])
    if policy == "medoid":
        return table.take([start + medoid(vectors[start:end]) for start, end in pairwise(edges)])
    means = _means(vectors, _weights(table, policy, edges), edges)
    if WEIGHT in table.column_names:
        table = table.drop_columns([WEIGHT])
    face_ids = table[FACE_ID].to_pylist()
    names = [derived_id(policy, face_ids[start:end]) for start, end in pairwise(edges)]
    return _derived(table, names, means, Counter() if disputed is None else disputed)


def medoid(vectors: NDArray[np.float32]) -> int:
    """Index of the vector with the largest sum of similarities to all; the first of equals."""
    wide = vectors.astype(np.float64)
    return int(np.argmax(np.round(wide @ wide.sum(axis=0), 9)))


def derived_id(policy: str, face_ids: list[str]) -> str:
    """Face id of a template derived from these faces, which are sorted.

    `mean:` and 20 hex digits of their SHA-256.
    """
    digest = hashlib.sha256()
    for face_id in face_ids:
        data = face_id.encode()
        digest.update(len(data).to_bytes(4, "little") + data)
    return f"{policy}:{digest.hexdigest()[:20]}"


def _edges(subjects: pa.ChunkedArray) -> list[int]:
    """Positions at which each person's rows begin in a sorted column, and the end of the last."""
    codes = pc.dictionary_encode(subjects).combine_chunks().indices.to_numpy()
    return [*np.flatnonzero(np.diff(codes, prepend=-1)).tolist(), len(codes)]


def _weights(table: pa.Table, policy: str, edges: list[int]) -> NDArray[np.float64]:
    if policy == "mean":
        return np.ones(table.num_rows)
    known = pc.fill_null(table[WEIGHT if policy in WEIGHED_BY else QUALITY], 0.0).to_numpy()
    weights: NDArray[np.float64] = np.maximum(known.astype(np.float64), 0)
    none = np.add.reduceat(weights, edges[:-1]) == 0
    weights[np.repeat(none, np.diff(edges))] = 1
    return weights


def _means(
    vectors: NDArray[np.float32], weights: NDArray[np.float64], edges: list[int]
) -> NDArray[np.float32]:
    starts = edges[:-1]
    totals = np.add.reduceat(vectors * weights[:, None], starts, axis=0)
    totals /= np.add.reduceat(weights, starts)[:, None]
    lengths = np.linalg.norm(totals, axis=1)
    for person in np.flatnonzero(lengths < _NO_DIRECTION):
        rows = vectors[edges[person] : edges[person + 1]]
        totals[person] = rows[medoid(rows)]
        lengths[person] = 1
    means: NDArray[np.float32] = (totals / lengths[:, None]).astype(np.float32)
    return means


def _derived(
    table: pa.Table, face_ids: list[str], means: NDArray[np.float32], disputed: Counter[str]
) -> pa.Table:
    """The templates of a sorted table. face_ids, means: of its people, in their order."""
    rest = [name for name in table.column_names if name not in _COMPUTED]
    plain = table.select(rest).rename_columns([str(index) for index in range(len(rest))])
    how = [(str(index), _AGGREGATES.get(name, "first")) for index, name in enumerate(rest)]
    own = [(str(index), name) for index, name in enumerate(rest) if name not in FIXED_COLUMNS]
    values = [(index, "count_distinct") for index, _ in own]
    # One thread: `first` needs the order of the rows. Groups come in any order all the same.
    person = str(rest.index(SUBJECT_ID))
    grouped = plain.group_by(person, use_threads=False).aggregate([*how, *values]).sort_by(person)
    columns = {
        name: grouped[f"{index}_{function}"] for name, (index, function) in zip(rest, how, strict=True)
    }
    for index, name in own:
        several = pc.greater(grouped[f"{index}_count_distinct"], 1)
        columns[name] = pc.if_else(several, pa.scalar(None, pa.string()), columns[name])
        disputed[name] += pc.sum(several).as_py()
    columns[FACE_ID] = pa.array(face_ids, pa.string())
    columns[URI] = pa.nulls(len(face_ids), pa.string())
    columns[EMBEDDING] = vector_array(means)
    arrays = [columns[field.name].cast(field.type) for field in table.schema]
    return pa.Table.from_arrays(arrays, schema=table.schema)
