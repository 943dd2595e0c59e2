"""Stop at SIGINT, SIGTERM or SIGHUP: unwind at once, or end the process where that takes too long.

The first signal raises `Stopped` in the main thread, so that leases are given back and workers end. Code that
must not be interrupted halfway, such as the start of Ray, is `held`: then it is raised afterwards. A thread
ends the process where a second signal comes, or unwinding takes longer than a container is given to stop.
Whatever is published is whole at any moment, so that nothing is lost by that.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Never

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# `docker stop` kills after 10 s.
_PATIENCE_S = 8.0
# `timeout` and others send a signal to a process and to its group: that is one.
_TWICE_S = 1.0
_MOMENT_S = 0.01
_AGAIN = b"\0"

Word = Callable[[signal.Signals], str]
"""Says, in a line, that a signal has stopped this process."""


class Stopped(KeyboardInterrupt):
    """The exception for a signal that told this process to end. Its notes say what is done."""


class Stopping:
    """The handling of signals in this process. received: the first one."""

    def __init__(self, word: Word) -> None:
        self.received: signal.Signals | None = None
        self._word = word
        self._held = 0
        self._pending = False
        self._at_worst: list[Callable[[], object]] = []
        # Standard error may be put elsewhere meanwhile.
        self._stderr = os.dup(2)
        self._ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        self._main = threading.get_ident()
        self._hook = sys.unraisablehook
        self._thread = threading.Thread(target=self._watch, name="stop", daemon=True)

    @contextmanager
    def watching(self, *, to_the_end: bool) -> Iterator[None]:
        """Take the signals; not those that this process was told to ignore, as by nohup."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
        self._thread.start()
        sys.unraisablehook = self._ignored
        wakeup = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        try:
            _set(dict.fromkeys(before, self._handle))
            yield
        finally:
            self._held += 1
            # The little that a stopped program still does may take too long too.
            if not (to_the_end and self.received):
                _set(dict.fromkeys(before, signal.SIG_DFL) if to_the_end else before)
                self._close(wakeup)

    def _close(self, wakeup: int) -> None:
        signal.set_wakeup_fd(wakeup)
        sys.unraisablehook = self._hook
        self._theirs.close()
        self._thread.join()
        self._ours.close()
        os.close(self._stderr)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            self._pending = True
        self.check()

    def _ignored(self, unraisable: Any) -> None:
        """Raise Stopped again where Python has dropped it, as in a destructor."""
        if not isinstance(unraisable.exc_value, Stopped):
            self._hook(unraisable)
            return
        self._pending = True
        with suppress(OSError):
            self._theirs.send(_AGAIN)

    def check(self) -> None:
        """Raise Stopped where a signal has come and nothing is held."""
        if self._pending and not self._held:
            self._pending = False
            raise Stopped

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let a signal that comes meanwhile wait for the end."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self.check()

    @contextmanager
    def at_worst(self, end: Callable[[], object]) -> Iterator[None]:
        """Call `end`, in another thread, where the process ends without unwinding."""
        self._at_worst.append(end)
        try:
            yield
        finally:
            self._at_worst.remove(end)

    def _watch(self) -> None:
        """End the process at a second signal, or when patience is at an end."""
        first, since = 0, 0.0
        while True:
            try:
                numbers = self._ours.recv(64)
            except TimeoutError:
                self._end(signal.Signals(first))
            if not numbers:
                return
            for number in numbers:
                if number == _AGAIN[0] and first:
                    # Not at once: the destructor has to end.
                    time.sleep(_MOMENT_S)
                    signal.pthread_kill(self._main, first)
                if number not in SIGNALS:
                    continue
                if not first:
                    first, since = number, time.monotonic()
                elif time.monotonic() - since >= _TWICE_S:
                    self._end(signal.Signals(first))
            if first:
                self._ours.settimeout(max(0.01, since + _PATIENCE_S - time.monotonic()))

    def _end(self, first: signal.Signals) -> Never:
        for end in reversed(self._at_worst):
            with suppress(Exception):
                end()
        with suppress(Exception):
            # A reader who does not read must not keep this process.
            if select.select([], [self._stderr], [], 0)[1]:
                os.write(self._stderr, f"{self._word(first)}\n".encode(errors="backslashreplace"))
        os._exit(128 + first)


_stopping: Stopping | None = None


@contextmanager
def stoppable(word: Word, *, to_the_end: bool = False) -> Iterator[Stopping | None]:
    """Handle signals in the main thread; a block within one that handles them already changes nothing.

    to_the_end: nothing but the end of the process follows, which a signal then brings about at once.
    """
    global _stopping  # noqa: PLW0603 - there is one set of handlers in a process
    if _stopping is not None or threading.current_thread() is not threading.main_thread():
        yield _stopping
        return
    _stopping = Stopping(word)
    try:
        with _stopping.watching(to_the_end=to_the_end):
            yield _stopping
    finally:
        _stopping = None


@contextmanager
def held() -> Iterator[None]:
    """Have a signal wait until the end of what must not be interrupted halfway."""
    if _stopping is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    with _stopping.held():
        yield


@contextmanager
def at_worst(end: Callable[[], object]) -> Iterator[None]:
    """Have `end` called where this process ends at a signal without unwinding. It must not wait for long."""
    if _stopping is None:
        yield
        return
    with _stopping.at_worst(end):
        yield


@contextmanager
def own_handlers() -> Iterator[None]:
    """Put back, at the end, what this process does at signals: libraries set handlers of their own.

    An alarm too: native code sets one at a signal, to abort this process if it is still there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    alarm = signal.alarm(0)
    try:
        yield
    finally:
        signal.alarm(alarm)
        _set(before)


def forget() -> None:
    """Leave signals to the parent: for a fork, which they reach too in a terminal."""
    global _stopping  # noqa: PLW0603
    _stopping = None
    signal.set_wakeup_fd(-1)
    _set(dict.fromkeys(SIGNALS, signal.SIG_IGN))


def _set(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        # None: one that was not installed from Python.
        if handler is not None:
            signal.signal(number, handler)
