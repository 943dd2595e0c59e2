"""The `frpipe` command."""

from __future__ import annotations

import argparse
import sys

from frpipe import __version__
from frpipe.cli import (
    check,
    demo,
    doctor,
    erase,
    gallery,
    identify,
    manifest,
    metrics,
    models,
    protocol,
    rejects,
    rescan,
    run,
    sheet,
    storage,
    verify,
)
from frpipe.cli.exits import guarded


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    options = _parser().parse_args(arguments)
    return guarded(lambda: int(options.run(options)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="frpipe",
        description="Face recognition in batches: models, manifests, galleries, photos, jobs.",
    )
    parser.add_argument("--version", action="version", version=f"frpipe {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (
        demo,
        run,
        doctor,
        models,
        manifest,
        rejects,
        rescan,
        erase,
        check,
        verify,
        identify,
        gallery,
        metrics,
        protocol,
        sheet,
        storage,
    ):
        module.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
