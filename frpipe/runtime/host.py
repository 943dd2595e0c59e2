"""The cluster around a worker, as far as it knows it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

Report = Callable[[int, Mapping[str, int]], None]
"""Told a part, how many of its photos are located, and how many have ended, by status, with their faces."""
LOCATED = "located"


def _unheard(_part: int, _counts: Mapping[str, int]) -> None:
    """Report nothing: nobody watches this worker."""


@dataclass(frozen=True, slots=True)
class Host:
    """The host of a worker.

    node: on which it runs.  living: names the nodes that are up now; none without a cluster.
    """

    node: str = ""
    living: Callable[[], Collection[str]] = tuple
    report: Report = _unheard


ALONE = Host()
