"""The `frpipe` command, and the start of every program of ours: light, so that signals are heard early."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from frpipe import __version__

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

# Each is the module of its name in this package.
COMMANDS = (
    "demo",
    "run",
    "doctor",
    "models",
    "manifest",
    "rejects",
    "rescan",
    "erase",
    "check",
    "verify",
    "identify",
    "look",
    "gallery",
    "metrics",
    "protocol",
    "sheet",
    "storage",
    "cluster",
)


class Script(Protocol):
    """The function `main` of a script. arguments: None where it is the program of its process."""

    def __call__(self, arguments: list[str] | None = None) -> int: ...


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code. arguments: None where it is the program of this process."""
    if arguments is None:
        return _program(lambda: _run(sys.argv[1:]))
    from frpipe.cli.exits import guarded

    return guarded(lambda: _run(arguments))


def script(name: str) -> Script:
    """Make the `main` of one of frpipe's jobs, which is loaded when it is called."""

    def job(arguments: list[str]) -> int:
        from frpipe.cli.run import own

        return own(name).load()(arguments) or 0

    def main(arguments: list[str] | None = None) -> int:
        return _program(lambda: job(sys.argv[1:])) if arguments is None else job(arguments)

    return main


def _program(command: Callable[[], int]) -> int:
    # Until it is loaded who knows better, the system ends this process: without a word, and without a trace.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from frpipe.cli.exits import guarded
    from frpipe.cli.program import program

    return program(lambda: guarded(command))


def _run(given: list[str]) -> int:
    # A command that is named does not wait until the others are imported.
    named = [name for name in COMMANDS if given[:1] == [name]]
    options = _parser(named or COMMANDS).parse_args(given)
    return int(options.run(options))


def _parser(names: Iterable[str]) -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog="frpipe",
        description="Face recognition in batches: models, manifests, galleries, photos, jobs.",
    )
    parser.add_argument("--version", action="version", version=f"frpipe {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in names:
        import_module(f"frpipe.cli.{name}").add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
