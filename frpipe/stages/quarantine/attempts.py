"""Mark parts under way, so that a photo that kills its worker is found and not retried for ever.

Ray restarts a dead worker and hands it the same part again, without end and without telling it. A worker
therefore leaves a mark with the name of its node before it starts a part; the next worker that finds a mark
without a published part knows that somebody died here. Where the node went too, or the driver, that explains
it, and the part is done again. Else, or at the second loss, a photo may be to blame, and is looked for first
(see `sandbox`).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass

from frpipe.core.errors import InvariantError, OutputError
from frpipe.core.reasons import Reason
from frpipe.io.storage.folder import Folder
from frpipe.runtime.host import ALONE, Host

ATTEMPTS = "_attempts"
_POISON = "poison.json"
# So many times the limit may a part be lost where most of its workers went with their nodes: that says little
# of the part, but a photo might take whole nodes along that no trial sees.
_WITH_NODES = 4


@dataclass(frozen=True, slots=True)
class Poison:
    """A photo that cost a worker, by its row in the part."""

    row: int
    reason: Reason
    detail: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt at a part. number: from 1.  suspect: whether a photo may have ended those before."""

    number: int
    suspect: bool


class AttemptLog:
    """The marks of one pool's workers in one output folder, as seen by one launch."""

    def __init__(self, out: Folder, launch: str, pool: str, limit: int, host: Host = ALONE) -> None:
        self._folder = out.child(f"{ATTEMPTS}/{pool}")
        self._launch = launch
        self._limit = limit
        self._host = host

    def begin(self, part: int) -> Attempt:
        """Leave a mark on a part.

        Raises OutputError where this launch has lost `limit` workers over it on nodes that are still up, or
        several times as many in all.
        """
        folder = self._of(part)
        marks = [entry.name for entry in folder.list() if entry.name != _POISON]
        ours = [name for name in marks if name.endswith(self._launch)]
        unexplained = self._unexplained(folder, ours)
        if len(unexplained) >= self._limit or len(ours) >= self._limit * _WITH_NODES:
            raise OutputError(
                f"part {part} has lost its worker {len(ours)} times, and no single photo is to blame",
                "give the workers more memory, or lower batch_rows, or use smaller parts in a new output",
            )
        suspect = len(marks) > 1 or bool(unexplained)
        for number in range(len(marks) + 1, len(marks) + 100):
            if folder.create(f"{number:04d}.{self._launch}", self._host.node.encode()):
                return Attempt(number, suspect)
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
        """Remember such photos for later attempts."""
        self._of(part).write(_POISON, json.dumps([asdict(p) for p in poison.values()]).encode())

    def _unexplained(self, folder: Folder, marks: list[str]) -> list[str]:
        """The marks of workers whose node is still up."""
        living = self._host.living() if marks else ()
        nodes = {name: folder.read(name).decode() for name in marks}
        return [name for name, node in nodes.items() if not node or node in living]

    def _of(self, part: int) -> Folder:
        return self._folder.child(f"{part:06d}")


def forget_attempts(out: Folder, parts: Collection[int]) -> None:
    """Remove the marks of parts that were published and are done again: nobody died over them.

    What is known of their photos stays.
    """
    folders = {f"{part:06d}" for part in parts}
    marks = (entry.name for entry in out.list(ATTEMPTS) if not entry.name.endswith(f"/{_POISON}"))
    out.delete_all([name for name in marks if name.split("/")[-2] in folders])


def clear_attempts(out: Folder) -> None:
    """Forget all marks and photos: the run is complete."""
    # A mark that a killed worker left half written would keep its folder.
    out.child(ATTEMPTS).sweep(0)
    out.clear(ATTEMPTS)
