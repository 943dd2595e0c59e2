"""`frpipe rejects RUN`: which photos were rejected, and why."""

from __future__ import annotations

import argparse
import json
from typing import Any

from frpipe.cli.gallery_parser import not_negative
from frpipe.cli.table import table
from frpipe.core.counted import counted

_EXAMPLES = """\
examples:
  frpipe rejects out/photos
  frpipe rejects out/photos --reason truncated --limit 20
  frpipe rejects s3://features/run-1 --no-face --manifest again.parquet

The samples name photos: treat what is printed as you treat the manifest. docs/replay.md says more.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "rejects",
        help="show which photos of an enroll output were rejected, and why",
        description="Count the rejected photos of an enroll output by reason, with some samples of each.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", metavar="RUN", help="the --output of a jobs/enroll.py run, local or s3://")
    parser.add_argument(
        "--reason", action="append", default=[], metavar="R", help="only this one; may be repeated"
    )
    parser.add_argument("--no-face", action="store_true", help="count photos without a face too")
    parser.add_argument(
        "--limit",
        type=not_negative,
        default=3,
        metavar="N",
        help="samples of each reason (default: %(default)s)",
    )
    parser.add_argument(
        "--manifest", metavar="FILE", help="write a manifest of exactly these rows (.parquet, .csv, .jsonl)"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from frpipe.io.storage.folder import Folder
    from frpipe.jobs.rejects import Choice, rejects_of, stage_reasons, write_rejects

    staged = stage_reasons(Folder.at(options.output))
    choice = Choice.of(options.reason, options.no_face, staged)
    found = rejects_of(options.output, choice, options.limit).as_dict()
    if options.manifest:
        again = Choice.again(options.reason, options.no_face, staged)
        write_rejects(options.output, again, options.manifest)
    print(json.dumps(found, indent=1, ensure_ascii=False) if options.json else _text(found, choice))
    if options.manifest and not options.json:
        print(f"\nwritten to {options.manifest}")
    return 0


def _text(found: dict[str, Any], choice: object) -> str:
    lines = [f"{counted(found['photos'], 'photos')}, {found['rejected']:,} of them rejected"]
    if not found["finished"]:
        lines.insert(0, f"not finished: {found['photos']:,} of {found['planned']:,} photos are done so far")
    if held := found.get("held"):
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in held.items())
        lines.append(f"{counted(sum(held.values()), 'faces')} held back ({reasons}): frpipe sheet RUN --held")
    if lost := found.get("subjects_left_out"):
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in lost.items())
        lines.append(
            f"{counted(sum(lost.values()), 'photos are')} not rejected, but without the face of their person "
            f"({reasons}): `centre_largest_left_out` in images/"
        )
    causes = found["reasons"]
    if not causes:
        return "\n".join([*lines, f"none for {choice}"])
    shares = [(c["reason"], c["stage"], f"{c['photos']:,}", f"{c['share']:.2%}") for c in causes]
    lines += ["", table(("reason", "stage", "photos", "share"), shares)]
    samples = [(cause["reason"], *sample.values()) for cause in causes for sample in cause["samples"]]
    if samples:
        lines += ["", table(("reason", "image_id", "image_uri", "detail"), samples)]
    return "\n".join(lines)
