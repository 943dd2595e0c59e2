"""Have something happen between two changes of any folder, or at any call: a death, or what others do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import frpipe
from frpipe.io.storage.folder import Folder

_CHANGES = ("write", "create", "publish", "adopt", "delete", "delete_all")


class Killed(BaseException):
    """The death of a process. Not an Exception: nothing catches it on the way out."""


def die() -> None:
    """An event for `at_change`: from then on no write succeeds."""
    raise Killed


@contextmanager
def at_change(moment: int | None, event: Callable[[], object] = die) -> Iterator[list[int]]:
    """Have an event before the n-th write, creation or deletion: death lasts, anything else happens once.

    The list holds how many changes there were. Seen is what happens in this process.
    """
    count, inside = [0], [False]

    def hooked(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if inside[0]:
                return original(*arguments)
            count[0] += 1
            if count[0] == moment or (moment is not None and event is die and count[0] > moment):
                inside[0] = event is not die
                event()
                inside[0] = False
            return original(*arguments)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in _CHANGES:
            patch.setattr(Folder, name, hooked(getattr(Folder, name)))
        yield count


@contextmanager
def at_call(moment: int | None, event: Callable[[], object]) -> Iterator[list[int]]:
    """Have an event at the n-th call of a function of frpipe, or return into a generator, in this thread.

    The list holds how many there were.
    """
    count, ours = [0], str(Path(frpipe.__file__).parent)

    def called(frame: FrameType, kind: str, _: object) -> None:
        if kind == "call" and frame.f_code.co_filename.startswith(ours):
            count[0] += 1
            if count[0] == moment:
                event()

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        yield count
    finally:
        sys.setprofile(before)
