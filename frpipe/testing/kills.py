"""Have something happen between two changes of any folder: a death, or what another process does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from frpipe.io.storage.folder import Folder

_CHANGES = ("write", "create", "publish", "adopt", "delete", "delete_all")


class Killed(BaseException):
    """Not an Exception: nothing catches it on the way out."""


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
