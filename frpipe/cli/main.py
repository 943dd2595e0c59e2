"""The `frpipe` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from importlib import import_module

from frpipe import __version__
from frpipe.cli.exits import guarded
from frpipe.cli.program import program

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
    "gallery",
    "metrics",
    "protocol",
    "sheet",
    "storage",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code. arguments: None where it is the program of this process."""
    if arguments is None:
        return program(lambda: guarded(lambda: _run(sys.argv[1:])))
    return guarded(lambda: _run(arguments))


def _run(given: list[str]) -> int:
    # A command that is named does not wait until the others are imported.
    named = [name for name in COMMANDS if given[:1] == [name]]
    options = _parser(named or COMMANDS).parse_args(given)
    return int(options.run(options))


def _parser(names: Iterable[str]) -> argparse.ArgumentParser:
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
