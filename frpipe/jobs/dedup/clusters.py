"""From pairs of templates to clusters of subjects, and the one of each that should stay."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.jobs.dedup.schema import CLUSTER_SCHEMA
from frpipe.matching.clusters import Grouping, Links, fresh_id, grouped, inherited
from frpipe.matching.kernel import Indices

_NEVER = np.iinfo(np.int64).max


def clusters_of(
    pairs: Sequence[pa.Table],
    facts: Iterable[pa.Table],
    threshold: float,
    before: Mapping[str, Sequence[str]],
) -> pa.Table:
    """A row for each subject of the pairs; clusters in the order of their smallest ids.

    facts: subject_id, quality, enrolled_at of all templates.  before: the subjects of each cluster of the
    night before, whose ids go on.
    """
    subjects = _subjects(pairs)
    grouping = grouped(len(subjects), _links(pairs, subjects), threshold)
    quality, enrolled = _best(subjects, facts)
    order = np.lexsort((np.arange(len(subjects)), grouping.cluster))
    names = subjects.to_pylist()
    sizes = np.bincount(grouping.cluster, minlength=1)[grouping.cluster]
    columns = {
        "cluster_id": _named(_cluster_ids(grouping.cluster, names, before), grouping.cluster),
        "component_id": _named(_fresh("g-", grouping.component, names, set()), grouping.component),
        "subject_id": subjects,
        "size": pa.array(sizes, pa.int32()),
        "keeper": pa.array(_keepers(grouping, quality, enrolled)),
        "quality": pa.array(quality, pa.float32(), mask=np.isneginf(quality)),
        "enrolled_at": pa.array(enrolled, mask=enrolled == _NEVER).cast(pa.timestamp("us", tz="UTC")),
        "similarity_mean": pa.array(grouping.mean, from_pandas=True),
        "weak": pa.array(grouping.weak),
    }
    return pa.table(columns, schema=CLUSTER_SCHEMA).take(pa.array(order))


def _subjects(pairs: Sequence[pa.Table]) -> pa.StringArray:
    """All ids, sorted."""
    chunks = [table[name].unique() for table in pairs for name in ("subject_a", "subject_b")]
    return pa.chunked_array(chunks, pa.string()).unique().sort()


def _links(pairs: Sequence[pa.Table], subjects: pa.StringArray) -> Links:
    sides = [
        np.concatenate([np.zeros(0, np.int64), *(_numbers(table[name], subjects) for table in pairs)])
        for name in ("subject_a", "subject_b")
    ]
    scores = [np.zeros(0), *(table["similarity"].to_numpy() for table in pairs)]
    return Links.best_of(sides[0], sides[1], np.concatenate(scores))


def _numbers(column: pa.ChunkedArray, subjects: pa.StringArray) -> Indices:
    found: Indices = pc.index_in(column, value_set=subjects).to_numpy().astype(np.int64)
    return found


def _best(subjects: pa.StringArray, facts: Iterable[pa.Table]) -> tuple[np.ndarray, Indices]:
    """(n,) each: the best quality of a subject's templates, minus infinity where unknown; the first time."""
    quality = np.full(len(subjects), -np.inf, np.float32)
    enrolled = np.full(len(subjects), _NEVER, np.int64)
    for table in facts if len(subjects) else ():
        mine = table.filter(pc.is_in(table["subject_id"], value_set=subjects))
        who = _numbers(mine["subject_id"], subjects)
        np.maximum.at(quality, who, pc.fill_null(mine["quality"], -np.inf).to_numpy())
        times = pc.fill_null(mine["enrolled_at"].cast(pa.int64()), _NEVER)
        np.minimum.at(enrolled, who, times.to_numpy())
    return quality, enrolled


def _keepers(grouping: Grouping, quality: np.ndarray, enrolled: Indices) -> np.ndarray:
    """The best quality, then who was there first, then the smallest id."""
    order = np.lexsort((np.arange(len(quality)), enrolled, -quality, grouping.cluster))
    keeper = np.zeros(len(quality), bool)
    keeper[order[np.flatnonzero(np.diff(grouping.cluster[order], prepend=-1))]] = True
    return keeper


def _cluster_ids(groups: Indices, names: Sequence[str], before: Mapping[str, Sequence[str]]) -> list[str]:
    members: list[list[str]] = [[] for _ in range(int(groups.max(initial=-1)) + 1)]
    for group, name in zip(groups.tolist(), names, strict=True):
        members[group].append(name)
    old = inherited(members, before)
    fresh = _fresh("c-", groups, names, set(before), skip={n for n, each in enumerate(old) if each})
    return [each or fresh[number] for number, each in enumerate(old)]


def _fresh(
    prefix: str, groups: Indices, names: Sequence[str], taken: set[str], skip: Iterable[int] = ()
) -> list[str]:
    """An id for each group, of its smallest member. Nodes are in the order of ids."""
    _, first = np.unique(groups, return_index=True)
    leave = set(skip)
    return [
        "" if number in leave else fresh_id(prefix, hashlib.sha256(names[node].encode()).hexdigest(), taken)
        for number, node in enumerate(first.tolist())
    ]


def _named(ids: list[str], groups: Indices) -> pa.StringArray:
    return pa.array(ids, pa.string()).take(pa.array(groups))
