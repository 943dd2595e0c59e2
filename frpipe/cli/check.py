"""`frpipe check OUT ...`: whether the outputs of jobs are as they were written, and how to mend them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from frpipe.cli.reporter import Speaker
from frpipe.cli.table import size_text
from frpipe.core.counted import counted
from frpipe.core.errors import OutputError

if TYPE_CHECKING:
    from frpipe.jobs.check.job import CheckedRun

_EXAMPLES = """\
examples:
  frpipe check out/photos
  frpipe check s3://runs/2026-05-01          # a night, and every run inside it
  frpipe check out/photos --mend             # then run the job that made it again

Jobs compare the size of files before they say that a run is complete, and hash what they read; this hashes
every file. --mend removes the damaged ones, and the mark of success, so that the run's own job does them
anew: let no job be at the output meanwhile. A gallery is checked by `frpipe gallery verify`.
Exit code 6: something is missing, damaged, unfinished or not the run's, also where it has just been mended.
"""
_SHOWN = 20


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="hash every file of the outputs of jobs, say what is damaged and how to mend it",
        description="Read every file of the outputs of jobs back, and compare it with what was written.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "outputs", nargs="+", metavar="OUT", help="the --output of a job, or a folder of them, local or s3://"
    )
    parser.add_argument(
        "--mend", action="store_true", help="take back what is damaged, so that its job does it anew"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from frpipe.jobs.check.job import Check

    checked: list[CheckedRun] = []
    for uri in options.outputs:
        found = Check(uri, options.mend, Speaker("check")).run()
        checked += found
        if not options.json:
            print("\n".join(line for each in found for line in _lines(each)), flush=True)
    whole = all(each.whole for each in checked)
    if options.json:
        shown = {"whole": whole, "runs": [each.as_dict() for each in checked]}
        print(json.dumps(shown, indent=1, ensure_ascii=False))
    return 0 if whole else OutputError.exit_code


def _lines(one: CheckedRun) -> Iterator[str]:
    state = "finished" if one.finished else "not finished"
    wrong = f"not as written: {len(one.problems):,}" if one.problems else "all as written"
    yield (
        f"{one.run}: {one.job}, {state}, {counted(one.files, 'files')}, {size_text(one.bytes)} read: {wrong}"
    )
    yield from (f"  {problem.file} {problem.what}" for problem in one.problems[:_SHOWN])
    if len(one.problems) > _SHOWN:
        yield f"  and {len(one.problems) - _SHOWN:,} more: see --json"
    if one.mended:
        yield f"  taken back; now run: {one.again}"
    elif one.mendable:
        yield f"  mend it with: frpipe check {one.run} --mend, then run: {one.again}"
    elif not one.finished:
        yield f"  to finish it, run: {one.again}"
    kept = [problem.file for problem in one.problems if not problem.mendable]
    if kept:
        yield (
            f"  its job does not do {len(kept):,} of them anew: restore them from a copy, remove what is not "
            "the run's, or make the output anew"
        )
