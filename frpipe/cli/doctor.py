"""`frpipe doctor`: what earlier changes left in a gallery that is not so any more."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from frpipe.cli.gallery_parser import answer, not_negative
from frpipe.cli.table import printable, table
from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, GalleryError

if TYPE_CHECKING:
    from frpipe.jobs.doctor.job import Diagnosis

_DESCRIPTION = """\
Look for templates of photos that have become something else, for photos of one id from different places,
and for derived templates that do not say what they were made of. Nothing is written, unless --mend is given:
it takes the templates of the first kind out, in one new version, which can be rolled back.

Name the enroll outputs that were put into the gallery: only they know what became of a photo. The newest that
speaks of a photo is right. Exit code 10: there is something to mend, or the gallery cannot be read."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor",
        help="find, and mend, templates that are not true any more",
        description=_DESCRIPTION,
        epilog="examples:\n  frpipe doctor G --runs nights/*/enroll\n  frpipe doctor G --runs A B --mend",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("gallery", metavar="GALLERY", help="folder or s3:// prefix of the gallery")
    parser.add_argument(
        "--runs", nargs="+", action="extend", default=[], metavar="RUN", help="outputs of jobs/enroll.py"
    )
    parser.add_argument("--mend", action="store_true", help="take out what a later run does not give")
    parser.add_argument(
        "--limit",
        type=not_negative,
        default=20,
        metavar="N",
        help="templates listed of a kind (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from frpipe.gallery.gallery import Gallery
    from frpipe.jobs.doctor.job import examine, mend

    if options.mend and not options.runs:
        raise ConfigError("--mend needs --runs", "name the enroll outputs that were put into the gallery")
    gallery = Gallery.open(options.gallery)
    done = (mend if options.mend else examine)(gallery, options.runs, options.limit)
    answer(options, {"gallery": gallery.uri, **done.as_dict()}, _text(done, asked=bool(options.runs)))
    return GalleryError.exit_code if done.to_mend > done.mended else 0


def _text(done: Diagnosis, *, asked: bool) -> str:
    lines = [f"{counted(done.templates, 'templates')}, {counted(done.runs, 'runs')}"]
    for each in done.findings:
        if each.count:
            names = ["subject_id", "face_id", "image_uri"]
            more = f"and {each.count - len(each.shown):,} more" if each.count > len(each.shown) else ""
            lines += ["", f"{each.count:,} {printable(each.what)}"]
            lines += (
                [table(names, [[row[name] for name in names] for row in each.shown])] if each.shown else []
            )
            lines += [more] if more else []
    if not any(each.count for each in done.findings):
        lines.append(
            "nothing is wrong" if asked else "nothing is wrong, as far as can be told without --runs"
        )
    elif done.mended:
        lines += ["", f"{counted(done.mended, 'templates')} taken out; version {done.version}"]
        lines.append(
            "their vectors stay in the files, and can be rolled back to, until `frpipe gallery compact`"
        )
    elif done.to_mend:
        lines += ["", f"{counted(done.to_mend, 'templates')} would go: --mend"]
    return "\n".join(lines)
