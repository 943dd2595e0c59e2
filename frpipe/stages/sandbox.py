"""Find the photos that kill, hang or exhaust a worker, by trying each alone in a child process.

Nothing of what the child computes is used: a part without such a photo is then done as always, in the same
batches, so that its rows come out as they would have without the search.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from frpipe.core.errors import InvariantError
from frpipe.core.reasons import Reason
from frpipe.stages.attempts import Poison
from frpipe.stages.spec import RunSpec

_READY = "ready"
_DONE = "done"
_START_TIMEOUT_S = 300.0
_MEMORY_EXIT = 77


def find_poison(
    spec: RunSpec, part: int, rows: int, known: dict[int, Poison], attempt: int
) -> dict[int, Poison]:
    """Every photo of the part that a worker does not survive, those already known included."""
    poison = dict(known)
    start = 0
    while start < rows:
        end = _try_rows(spec, part, start, sorted(poison))
        if end is None:
            break
        row, reason, detail = end
        poison[row] = Poison(row, reason, detail, attempt)
        start = row + 1
    return poison


def _try_rows(spec: RunSpec, part: int, start: int, skip: list[int]) -> tuple[int, Reason, str] | None:
    order = {"spec": spec.model_dump(mode="json"), "part": part, "start": start, "skip": skip}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-m", "frpipe.stages.sandbox"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as child:
        try:
            return _watch(child, json.dumps(order).encode(), spec.config.resources.row_timeout_s)
        finally:
            child.kill()


def _watch(
    child: subprocess.Popen[bytes], order: bytes, row_timeout_s: float
) -> tuple[int, Reason, str] | None:
    if child.stdin is None or child.stdout is None:
        raise InvariantError("the sandbox has no pipes")
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(order)
        child.stdin.close()
    row = -1
    read_line = _line_reader(child.stdout)
    while True:
        line = read_line(_START_TIMEOUT_S if row < 0 else row_timeout_s)
        if line is None:
            return _blame(row, Reason.HUNG_WORKER, f"no answer in {row_timeout_s:g} s")
        if line == _DONE:
            return None
        if line == "":
            return _verdict(row, child.wait())
        if line != _READY:
            row = int(line)


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


def _verdict(row: int, code: int) -> tuple[int, Reason, str]:
    if code == _MEMORY_EXIT:
        return _blame(row, Reason.EXHAUSTED_MEMORY, "over the memory limit of one photo")
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return _blame(row, Reason.CRASHED_WORKER, how)


def _blame(row: int, reason: Reason, detail: str) -> tuple[int, Reason, str]:
    if row < 0:
        raise InvariantError(f"the sandbox failed before its first photo ({detail})")
    return row, reason, detail


def _child() -> None:
    """Locate the faces of each photo alone, saying its row first. Only the last word said matters."""
    from frpipe.io.folder import Folder  # noqa: PLC0415 - heavy, and only in the child
    from frpipe.io.partition import read_part  # noqa: PLC0415
    from frpipe.stages.workers import locator_of, photos_of  # noqa: PLC0415

    say = _take_stdout()
    order = json.load(sys.stdin)
    spec = RunSpec.model_validate(order["spec"])
    locator = locator_of(spec)
    plan = read_part(Folder.at(spec.output), order["part"])
    rows = [row for row in range(order["start"], plan.num_rows) if row not in order["skip"]]
    say(_READY)
    _limit_memory(spec.config.resources.row_memory_mb << 20)
    for row, photo in zip(rows, photos_of(spec, plan, rows), strict=True):
        say(str(row))
        outcome = next(locator.locate([photo]))
        if outcome.reason is Reason.EXHAUSTED_MEMORY:
            raise MemoryError
    say(_DONE)


def _take_stdout() -> Callable[[str], None]:
    """Keep standard output for our words alone: what libraries print goes to standard error."""
    channel = os.dup(1)
    os.dup2(2, 1)

    def say(word: str) -> None:
        os.write(channel, f"{word}\n".encode())

    return say


def _limit_memory(more: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more,) * 2)


if __name__ == "__main__":
    try:
        _child()
    except MemoryError:
        os._exit(_MEMORY_EXIT)
