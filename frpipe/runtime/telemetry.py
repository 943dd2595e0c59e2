"""Count for Prometheus what workers do, through the exporter that Ray has on every node.

Labels have few values, all known here: a series for each photo, person or path would name them, and would
never end. Outside Ray nothing is counted. Ray puts `ray_` before a name, and `_total` behind a counter.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import pyarrow as pa

from frpipe.core.reasons import Reason, Status

OTHER = "other"
"""The value of a label where its own is not declared."""

Stage = Literal["locate", "embed", "publish", "search", "dedup", "all_pairs"]
_COMPARING = ("search", "dedup", "all_pairs")
_STAGES = ("locate", "embed", "publish", "search", "dedup", "all_pairs")
# A part or unit takes from a tenth of a second to an hour.
_SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """A counter, or a histogram where there are bounds. labels: what values each may have."""

    description: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bounds: tuple[float, ...] = ()

    def exported(self, name: str) -> tuple[str, ...]:
        """The names of the metric's series."""
        ends = ("_bucket", "_count", "_sum") if self.bounds else ("_total",)
        return tuple(f"ray_{name}{end}" for end in ends)


METRICS: Mapping[str, Metric] = {
    "frpipe_photos": Metric(
        "photos that are published; those of a part that is done again count again",
        {"status": tuple(Status), "reason": ("", *Reason)},
    ),
    "frpipe_faces": Metric("faces that are published with an embedding"),
    "frpipe_retried_parts": Metric("parts taken up again because a worker was lost in them"),
    "frpipe_comparisons": Metric("pairs of vectors that were compared", {"stage": _COMPARING}),
    "frpipe_pairs": Metric("pairs that reached the threshold", {"kind": ("same_photo", "same_person")}),
    "frpipe_busy_seconds": Metric("time that workers worked, exact", {"stage": _STAGES}),
    "frpipe_unit_seconds": Metric(
        "time of one part or unit; Ray keeps the buckets, so that the sum is rough",
        {"stage": _STAGES, "outcome": ("ok", "failed")},
        _SECONDS,
    ),
}


def record(name: str, value: float, **labels: str) -> None:
    """Add to a counter of METRICS, or observe in a histogram. KeyError: a name or label that is not there."""
    metric = METRICS[name]
    given = {key: _known(labels[key], values) for key, values in metric.labels.items()}
    if not _in_ray():
        return
    instrument = _instrument(name)
    if metric.bounds:
        instrument.observe(value, given)
    elif value:
        instrument.inc(value, given)


def record_photos(images: pa.Table) -> None:
    """Count a published part. images: its rows, with `status` and `reason`."""
    ends = Counter(zip(images["status"].to_pylist(), images["reason"].to_pylist(), strict=True))
    for (status, reason), photos in ends.items():
        record("frpipe_photos", photos, status=status, reason=reason or "")


@contextmanager
def timed(stage: Stage) -> Iterator[None]:
    """Time a part or unit; also a decorator."""
    start = time.perf_counter()
    outcome = "failed"
    try:
        yield
        outcome = "ok"
    finally:
        seconds = time.perf_counter() - start
        record("frpipe_busy_seconds", seconds, stage=stage)
        record("frpipe_unit_seconds", seconds, stage=stage, outcome=outcome)


def _known(value: str, values: tuple[str, ...]) -> str:
    return str(value) if value in values else OTHER


def forget_ray() -> None:
    """Count nothing from now on: in a fork, Ray belongs to the parent."""
    global _forgotten  # noqa: PLW0603 - it is a fact about the process
    _forgotten = True


_forgotten = False


def _in_ray() -> bool:
    """Whether this process is a worker or driver of Ray; Ray is not imported to find out."""
    ray = sys.modules.get("ray")
    return not _forgotten and ray is not None and bool(ray.is_initialized())


@cache
def _instrument(name: str) -> Any:
    from ray.util.metrics import Counter as RayCounter  # noqa: PLC0415 - only where Ray is there already
    from ray.util.metrics import Histogram  # noqa: PLC0415

    metric = METRICS[name]
    labels = tuple(metric.labels)
    if metric.bounds:
        return Histogram(name, metric.description, list(metric.bounds), labels)
    return RayCounter(name, metric.description, labels)
