"""`frpipe rescan RUN`: which photos of an earlier output second looks may change."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from frpipe.cli.table import table
from frpipe.core.counted import counted

if TYPE_CHECKING:
    from frpipe.jobs.rescan.listing import Listing

_EXAMPLES = """\
examples:
  frpipe rescan out/photos
  frpipe rescan out/photos -o affected.csv
  frpipe rescan s3://features/run-1 --json

Outputs of before photos were looked at again took every photo as upright and every face as it was seen first:
a face that lay on its side, or was small, has a vector that fits nobody. The rows that are there tell which
photos are free of that: a large, upright face with a good score comes out the same. All others are listed,
with their causes; those that come out the same after all are among them. Nothing is written but the list.

Do them again, and keep all else, with
  frpipe run enroll --replay out/photos --rescan

The list names photos: treat it as you treat the manifest. docs/replay.md says more.
"""
# Second looks at every photo of a kind cost at most what the first look did.
_MOST_TIMES = 2


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "rescan",
        help="list the photos of an earlier enroll output that second looks at faces may change",
        description="List the photos of a finished enroll output that may end otherwise now that turned and "
        "small faces are looked at again.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", metavar="RUN", help="the --output of a jobs/enroll.py run, local or s3://")
    parser.add_argument(
        "-o", "--list", metavar="FILE", help="write the photos with their causes (.parquet, .csv, .jsonl)"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from frpipe.jobs.rescan.listing import rescan_of

    found = rescan_of(options.output, options.list)
    print(json.dumps(found.as_dict(), indent=1, ensure_ascii=False) if options.json else _text(found))
    if options.list and not options.json:
        print(f"\nwritten to {options.list}")
    return 0


def _text(found: Listing) -> str:
    share = found.affected / max(1, found.photos)
    lines = [f"{counted(found.photos, 'photos')}, {found.affected:,} of them ({share:.2%}) may end otherwise"]
    if not found.affected:
        return "\n".join([*lines, "nothing is to be done: second looks would change no row"])
    if found.unjudged:
        lines.append(f"no score of {found.detector} tells an upright face from a turned one: the photos must")
    rows = [
        (cause.value, f"{count:,}", f"{count / max(1, found.photos):.2%}", meaning)
        for cause, count, meaning in found.causes
    ]
    lines += ["", table(("cause", "photos", "share", "meaning"), rows), ""]
    lines += _next(found.affected, found.seconds, f"frpipe run enroll --replay {found.run} --rescan")
    if found.found < found.affected:
        least = f"frpipe run enroll --replay {found.run} --rescan found"
        lines += ["or, where it does not matter that small faces were not looked for:"]
        lines += _next(found.found, found.found_seconds, least)
    return "\n".join(lines)


def _next(photos: int, seconds: float, command: str) -> list[str]:
    cost = f"{_duration(seconds)} to {_duration(_MOST_TIMES * seconds)} of one worker"
    return [f"look at {photos:,} again, {cost}, and copy the rest:", f"  {command}"]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
