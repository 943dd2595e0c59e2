"""Find the photos that kill, hang or exhaust a worker, by trying each alone in a child process (see `trial`).

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
from collections.abc import Callable
from typing import IO, NamedTuple

from frpipe.core.errors import InvariantError, StorageError
from frpipe.core.reasons import Reason
from frpipe.stages.attempts import Poison
from frpipe.stages.failure import revive
from frpipe.stages.spec import RunSpec
from frpipe.stages.trial import DONE, FAILED, IDLE, MEMORY_EXIT

# A photo is condemned when it does it again: a child may also be killed from outside.
_STRIKES = 2
_IDLE_TIMEOUT_S = 600.0


class _Verdict(NamedTuple):
    row: int
    reason: Reason
    detail: str


def find_poison(
    spec: RunSpec, part: int, rows: int, known: dict[int, Poison], attempt: int
) -> dict[int, Poison]:
    """Every photo of the part that a worker does not survive, those already known included, by row.

    attempt: the number of this attempt at the part.  Raises what stops a search for other reasons: the
    worker's own FrpipeError, or InvariantError.
    """
    poison = dict(known)
    strikes: Counter[int] = Counter()
    start = 0
    while start < rows:
        verdict = _try_rows(spec, part, start, sorted(poison))
        if verdict is None:
            break
        strikes[verdict.row] += 1
        if strikes[verdict.row] >= _STRIKES:
            poison[verdict.row] = Poison(*verdict, attempts=attempt - 1 + _STRIKES)
        start = verdict.row
    return poison


def _try_rows(spec: RunSpec, part: int, start: int, skip: list[int]) -> _Verdict | None:
    order = {"spec": spec.model_dump(mode="json"), "part": part, "start": start, "skip": skip}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-m", "frpipe.stages.trial"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as child:
        try:
            return _watch(child, json.dumps(order).encode(), spec.config.resources.row_timeout_s)
        finally:
            child.kill()


def _watch(child: subprocess.Popen[bytes], order: bytes, row_timeout_s: float) -> _Verdict | None:
    if child.stdin is None or child.stdout is None:
        raise InvariantError("the trial has no pipes")
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(order)
        child.stdin.close()
    read_line = _line_reader(child.stdout)
    row: int | None = None
    while True:
        line = read_line(_IDLE_TIMEOUT_S if row is None else row_timeout_s)
        if line == DONE:
            return None
        if line is None:
            return _hung(row, row_timeout_s)
        if line == "":
            return _ended(row, child.wait())
        if line.startswith(FAILED):
            raise revive(line.removeprefix(FAILED))
        row = None if line == IDLE else int(line)


def _line_reader(pipe: IO[bytes]) -> Callable[[float], str | None]:
    """Reads a line with a time limit: None when time is up, '' at the end."""
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


def _hung(row: int | None, row_timeout_s: float) -> _Verdict:
    if row is None:
        raise StorageError(
            f"no photo could be fetched in {_IDLE_TIMEOUT_S:g} s", "check the photos' storage, then run again"
        )
    return _Verdict(row, Reason.HUNG_WORKER, f"no answer in {row_timeout_s:g} s")


def _ended(row: int | None, code: int) -> _Verdict:
    if row is not None and code == MEMORY_EXIT:
        return _Verdict(row, Reason.EXHAUSTED_MEMORY, "over the memory limit of one photo")
    if row is not None and code < 0:
        return _Verdict(row, Reason.CRASHED_WORKER, signal.Signals(-code).name)
    raise InvariantError(f"the trial of single photos ended with exit code {code}", "run again and report it")
