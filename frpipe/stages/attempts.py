"""Marks of parts under way, so that a photo that kills its worker is found and not retried for ever.

Ray restarts a dead worker and hands it the same part again, without end and without telling it. A worker
therefore leaves a mark before it starts a part; the next worker that finds a mark without a published part
knows that somebody died here, and looks for the photo to blame before it starts (see `sandbox`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from frpipe.core.errors import InvariantError
from frpipe.core.reasons import Reason
from frpipe.io.folder import Folder

ATTEMPTS = "_attempts"
_POISON = "poison.json"


@dataclass(frozen=True, slots=True)
class Poison:
    """A photo that cost a worker, by its row in the part."""

    row: int
    reason: Reason
    detail: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """`number` counts all attempts at a part, this one included; `in_launch` those since the job started."""

    number: int
    in_launch: int


class AttemptLog:
    """The marks of one output folder, seen by one launch."""

    def __init__(self, out: Folder, launch: str) -> None:
        self._folder = out.child(ATTEMPTS)
        self._launch = launch

    def begin(self, part: int) -> Attempt:
        """Leave a mark on a part and say how many there are."""
        folder = self._of(part)
        marks = [entry.name for entry in folder.list() if entry.name != _POISON]
        for number in range(len(marks) + 1, len(marks) + 100):
            if folder.create(f"{number:04d}.{self._launch}", b""):
                return Attempt(number, sum(name.endswith(self._launch) for name in marks) + 1)
        raise InvariantError(f"cannot mark part {part} as under way")

    def poison(self, part: int) -> dict[int, Poison]:
        """Photos of the part that are known to cost a worker, by row."""
        try:
            rows = json.loads(self._of(part).read(_POISON))
        except FileNotFoundError:
            return {}
        return {
            row["row"]: Poison(row["row"], Reason(row["reason"]), row["detail"], row["attempts"])
            for row in rows
        }

    def condemn(self, part: int, poison: dict[int, Poison]) -> None:
        """Remember them for later attempts."""
        self._of(part).write(_POISON, json.dumps([asdict(p) for p in poison.values()]).encode())

    def clear(self) -> None:
        """Forget everything: the run is complete."""
        for entry in self._folder.list():
            self._folder.delete(entry.name)

    def _of(self, part: int) -> Folder:
        return self._folder.child(f"{part:06d}")
