"""Turn an exception into one line for the operator and an exit code."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from frpipe.cli.reporter import VARIABLE, line_of
from frpipe.core.errors import EXIT_UNEXPECTED, FrpipeError, OutOfMemory, StorageError
from frpipe.runtime.stop import stoppable

EXIT_NO = 12
STDOUT = "standard output"
# As a shell shows the end of `cat`.
EXIT_NOBODY_READS = 128 + signal.SIGPIPE


def guarded(command: Callable[[], int]) -> int:
    """Run a command; an error of ours becomes its message and remedy, a signal its word and exit code.

    FRPIPE_TRACEBACK=1 shows where it came from.
    """
    with stoppable(stopped_line) as stopping:
        try:
            return _flushed(command)
        except BaseException as error:
            received = stopping.received if stopping else None
            if received is not None or isinstance(error, KeyboardInterrupt):
                return _stopped(received or signal.SIGINT, error)
            if not isinstance(error, Exception):
                raise
            _trace()
            return _ended(error)


def _flushed(command: Callable[[], int]) -> int:
    try:
        code = command()
    except SystemExit:  # of --help, which has printed something
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return code


def stopped_line(number: int, *done: str) -> str:
    """The line where a signal has stopped the process. done: what is known of it."""
    facts = f": {'; '.join(done)}" if done else ""
    text = f"stopped by {signal.Signals(number).name}{facts}; the same command goes on from here"
    if os.environ.get(VARIABLE) != "json":
        return text
    return line_of(_job(), "warning", "stopped", message=text, exit_code=128 + number)


def _stopped(number: int, error: BaseException | None) -> int:
    _trace()
    done: list[str] = []
    while error is not None:
        done += getattr(error, "__notes__", ())
        error = error.__context__
    _say(stopped_line(number, *done))
    return 128 + number


def _ended(error: Exception) -> int:
    if isinstance(error, OSError) and not isinstance(error, FrpipeError):
        if isinstance(error, BrokenPipeError) and (unread := _unread()):
            for number in unread:
                discard(number)
            return EXIT_NOBODY_READS
        known: FrpipeError = _storage_error(error)
    elif isinstance(error, MemoryError) and not isinstance(error, FrpipeError):
        known = OutOfMemory("there is not enough memory", "give the process more, or run fewer at once")
    elif isinstance(error, FrpipeError):
        known = error
    else:
        _say(
            f"error [unexpected]: {type(error).__name__}\n"
            "  -> this is a bug: run again with FRPIPE_TRACEBACK=1 and report what it prints"
        )
        return EXIT_UNEXPECTED
    _complain(known)
    return known.exit_code


def _storage_error(error: OSError) -> StorageError:
    why = error.strerror or str(error) or type(error).__name__
    if error.filename == STDOUT:
        discard(1)
        return StorageError(
            f"{STDOUT} cannot be written: {why}", "see where it goes, and whether there is room"
        )
    names = ", ".join(os.fsdecode(name) for name in (error.filename, error.filename2) if _is_name(name))
    said = f"{why}: {names}" if names else why
    if error.errno == errno.EMFILE:
        return StorageError(said, "raise the limit of open files: ulimit -n 4096")
    return StorageError(said, "check the folders and files that this command reads and writes")


def _is_name(name: object) -> bool:
    return isinstance(name, str | bytes)


def _unread() -> list[int]:
    """The descriptors of standard output and error that have lost their reader."""
    poll = select.poll()
    poll.register(1, 0)
    poll.register(2, 0)
    return [number for number, event in poll.poll(0) if event & select.POLLERR]


def discard(number: int) -> None:
    """Have what is left to write to a descriptor, also at the end of the process, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _complain(error: FrpipeError) -> None:
    if os.environ.get(VARIABLE) != "json":
        _say(f"error [{error.code}]: {error}")
        return
    facts = {
        "code": error.code,
        "exit_code": error.exit_code,
        "message": error.message,
        "remedy": error.remedy,
    }
    _say(line_of(_job(), "error", "error", **facts))


def _say(text: str) -> None:
    # The exit code says it too, and there is nowhere else to complain.
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def _job() -> str:
    """The name of the program: `enroll` for `python jobs/enroll.py` or `frpipe run enroll`; else `frpipe`."""
    words = Path(sys.argv[0]).stem.split()
    return words[-1] if words and words[-1] != "__main__" else "frpipe"


def _trace() -> None:
    if os.environ.get("FRPIPE_TRACEBACK") == "1":
        traceback.print_exc()
