"""From an exception to one line for the operator and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from frpipe.cli.reporter import VARIABLE, Speaker
from frpipe.core.errors import EXIT_UNEXPECTED, FrpipeError, OutOfMemory, StorageError

EXIT_NO = 12
EXIT_INTERRUPTED = 130


def guarded(command: Callable[[], int]) -> int:
    """Run a command; an error of ours becomes its message and remedy.

    FRPIPE_TRACEBACK=1 shows where it came from.
    """
    try:
        return command()
    except (FrpipeError, MemoryError) as error:
        _trace()
        known = error if isinstance(error, FrpipeError) else _out_of_memory()
        _complain(known)
        return known.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERRUPTED
    except OSError as error:
        _trace()
        print(
            f"error [{StorageError.code}]: {error.strerror or type(error).__name__}\n"
            "  -> check the folders and files that this command reads and writes",
            file=sys.stderr,
        )
        return StorageError.exit_code
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last resort: the operator gets a line, not a trace
        _trace()
        print(
            f"error [unexpected]: {type(error).__name__}\n"
            "  -> this is a bug: run again with FRPIPE_TRACEBACK=1 and report what it prints",
            file=sys.stderr,
        )
        return EXIT_UNEXPECTED


def _out_of_memory() -> OutOfMemory:
    return OutOfMemory("there is not enough memory", "give the process more, or run fewer at once")


def _complain(error: FrpipeError) -> None:
    if os.environ.get(VARIABLE) != "json":
        print(f"error [{error.code}]: {error}", file=sys.stderr)
        return
    facts = {
        "code": error.code,
        "exit_code": error.exit_code,
        "message": error.message,
        "remedy": error.remedy,
    }
    Speaker(_job()).tell("error", "error", **facts)


def _job() -> str:
    """`enroll` for `python jobs/enroll.py` and for `frpipe run enroll`; else `frpipe`."""
    words = Path(sys.argv[0]).stem.split()
    return words[-1] if words and words[-1] != "__main__" else "frpipe"


def _trace() -> None:
    if os.environ.get("FRPIPE_TRACEBACK") == "1":
        traceback.print_exc()
