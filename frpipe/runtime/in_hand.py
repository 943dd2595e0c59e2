"""The photos that workers have in hand, for the driver's progress. An actor holds what they say of them.

Nothing else depends on it: what is late or lost is missing from a line of progress for a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import ray

Counts = Mapping[str, int]
_PATIENCE_S = 2.0
# Workers tell of one part each.
_KEPT = 10_000


class InHand:
    """What of each part is located; kept on the cluster that has been joined, for as long as this is."""

    def __init__(self) -> None:
        # It takes no CPU of the workers', and starts anew, empty, where its node is lost.
        self._board: Any = ray.remote(num_cpus=0, max_restarts=-1)(_Board).remote()

    def report(self, part: int, counts: Counts) -> None:
        """Say how far a part is; does not wait."""
        with suppress(ray.exceptions.RayError):
            self._board.note.remote(part, dict(counts))

    def read(self) -> dict[int, Counts]:
        """What was last said of each part; nothing where there is no answer soon."""
        try:
            parts: dict[int, Counts] = ray.get(self._board.read.remote(), timeout=_PATIENCE_S)
        except ray.exceptions.RayError:
            return {}
        return parts


class _Board:
    """The actor. Of many parts only those that were told of last are kept."""

    def __init__(self) -> None:
        self._parts: dict[int, Counts] = {}

    def note(self, part: int, counts: Counts) -> None:
        """Put a part last."""
        self._parts.pop(part, None)
        self._parts[part] = counts
        if len(self._parts) > _KEPT:
            del self._parts[next(iter(self._parts))]

    def read(self) -> dict[int, Counts]:
        """The parts, in the order in which they were last told of."""
        return self._parts
