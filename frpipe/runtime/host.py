"""What a worker knows of the cluster around it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

Report = Callable[[int, Mapping[str, int]], None]
"""Told a part, how many of its photos are located, and how many have ended, by status, with their faces."""
LOCATED = "located"


def _unheard(_part: int, _counts: Mapping[str, int]) -> None:
    """For a worker whom nobody watches."""


@dataclass(frozen=True, slots=True)
class Host:
    """node: on which the worker runs.  living: names the nodes that are up now. Without a cluster, none."""

    node: str = ""
    living: Callable[[], Collection[str]] = tuple
    report: Report = _unheard


ALONE = Host()
