"""Find the photos that kill, hang or exhaust a worker, by trying them in a child process (see `trial`).

The part is tried as a worker does it, but for smaller windows. Where the child does not survive, one of the
few photos in hand may be to blame: each of them is tried alone.

Nothing of what the child computes is used: a part without such a photo is then done as always, in the same
batches, so that its rows come out as they would have without the search.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import IO, NamedTuple

from frpipe.core.errors import InvariantError, StorageError
from frpipe.core.reasons import Reason
from frpipe.runtime.failure import revive
from frpipe.stages.quarantine.attempts import Poison
from frpipe.stages.quarantine.trial import BUSY, DONE, FAILED, MEMORY_EXIT, TAKEN, THROUGH
from frpipe.stages.run_spec import RunSpec

# A photo is condemned when it does it again, alone: a child may also be killed from outside.
_STRIKES = 2
_IDLE_TIMEOUT_S = 600.0


class _Death(NamedTuple):
    """The end of a child. rows: in hand, as they were taken; none where it was loading or fetching."""

    rows: list[int]
    reason: Reason
    detail: str


def find_poison(
    spec: RunSpec, part: int, rows: Iterable[int], known: dict[int, Poison], attempt: int
) -> dict[int, Poison]:
    """Find every photo among these rows that a worker does not survive, those already known included, by row.

    attempt: the number of this attempt at the part.  Raises what stops a search for other reasons: the
    worker's own FrpipeError, or InvariantError.
    """
    poison = dict(known)
    left = [row for row in rows if row not in poison]
    while left and (death := _try_rows(spec, part, left, alone=False)):
        # Without one in hand it may have been any: the room for photos fetched ahead may be too small.
        suspects = death.rows or left
        # The one taken last is most often the one.
        blamed = _blame(spec, part, suspects[::-1])
        if blamed is None:
            left = [row for row in left if row > suspects[-1]]
            continue
        row = blamed.rows[0]
        poison[row] = Poison(row, blamed.reason, blamed.detail, attempts=attempt - 1 + _STRIKES)
        left = [each for each in left if each >= suspects[0] and each != row]
    return poison


def _blame(spec: RunSpec, part: int, suspects: Sequence[int]) -> _Death | None:
    """Find the first of the suspects that the child does not survive, alone and twice; how it ended then."""
    strikes: Counter[int | None] = Counter()
    while death := _try_rows(spec, part, suspects, alone=True):
        row = death.rows[0] if death.rows else None
        strikes[row] += 1
        if strikes[row] >= _STRIKES:
            if row is None:
                raise InvariantError("the trial of single photos does not start", "run again and report it")
            return death
        if row is not None:
            suspects = suspects[suspects.index(row) :]
    return None


def _try_rows(spec: RunSpec, part: int, rows: Sequence[int], *, alone: bool) -> _Death | None:
    order = {"spec": spec.model_dump(mode="json"), "part": part, "rows": list(rows), "alone": alone}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-m", "frpipe.stages.quarantine.trial"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as child:
        try:
            return _watch(child, json.dumps(order).encode(), spec.config.resources.row_timeout_s)
        finally:
            child.kill()


def _watch(child: subprocess.Popen[bytes], order: bytes, row_timeout_s: float) -> _Death | None:
    if child.stdin is None or child.stdout is None:
        raise InvariantError("the trial has no pipes")
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(order)
        child.stdin.close()
    read_line = _line_reader(child.stdout)
    hand: list[int] = []
    busy = False
    while True:
        line = read_line(row_timeout_s if busy else _IDLE_TIMEOUT_S)
        if line is None:
            return _hung(hand if busy else [], row_timeout_s)
        if line == "":
            return _ended(hand if busy else [], child.wait())
        word, _, rest = line.partition(" ")
        if word == THROUGH:
            return None
        if word == FAILED:
            raise revive(rest)
        if word == TAKEN:
            hand.append(int(rest))
        if word == DONE:
            hand.remove(int(rest))
        busy = word in (TAKEN, DONE, BUSY)


def _line_reader(pipe: IO[bytes]) -> Callable[[float], str | None]:
    """A function that reads a line with a time limit: None when time is up, '' at the end."""
    pending = bytearray()
    selector = selectors.DefaultSelector()
    selector.register(pipe, selectors.EVENT_READ)

    def read(timeout_s: float) -> str | None:
        while b"\n" not in pending:
            if not selector.select(timeout_s):
                return None
            block = os.read(pipe.fileno(), 65536)
            if not block:
                return ""
            pending.extend(block)
        line, _, rest = bytes(pending).partition(b"\n")
        pending[:] = rest
        return line.decode()

    return read


def _hung(rows: list[int], row_timeout_s: float) -> _Death:
    if not rows:
        raise StorageError(
            f"no photo could be fetched in {_IDLE_TIMEOUT_S:g} s", "check the photos' storage, then run again"
        )
    return _Death(rows, Reason.HUNG_WORKER, f"no answer in {row_timeout_s:g} s")


def _ended(rows: list[int], code: int) -> _Death:
    if code == MEMORY_EXIT:
        return _Death(rows, Reason.EXHAUSTED_MEMORY, "over the memory limit of one photo")
    if code < 0:
        return _Death(rows, Reason.CRASHED_WORKER, signal.Signals(-code).name)
    raise InvariantError(f"the trial of single photos ended with exit code {code}", "run again and report it")
