"""`frpipe manifest scan` and `frpipe manifest check`: lists of photos."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frpipe.io.manifest.scan import Scan

_SCAN_EXAMPLES = """\
examples:
  frpipe manifest scan photos/ -o photos.parquet             # flat, or one folder per person
  frpipe manifest scan lfw/ -o lfw.csv --subject-from folder
  frpipe manifest scan s3://bucket/photos -o photos.jsonl --glob 'team-*/*.jpg'
  frpipe manifest scan photos/ -o photos.parquet --root /archive    # links may lead there, too
"""
_CHECK_EXAMPLES = """\
examples:
  frpipe manifest check photos.parquet
  frpipe manifest check s3://bucket/manifest/ --root s3://bucket/photos
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "manifest", help="make and check lists of photos", description="Make and check lists of photos."
    )
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_scan(actions)
    _add_check(actions)


def _add_scan(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "scan",
        help="list the photos below a folder or prefix",
        description="List the photos below a folder or prefix and write a manifest, sorted by path.",
        epilog=_SCAN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("uri", metavar="URI", help="folder or prefix: a local path or any fsspec URI")
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="a .parquet, .csv or .jsonl file to write"
    )
    parser.add_argument(
        "--subject-from",
        choices=("auto", "folder", "none"),
        default="auto",
        help="where subject_id comes from; auto: the folder's name if every photo lies one folder down",
    )
    parser.add_argument(
        "--glob", metavar="PATTERN", help="keep paths that match, relative to URI; * matches / too"
    )
    _add_roots(parser, "links may lead below this")
    parser.set_defaults(run=_scan)


def _add_roots(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--config", metavar="FILE", help="YAML, as for jobs; storage.roots is used")
    parser.add_argument(
        "--root", action="append", default=[], metavar="ROOT", help=f"{what}; may be repeated"
    )


def _add_check(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "check",
        help="check a manifest as a run would, and write nothing",
        description="Read a whole manifest, check every row as a run would, and print a summary.",
        epilog=_CHECK_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("uri", metavar="MANIFEST", help="a file, or a folder of files of one format")
    _add_roots(parser, "allow photos only below this")
    parser.set_defaults(run=_check)


def _scan(options: argparse.Namespace) -> int:
    from frpipe.io.manifest.scan import scan

    found = scan(options.uri, options.output, options.subject_from, options.glob, _roots(options))
    print("\n".join(_describe(found, options.output)))
    return 0


def _describe(found: Scan, output: str) -> list[str]:
    kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in found.suffixes.most_common())
    lines = [f"{found.photos:,} photos: {kinds}"]
    if found.subjects is not None:
        lines.append(f"{found.subjects:,} subjects, by folder")
    elif len(found.depths) > 1 or 0 not in found.depths:
        lines.append("no subjects: not every photo lies one folder down (see --subject-from folder)")
    else:
        lines.append("no subjects: the photos are not in folders of their own")
    lines += found.links.lines("--root", named=True)
    if found.unreadable_names:
        lines.append(f"{found.unreadable_names:,} photos left out: their names are not UTF-8 on one line")
    return [*lines, f"written to {output}"]


def _roots(options: argparse.Namespace) -> tuple[str, ...]:
    from frpipe.core.config import load_config

    return (*load_config(options.config).storage.roots, *options.root)


def _check(options: argparse.Namespace) -> int:
    from frpipe.core.schema import reserved_names
    from frpipe.io.manifest.admission import WrittenPeople, admitted
    from frpipe.io.manifest.manifest import Manifest
    from frpipe.io.manifest.roots import Resolver
    from frpipe.io.output.plan import auto_part_rows, worth_while
    from frpipe.runtime.cpus import usable_cpus

    roots = _roots(options)
    manifest = Manifest.open(options.uri, reserved_names())
    resolver = Resolver(manifest.folder.uri, roots, count_links=True)
    people = WrittenPeople()
    rows = sum(table.num_rows for table in admitted(manifest, roots, resolver, people))
    workers = usable_cpus()
    size = auto_part_rows(rows, min(workers, worth_while(rows)), roots)
    parts, files = -(-rows // size), len(manifest.files)
    print(f"{rows:,} rows in {files:,} {manifest.format} file{'s' * (files > 1)}: the manifest is good")
    print("columns: " + ", ".join(f"{field.name} ({field.type})" for field in manifest.schema))
    if resolver.linked:
        where = "storage.roots" if roots else "the manifest's folder"
        print(f"{resolver.linked:,} photos are reached by links, which stay inside {where}")
    if resolver.unbounded:
        print(f"{resolver.unbounded:,} photos have absolute paths: links are followed, since no root is set")
    for line in people.remarks():
        print(line)
    here = f"on the {workers:,} CPU{'s' * (workers > 1)} of this machine"
    print(f"{here} a run would cut it into {parts:,} part{'s' * (parts > 1)} of {size:,} rows")
    return 0
