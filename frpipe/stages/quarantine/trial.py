"""Try photos of a part in a child process, saying what is about to be done. Run by `sandbox`.

Words on standard output, a line each: `idle` (loading or fetching: what happens now is no photo's fault),
`taken` with a row's number (it is in hand and being worked on, until `done` with that number), `busy` (all
are fetched), `failed` with an error of ours, `through`.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
from PIL import Image

from frpipe.core.config import SINGLE_LOOK_SIDE_PX, ResourcesConfig
from frpipe.core.reasons import Reason, Reject
from frpipe.io.manifest.fetch import Fetcher
from frpipe.io.output.plan import read_part
from frpipe.io.storage.folder import Folder
from frpipe.runtime.failure import EXPECTED, as_text
from frpipe.runtime.parent_death import die_with_parent
from frpipe.stages.chain import StageChain
from frpipe.stages.locate import Located, Locator, locator_of
from frpipe.stages.run_spec import RunSpec

IDLE = "idle"
BUSY = "busy"
TAKEN = "taken"
DONE = "done"
FAILED = "failed"
THROUGH = "through"
MEMORY_EXIT = 77

# In hand at once where photos are tried together: few enough to try each alone afterwards.
_TOGETHER = 8
# Memory beside the photos', for photos that are fetched ahead, and for each thread that fetches them.
_AHEAD_MB, _THREAD_MB = 1024, 144
# Of /proc/self/statm: pages of data and stack, which is what RLIMIT_DATA counts.
_DATA = 5

Say = Callable[[str], None]
Do = Callable[[Iterable[bytes | Reject]], Iterator[Located]]


def try_photos(order: dict[str, Any], say: Say) -> None:
    """Do each photo in `rows` up to its embedding, in this order: each alone, or as a worker does."""

    say(IDLE)
    cv2.setNumThreads(1)
    spec = RunSpec.model_validate(order["spec"])
    plan = read_part(Folder.at(spec.output), order["part"])
    each = _alone if order["alone"] else _together
    spec = spec if order["alone"] else _with_small_windows(spec)
    chain = StageChain.of(spec.config, spec.stage_cards)
    barred = spec.obeyed.content_test()
    locator = locator_of(spec.config, spec.detector, spec.judge, barred, chain.enlarged)
    _warm_up(locator, spec.config.detect.max_side_px or SINGLE_LOOK_SIDE_PX)
    each(partial(_done, locator, chain), spec, plan, order["rows"], say)
    say(THROUGH)


def _done(locator: Locator, chain: StageChain, photos: Iterable[bytes | Reject]) -> Iterator[Located]:
    """Outcomes of photos after all that a worker of the locate pool does."""
    for outcome in locator.locate(photos):
        if outcome.reason == Reason.EXHAUSTED_MEMORY:
            raise MemoryError
        chain.apply(outcome)
        yield outcome


def _alone(do: Do, spec: RunSpec, plan: pa.Table, rows: Sequence[int], say: Say) -> None:
    """Try photos one at a time: what happens is this photo's doing."""
    fetcher = Fetcher.of(spec.config)
    _limit_memory(spec.config.resources.row_memory_mb)
    for row in rows:
        try:
            photo = fetcher.fetch(plan["location"][row].as_py())
        except Reject:
            continue
        say(f"{TAKEN} {row}")
        next(do([photo]))
        say(f"{DONE} {row}")
        say(IDLE)


def _together(do: Do, spec: RunSpec, plan: pa.Table, rows: Sequence[int], say: Say) -> None:
    """Try photos fetched ahead and in windows of a few. More memory is allowed than to one photo alone."""
    from frpipe.stages.workers import photos_of  # noqa: PLC0415

    _limit_memory(spec.config.resources.row_memory_mb + _beside_mb(spec.config.resources))
    taken: deque[int] = deque()
    photos = photos_of(Fetcher.of(spec.config), spec.config.resources, plan, rows)
    for _ in do(_announced(photos, taken, say)):
        say(f"{DONE} {taken.popleft()}")


def _announced(
    photos: Iterator[tuple[int, bytes | Reject]], taken: deque[int], say: Say
) -> Iterator[bytes | Reject]:
    say(IDLE)
    for row, photo in photos:
        say(f"{TAKEN} {row}")
        taken.append(row)
        yield photo
        say(IDLE)
    say(BUSY)


def _with_small_windows(spec: RunSpec) -> RunSpec:
    resources = spec.config.resources.model_copy(update={"window_rows": _TOGETHER})
    return spec.model_copy(update={"config": spec.config.model_copy(update={"resources": resources})})


def _beside_mb(resources: ResourcesConfig) -> int:
    return _AHEAD_MB + resources.window_mb + _THREAD_MB * resources.fetch_threads


def _warm_up(locator: Locator, side: int) -> None:
    """Let the model take its memory before photos are measured."""
    buffer = BytesIO()
    # Not of one colour: that would be rejected before a model sees it.
    Image.linear_gradient("L").convert("RGB").resize((side, side)).save(buffer, "PNG")
    next(locator.locate([buffer.getvalue()]))


def _limit_memory(more_mb: int) -> None:
    """Limit what may be written: CUDA reserves addresses by the terabyte, and no memory with them."""
    pages = int(Path("/proc/self/statm").read_text().split()[_DATA])
    resource.setrlimit(resource.RLIMIT_DATA, (pages * resource.getpagesize() + (more_mb << 20),) * 2)


def _take_stdout() -> Say:
    """Keep standard output for this program's lines: what libraries print goes to standard error."""
    channel = os.dup(1)
    os.dup2(2, 1)

    def say(word: str) -> None:
        os.write(channel, f"{word}\n".encode())

    return say


def _main() -> None:
    die_with_parent()
    say = _take_stdout()
    try:
        try_photos(json.load(sys.stdin), say)
    except MemoryError:
        os._exit(MEMORY_EXIT)
    except EXPECTED as error:
        say(f"{FAILED} {as_text(error)}")


if __name__ == "__main__":
    _main()
