"""`frpipe storage check`: whether a folder or an object store does what outputs and galleries rest on."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from frpipe.cli.job_options import add_json
from frpipe.cli.table import table

if TYPE_CHECKING:
    from frpipe.io.storage.check import StorageCheck

_EXAMPLES = """\
examples:
  frpipe storage check out/
  frpipe storage check s3://bucket/galleries
  frpipe storage check s3://photos --read-only --json

A few small files are written into a folder of its own below URI, and removed again.
Exit code 0: usable, 7: not.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "storage", help="try what a folder or store can do", description="Try what a folder or store can do."
    )
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    check = actions.add_parser(
        "check",
        help="try a place for outputs, galleries and nights, and leave nothing there",
        description="Try a place: list, read, write, create once, create by rivals, overwrite, delete, "
        "latency; of a mounted file system also rename, fsync, modes, names, free space and its type.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("uri", metavar="URI", help="folder or prefix; it need not be there yet")
    check.add_argument(
        "--read-only", action="store_true", help="for photos and manifests: only list and read, write nothing"
    )
    add_json(check)
    check.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from frpipe.core.errors import EXIT_OK, StorageError
    from frpipe.io.storage.check import check_storage

    found = check_storage(options.uri, read_only=options.read_only)
    print(json.dumps(found.as_dict(), indent=1, ensure_ascii=False) if options.json else _text(found))
    return StorageError.exit_code if found.faults else EXIT_OK


def _text(found: StorageCheck) -> str:
    rows = [(trial.name, trial.verdict, trial.detail) for trial in found.trials]
    faults = len(found.faults)
    last = f"not usable: {faults} fault{'s' * (faults > 1)}" if faults else "usable"
    return "\n".join((f"{found.uri} ({found.store})", table(("check", "verdict", "detail"), rows), last))
