"""Run a command line as the program of a process: its streams, its signals, its end."""

from __future__ import annotations

import codecs
import os
import signal
import sys
from collections.abc import Callable
from io import TextIOWrapper

from frpipe.cli.exits import STDOUT, discard, stopped_line
from frpipe.runtime.stop import Stopping, stoppable


def program(main: Callable[[], int | None]) -> int:
    """Run a command line to the end of this process; return the exit code.

    It does not return after a signal.
    """
    _open_streams()
    code: int | None = None
    stopping: Stopping | None = None
    try:
        with stoppable(stopped_line, to_the_end=True) as stopping:
            code = main()
    except KeyboardInterrupt:
        code = 128 + (stopping.received if stopping and stopping.received else signal.SIGINT)
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            discard(number)
    if stopping and stopping.received:
        # The usual end waits for threads, and libraries that were interrupted may not survive it.
        os._exit(code or 0)
    return code or 0


def _open_streams() -> None:
    """Open all three streams: else a file could get the number of a closed one, and what is printed.

    What an encoding does not have is printed as JSON writes it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is this one.
            os.open(os.devnull, os.O_RDWR)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    codecs.register_error(_escaped.__name__, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # and not of a caller's own kind
            stream.reconfigure(errors=_escaped.__name__)
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout is sys.__stdout__:
        old = sys.stdout
        encoding, by_line, through = old.encoding, old.line_buffering, old.write_through
        sys.stdout = _Output(
            old.detach(), encoding, _escaped.__name__, line_buffering=by_line, write_through=through
        )


class _Output(TextIOWrapper):
    """Standard output whose errors say that they are its own, also where a caller passes over them."""

    _failed: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            error.filename = STDOUT
            self._failed = error
            raise

    def flush(self) -> None:
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
        try:
            super().flush()
        except OSError as error:
            error.filename = STDOUT
            raise


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = (units[at : at + 2].hex() for at in range(0, len(units), 2))
    return "".join(f"\\u{pair}" for pair in pairs), error.end
