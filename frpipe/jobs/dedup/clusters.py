"""Cluster the subjects of pairs of templates, and choose the subject of each cluster to keep."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.io.storage.whole_file import batches
from frpipe.jobs.dedup.schema import CLUSTER_SCHEMA
from frpipe.matching.clusters import BestLinks, Grouping, Links, fresh_id, grouped, inherited
from frpipe.matching.kernel import Indices

_FRESH_IDS = 1 << 18
_NEVER = np.iinfo(np.int64).max


LINK_COLUMNS = ["subject_a", "subject_b", "similarity"]
"""Columns of pairs that clusters are made from."""


def clusters_of(
    subjects: pa.StringArray,
    links: Links,
    facts: Iterable[pa.Table],
    threshold: float,
    before: Mapping[str, Sequence[str]],
) -> pa.Table:
    """Tabulate a row for each subject of the pairs, clusters in the order of their smallest ids.

    subjects: of the pairs, sorted.  links: between their numbers.  facts: subject_id, quality, enrolled_at of
    all templates.  before: the subjects of each cluster of the previous result, whose ids are kept.
    """
    grouping = grouped(len(subjects), links, threshold)
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


class Subjects:
    """The distinct ids of pairs that come some at a time."""

    def __init__(self) -> None:
        self._chunks: list[pa.Array] = []
        self._fresh = self._known = 0

    def add(self, ids: pa.Array | pa.ChunkedArray) -> None:
        """Add ids, which may repeat."""
        ids = ids.unique()
        self._chunks.append(ids)
        self._fresh += len(ids)
        if self._fresh > max(_FRESH_IDS, self._known):
            self._reduce()

    def sorted(self) -> pa.StringArray:
        """Sort the ids."""
        self._reduce()
        return self._chunks[0].sort()

    def _reduce(self) -> None:
        found = pa.chunked_array(self._chunks, pa.string()).unique()
        self._chunks, self._fresh, self._known = [found], 0, len(found)


def subjects_in(data: bytes) -> pa.StringArray:
    """Read the distinct ids of a file of pairs, sorted."""
    found = Subjects()
    for batch in batches(data, LINK_COLUMNS[:2]):
        for side in LINK_COLUMNS[:2]:
            found.add(batch.column(side))
    return found.sorted()


def links_in(data: bytes, subjects: pa.StringArray) -> Links:
    """Read the best links of a file of pairs, by numbers of subjects."""
    return links_of(batches(data, LINK_COLUMNS), subjects)


def links_of(pairs: Iterable[pa.RecordBatch | pa.Table], subjects: pa.StringArray) -> Links:
    """Collect the best links of pairs that come some at a time, by numbers of subjects."""
    found = BestLinks(len(subjects))
    for some in pairs:
        a, b = (_numbers(some.column(side), subjects) for side in LINK_COLUMNS[:2])
        found.add(a, b, some.column(LINK_COLUMNS[2]).to_numpy())
    return found.links()


def _numbers(column: pa.Array | pa.ChunkedArray, subjects: pa.StringArray) -> Indices:
    found: Indices = pc.index_in(column, value_set=subjects).to_numpy().astype(np.int64)
    return found


def _best(subjects: pa.StringArray, facts: Iterable[pa.Table]) -> tuple[np.ndarray, Indices]:
    """The best quality of each subject, (n,), -inf where unknown, and the first time of enrolment, (n,)."""
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
    """Mark the subject to keep: of the best quality, then enrolled first, then of the smallest id."""
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
    """Make an id for each group from its smallest member. Nodes are in the order of ids."""
    _, first = np.unique(groups, return_index=True)
    leave = set(skip)
    return [
        "" if number in leave else fresh_id(prefix, hashlib.sha256(names[node].encode()).hexdigest(), taken)
        for number, node in enumerate(first.tolist())
    ]


def _named(ids: list[str], groups: Indices) -> pa.StringArray:
    return pa.array(ids, pa.string()).take(pa.array(groups))
