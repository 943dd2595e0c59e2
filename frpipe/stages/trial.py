"""The child that tries the photos of a part one at a time, saying what it is about to do. Run by `sandbox`.

Words on standard output, a line each: `idle` (loading or fetching: what happens now is no photo's fault), a
row's number (the photo is being worked on), `failed` with an error of ours, `done`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from frpipe.core.config import SINGLE_LOOK_SIDE_PX
from frpipe.core.reasons import Reason, Reject
from frpipe.io.folder import Folder
from frpipe.io.partition import read_part
from frpipe.stages.failure import EXPECTED, as_text
from frpipe.stages.locate import Locator, locator_of
from frpipe.stages.spec import RunSpec

IDLE = "idle"
DONE = "done"
FAILED = "failed "
MEMORY_EXIT = 77

Say = Callable[[str], None]


def try_photos(order: dict[str, Any], say: Say) -> None:
    """Locate the faces of each photo from row `start` on, but for those to `skip`."""
    from frpipe.stages.workers import fetcher_of  # noqa: PLC0415 - workers import us

    say(IDLE)
    spec = RunSpec.model_validate(order["spec"])
    plan = read_part(Folder.at(spec.output), order["part"])
    locator, fetcher = locator_of(spec.config, spec.detector, spec.judge), fetcher_of(spec)
    _warm_up(locator, spec.config.detect.max_side_px or SINGLE_LOOK_SIDE_PX)
    _limit_memory(spec.config.resources.row_memory_mb << 20)
    for row in range(order["start"], plan.num_rows):
        if row in order["skip"]:
            continue
        try:
            photo = fetcher.fetch(plan["location"][row].as_py())
        except Reject:
            continue
        say(str(row))
        _try(locator, photo)
        say(IDLE)
    say(DONE)


def _try(locator: Locator, photo: bytes) -> None:
    outcome = next(locator.locate([photo]))
    if outcome.reason is Reason.EXHAUSTED_MEMORY:
        raise MemoryError


def _warm_up(locator: Locator, side: int) -> None:
    """Let the model take its memory before photos are measured."""
    buffer = BytesIO()
    Image.new("RGB", (side, side)).save(buffer, "PNG")
    next(locator.locate([buffer.getvalue()]))


def _limit_memory(more: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more,) * 2)


def _take_stdout() -> Say:
    """Keep standard output for our words alone: what libraries print goes to standard error."""
    channel = os.dup(1)
    os.dup2(2, 1)

    def say(word: str) -> None:
        os.write(channel, f"{word}\n".encode())

    return say


def _main() -> None:
    say = _take_stdout()
    try:
        try_photos(json.load(sys.stdin), say)
    except MemoryError:
        os._exit(MEMORY_EXIT)
    except EXPECTED as error:
        say(FAILED + as_text(error))


if __name__ == "__main__":
    _main()
