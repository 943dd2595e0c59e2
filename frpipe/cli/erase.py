"""`frpipe erase RUN ...`: take people out of finished enroll outputs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from frpipe.cli.exits import EXIT_NO
from frpipe.cli.gallery_parser import identifier
from frpipe.cli.gallery_suppressed import add_reason
from frpipe.cli.id_file import ids_in
from frpipe.cli.reporter import Speaker
from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError

if TYPE_CHECKING:
    from frpipe.jobs.erase.everywhere import ErasedEverywhere
    from frpipe.jobs.erase.job import Erased
    from frpipe.jobs.erase.proof import Searched
    from frpipe.jobs.erase.tables import TableErasure

_EXAMPLES = """\
examples:
  frpipe erase out/photos --subject joe-biden --dry-run
  frpipe erase s3://features/2026-05-01 s3://features/2026-05-02 --subjects-from request.txt
  cat request.txt | frpipe erase out/photos --images-from -
  frpipe erase --everywhere night.yaml --subjects-from request.txt --reason 'request 2026-14' --by desk

An id on the command line ends up in the shell's history and in the list of processes: better give a file.
What is erased cannot be brought back. Exit code 12: some ids occur in none of the runs, and were never erased
from them. docs/erasure.md says more.
"""

NOT_REACHED = (
    "galleries made from these runs: frpipe gallery delete G ID, then frpipe gallery compact G",
    "published tables, unless given: --tables URI",
    "results of identify, verify, dedup and metrics; pages, contact sheets, exports: delete them",
    "other enroll outputs, replays of these among them: each is a RUN of its own for this command",
    "the photos, and the manifests that name them: take the person out, or the next run has them again",
    "backups of galleries: frpipe gallery backup G DEST --prune --compacted, after the compaction",
    "other backups, and older versions of objects in a store that keeps them",
)


NIGHTS_NOT_REACHED = (
    "the photos: take them away; while they are there, nights count them as suppressed",
    "the watch list, and other galleries: frpipe gallery delete G ID, then frpipe gallery compact G",
    "counts of what nights did, and samples of their measures: they name nobody",
    "published tables that the configuration does not name: --tables URI",
    "outputs, pages, contact sheets and exports elsewhere: frpipe erase RUN ..., or delete them",
    "backups of galleries: frpipe gallery backup G DEST --prune --compacted, after the compaction",
    "other backups, and older versions of objects in a store that keeps them",
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
        "runs", nargs="*", metavar="RUN", help="the --output of a jobs/enroll.py run, local or s3://"
    )
    parser.add_argument(
        "--everywhere",
        metavar="CONFIG",
        help="instead of RUNs: all that this configuration of nights knows, gallery, outputs, results and "
        "reports; who is erased is suppressed",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="with --everywhere: one setting"
    )
    parser.add_argument(
        "--tables",
        metavar="URI",
        help="published tables to take them out of, too; with --everywhere instead of those of the "
        "configuration",
    )
    add_reason(parser)
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
    subjects = frozenset([*options.subject, *ids_in(options.subjects_from)])
    images = frozenset([*options.image, *ids_in(options.images_from)])
    if not subjects | images:
        raise ConfigError("no ids are given", "say --subjects-from FILE or --images-from FILE")
    if bool(options.runs) == bool(options.everywhere) and not (options.tables and not options.everywhere):
        raise ConfigError("give RUNs, --tables, or --everywhere with a configuration of nights", "see --help")
    if options.everywhere:
        return _everywhere(options, subjects, images)
    if options.reason or options.by or options.set:
        raise ConfigError("--reason, --by and --set go with --everywhere", "leave them out")
    from frpipe.jobs.erase.job import Erase, EraseTarget

    for uri in options.runs:
        EraseTarget.open(uri)
    tables = _tables(options, subjects, images)
    told = _looked(tables, options)
    done: list[Erased] = []
    for uri in options.runs:
        job = Erase(uri, subjects, images, options.copies, options.take_over, Speaker("erase"))
        done.append(job.dry_run() if options.dry_run else job.run())
        if not options.json:
            print(_line(done[-1]), flush=True)
    if tables is not None and not options.dry_run:
        told = _struck(tables, options)
    return _end(options, done, len(subjects) + len(images), told)


def _tables(
    options: argparse.Namespace, subjects: frozenset[str], images: frozenset[str]
) -> TableErasure | None:
    if not options.tables:
        return None
    from frpipe.jobs.erase.tables import TableErasure

    return TableErasure.at(options.tables, subjects, images, copies=options.copies, say=Speaker("erase"))


def _looked(tables: TableErasure | None, options: argparse.Namespace) -> dict[str, Any] | None:
    """Count what would go of tables; end the command before anything is changed where copies stand there."""
    if tables is None:
        return None
    found = tables.check()
    if options.dry_run and not options.json:
        print(f"{options.tables}: {counted(found, 'photos')} would be erased; nothing was written")
    return {"tables": options.tables, "photos": found}


def _struck(tables: TableErasure, options: argparse.Namespace) -> dict[str, Any]:
    rows, searched = tables.run()
    if not options.json:
        print(
            f"{options.tables}: {counted(rows, 'rows')} erased\n  no file below it holds these ids or "
            f"the vectors: {_proof(searched)}"
        )
    return {"tables": options.tables, "rows": rows, "searched": searched.files}


def _everywhere(options: argparse.Namespace, subjects: frozenset[str], images: frozenset[str]) -> int:
    from frpipe.core.night_config import load_night
    from frpipe.jobs.erase.everywhere import EraseEverywhere

    given = [f"publish.tables={options.tables}"] if options.tables else []
    config = load_night(options.everywhere, [*options.set, *given])
    speaker = Speaker("erase")
    job = EraseEverywhere(config, subjects, images, options.reason, options.by, options.copies, speaker)
    done = job.dry_run() if options.dry_run else job.run()
    if options.json:
        print(json.dumps({**done.as_dict(), "not_reached": NIGHTS_NOT_REACHED}, indent=1, ensure_ascii=False))
    else:
        print("\n".join(_everywhere_lines(done, len(subjects) + len(images))))
    return EXIT_NO if done.absent else 0


def _everywhere_lines(done: ErasedEverywhere, ids: int) -> Iterator[str]:
    counts = (
        f"{counted(done.templates, 'templates')} of the gallery; "
        f"{counted(done.photos, 'photos')} and {counted(done.faces, 'faces')} of "
        f"enroll outputs of {counted(done.nights, 'nights')}"
    )
    if done.dry_run:
        yield f"{counts} would be erased; nothing was written"
    else:
        yield (
            f"{counts}; {counted(done.results, 'results')} changed; "
            f"{counted(done.suppressed, 'entries')} suppressed"
        )
    if done.tables:
        yield f"{counted(done.tables, 'rows')} of published tables erased"
    if done.begun:
        word = "would be " if done.dry_run else ""
        yield (
            f"{counted(done.begun, 'steps')} of nights that had not ended {word}removed: the "
            "night does them again"
        )
    if done.shared:
        yield f"{counted(done.shared, 'photos are')} other people's too: not suppressed by their files"
    if done.earlier:
        yield f"{counted(done.earlier, 'ids were')} erased before"
    if not done.dry_run:
        yield f"no file of the nights or the gallery holds these ids or the vectors: {_proof(done.searched)}"
    if done.absent:
        yield f"{done.absent:,} of {ids:,} ids occur nowhere"
    yield "not reached by this command:"
    yield from (f"  {each}" for each in NIGHTS_NOT_REACHED)


def _end(options: argparse.Namespace, done: Sequence[Erased], ids: int, tables: dict[str, Any] | None) -> int:
    absent = len(frozenset.intersection(*(each.absent for each in done))) if done else 0
    if options.json:
        runs = [each.as_dict() for each in done]
        shown: dict[str, Any] = {"ids": ids, "absent": absent, "runs": runs, "not_reached": NOT_REACHED}
        shown |= {} if tables is None else {"tables": tables}
        print(json.dumps(shown, indent=1, ensure_ascii=False))
    else:
        if absent:
            print(f"{absent:,} of {ids:,} ids occur in none of these runs")
        print("\n".join(("not reached by this command:", *(f"  {each}" for each in NOT_REACHED))))
    return EXIT_NO if absent else 0


def _line(done: Erased) -> str:
    counts = (
        f"{counted(done.images, 'photos')} and {counted(done.faces, 'faces')} in "
        f"{done.parts:,} of {done.of_parts:,} parts"
    )
    kept = f"; {counted(done.copies, 'copies of them are')} kept under other ids" if done.copies else ""
    earlier = f"{counted(done.earlier, 'ids were')} erased before" if done.earlier else ""
    if done.dry_run:
        return f"{done.run}: {counts} would be erased{kept}{earlier and f'; {earlier}'}; nothing was written"
    what = f"{counts} erased{kept}" if done.images else f"nothing to erase{earlier and f', {earlier}'}"
    return f"{done.run}: {what}\n  no file below it holds these ids{_vectors(done)}: {_proof(done.searched)}"


def _proof(searched: Searched) -> str:
    others = f"; {searched.others:,} of them are not frpipe's: look at them" if searched.others else ""
    return f"{searched.text()}{others}"


def _vectors(done: Erased) -> str:
    return " or the vectors" if done.faces else ""
