"""Searches and comparisons as their workers do them, one unit after another in this process: no Ray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytest

from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dedup import job as dedup_job
from frpipe.jobs.dedup import plan as dedup_plan
from frpipe.jobs.dedup.worker import Deduplicator
from frpipe.jobs.evaluate import job as metrics_job
from frpipe.jobs.evaluate.all_pairs import plan as all_pairs_plan
from frpipe.jobs.evaluate.all_pairs.worker import ScoreCounter
from frpipe.jobs.identify import job as identify_job
from frpipe.jobs.identify import plan as identify_plan
from frpipe.jobs.identify.worker import _Searcher
from frpipe.runtime.allocation import Node


def without_ray(patch: pytest.MonkeyPatch) -> None:
    """Put this process in the place of a cluster of two CPUs, and draw no plots."""
    for module in (identify_job, dedup_job, all_pairs_plan):
        patch.setattr(module, "cluster", _cluster)
    patch.setattr(identify_plan, "search", _search)
    patch.setattr(dedup_plan, "dedup", lambda spec, units, _: _pairs(Deduplicator(spec), units))
    for evaluated in (all_pairs_plan, metrics_job):
        patch.setattr(evaluated, "MetricsOutput", _Undrawn)
    patch.setattr(all_pairs_plan, "count_scores", lambda spec, units, _: _pairs(ScoreCounter(spec), units))


class _Undrawn:
    def __init__(self, out: Folder, *_: object) -> None:
        self._out = out

    def write(self, _: object) -> list[Any]:
        return []

    def publish(self, _: object) -> dict[str, Any]:
        run.seal(self._out, [], {"drawn": False}, "")
        return {"drawn": False}


@contextmanager
def _cluster(*_: object) -> Iterator[list[Node]]:
    yield [Node(2)]


def _search(
    spec: Any, publication: Any, units: Mapping[int, Sequence[int]], slices: object, pool: object
) -> Iterator[int]:
    work = _Searcher(spec, publication, True)
    for unit, parts in units.items():
        ticket = pa.Table.from_pylist([{"unit": unit, "parts": list(parts), "first": 0, "last": None}])
        yield work(ticket)["published"][0].as_py()


def _pairs(work: Any, units: Mapping[int, tuple[int, int]]) -> Iterator[dict[str, Any]]:
    for unit, (first, second) in units.items():
        yield work(pa.table({"unit": [unit], "first": [first], "second": [second]})).to_pylist()[0]
