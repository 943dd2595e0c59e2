"""Marks of parts under way, so that a photo that kills its worker is found and not retried for ever.

Ray restarts a dead worker and hands it the same part again, without end and without telling it. A worker
therefore leaves a mark before it starts a part; the next worker that finds a mark without a published part
knows that somebody died here, and looks for the photo to blame before it starts (see `sandbox`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from frpipe.core.errors import InvariantError, OutputError
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


class AttemptLog:
    """The marks of one pool's workers in one output folder, as seen by one launch."""

    def __init__(self, out: Folder, launch: str, pool: str, limit: int) -> None:
        self._folder = out.child(f"{ATTEMPTS}/{pool}")
        self._launch = launch
        self._limit = limit

    def begin(self, part: int) -> int:
        """Leave a mark on a part; the number of this attempt at it, from 1.

        Raises OutputError where this launch has tried it `limit` times already.
        """
        folder = self._of(part)
        marks = [entry.name for entry in folder.list() if entry.name != _POISON]
        if sum(name.endswith(self._launch) for name in marks) >= self._limit:
            raise OutputError(
                f"part {part} has lost its worker {self._limit} times, and no single photo is to blame",
                "give the workers more memory, or lower batch_rows, or use smaller parts in a new output",
            )
        for number in range(len(marks) + 1, len(marks) + 100):
            if folder.create(f"{number:04d}.{self._launch}", b""):
                return number
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

    def _of(self, part: int) -> Folder:
        return self._folder.child(f"{part:06d}")


def clear_attempts(out: Folder) -> None:
    """Forget everything: the run is complete."""
    for entry in out.list(ATTEMPTS):
        out.delete(entry.name)
