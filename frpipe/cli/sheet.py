"""`frpipe sheet OUT`: look at what was found."""

from __future__ import annotations

import argparse
from pathlib import Path

from frpipe.cli.gallery_parser import positive
from frpipe.core.counted import counted


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "sheet",
        help="draw the photos of an enroll output with their faces",
        description="Draw a contact sheet: photos with boxes and landmarks, the aligned faces beneath. "
        "It shows faces: treat it as you treat the photos.",
        epilog="examples:\n  frpipe sheet out/ -o sheet.png --limit 40 --columns 5\n"
        "  frpipe sheet out/ -o held.png --held",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", help="the --output of a jobs/enroll.py run")
    parser.add_argument("-o", "--picture", type=Path, default=Path("sheet.png"), help="PNG to write")
    parser.add_argument("--limit", type=positive, default=24, help="photos at most (default: %(default)s)")
    parser.add_argument("--columns", type=positive, default=4, help="photos in a row (default: %(default)s)")
    parser.add_argument(
        "--held",
        action="store_true",
        help="draw the faces that a stage has held back, a tile each: why, what was measured, and the limit",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from frpipe.jobs.sheet import write_sheet

    count = write_sheet(options.output, options.picture, options.limit, options.columns, held=options.held)
    print(f"{options.picture}: {counted(count, 'held faces' if options.held else 'photos')}")
    return 0
