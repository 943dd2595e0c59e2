"""`frpipe erase RUN ...`: take people out of finished enroll outputs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from frpipe.cli.exits import EXIT_NO
from frpipe.cli.gallery_parser import identifier
from frpipe.cli.say import Speaker
from frpipe.core.errors import ConfigError

if TYPE_CHECKING:
    from frpipe.flows.erase.job import Erased
    from frpipe.flows.erase.proof import Searched

_EXAMPLES = """\
examples:
  frpipe erase out/photos --subject joe-biden --dry-run
  frpipe erase s3://features/2026-05-01 s3://features/2026-05-02 --subjects-from request.txt
  cat request.txt | frpipe erase out/photos --images-from -

An id on the command line ends up in the shell's history and in the list of processes: better give a file.
What is erased cannot be brought back. Exit code 12: some ids occur in none of the runs, and were never erased
from them. docs/erasure.md says more.
"""

NOT_REACHED = (
    "galleries made from these runs: frpipe gallery delete G ID, then frpipe gallery compact G",
    "results of identify, verify, dedup and metrics; pages, contact sheets, exports: delete them",
    "other enroll outputs, replays of these among them: each is a RUN of its own for this command",
    "the photos, and the manifests that name them: take the person out, or the next run has them again",
    "backups, and older versions of objects in a store that keeps them",
)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "erase",
        help="take people or photos out of finished enroll outputs, and prove that they are gone",
        description="Take every row of some people, or of some photos, out of finished enroll outputs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="the --output of a jobs/enroll.py run, local or s3://"
    )
    for flag, what in (("subject", "person"), ("image", "photo")):
        parser.add_argument(
            f"--{flag}",
            action="append",
            default=[],
            type=identifier,
            metavar="ID",
            help=f"{flag}_id of a {what}; may be repeated",
        )
        parser.add_argument(
            f"--{flag}s-from", metavar="FILE", help=f"ids of {what}s, one a line; - is standard input"
        )
    parser.add_argument(
        "--copies",
        choices=("refuse", "erase", "keep"),
        default="refuse",
        help="the same picture under another id that is not named: refuse to begin (default), erase it too, "
        "or keep it, as where a group photo is listed once for each person",
    )
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="end an erasure of other people that broke off, too; say it only if nobody is at it any more",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and change nothing")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.subjects_from == "-" == options.images_from:
        raise ConfigError("standard input can be read once", "give one of the two lists as a file")
    subjects = frozenset([*options.subject, *_lines(options.subjects_from)])
    images = frozenset([*options.image, *_lines(options.images_from)])
    if not subjects | images:
        raise ConfigError("no ids are given", "say --subjects-from FILE or --images-from FILE")
    from frpipe.flows.erase.job import Erase
    from frpipe.flows.erase.target import EraseTarget

    for uri in options.runs:
        EraseTarget.open(uri)
    done: list[Erased] = []
    for uri in options.runs:
        job = Erase(uri, subjects, images, options.copies, options.take_over, Speaker("erase"))
        done.append(job.dry_run() if options.dry_run else job.run())
        if not options.json:
            print(_line(done[-1]), flush=True)
    return _end(options, done, len(subjects) + len(images))


def _lines(source: str | None) -> list[str]:
    """Ids, one a line. Only a line feed ends a line: an id may hold any other separator."""
    if source is None:
        return []
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise ConfigError("a file of ids cannot be read as UTF-8 text", "check its path") from None
    return [line for line in (line.removesuffix("\r") for line in text.split("\n")) if line]


def _end(options: argparse.Namespace, done: Sequence[Erased], ids: int) -> int:
    absent = len(frozenset.intersection(*(each.absent for each in done)))
    if options.json:
        runs = [each.as_dict() for each in done]
        shown = {"ids": ids, "absent": absent, "runs": runs, "not_reached": NOT_REACHED}
        print(json.dumps(shown, indent=1, ensure_ascii=False))
    else:
        if absent:
            print(f"{absent:,} of {ids:,} ids occur in none of these runs")
        print("\n".join(("not reached by this command:", *(f"  {each}" for each in NOT_REACHED))))
    return EXIT_NO if absent else 0


def _line(done: Erased) -> str:
    counts = f"{done.images:,} photos and {done.faces:,} faces in {done.parts:,} of {done.of_parts:,} parts"
    kept = f"; {done.copies:,} copies of them are kept under other ids" if done.copies else ""
    earlier = f"{done.earlier:,} ids were erased before" if done.earlier else ""
    if done.dry_run:
        return f"{done.run}: {counts} would be erased{kept}{earlier and f'; {earlier}'}; nothing was written"
    what = f"{counts} erased{kept}" if done.images else f"nothing to erase{earlier and f', {earlier}'}"
    return f"{done.run}: {what}\n  no file below it holds these ids{_vectors(done)}: {_proof(done.searched)}"


def _proof(searched: Searched) -> str:
    others = f"; {searched.others:,} of them are not frpipe's: look at them" if searched.others else ""
    return f"{searched.text()}{others}"


def _vectors(done: Erased) -> str:
    return " or the vectors" if done.faces else ""
