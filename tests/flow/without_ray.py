"""For jobs in this process: they do their parts one after the other. The same code, minus Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pytest

from frpipe.jobs.enroll import job as enroll_flow
from frpipe.jobs.replay import job as replay_flow
from frpipe.runtime.allocation import Node
from frpipe.stages import workers
from frpipe.stages.run_spec import RunSpec


@pytest.fixture(scope="module", autouse=True)
def without_ray() -> Iterator[None]:
    """For all tests of a module that imports it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enroll_flow, "cluster", _alone)
        patch.setattr(replay_flow, "cluster", _alone)
        patch.setattr(enroll_flow, "stream", _one_by_one)
        yield


@contextmanager
def _alone(*_: object) -> Iterator[list[Node]]:
    yield [Node(2.0)]


def _one_by_one(spec: RunSpec, parts: Sequence[int], *_: object) -> Iterator[dict[str, int]]:
    worker = workers.Enroll(spec)
    for part in parts:
        yield worker(pa.table({"part": [part]})).to_pylist()[0]
