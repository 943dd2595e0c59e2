"""`frpipe manifest scan` and `frpipe manifest check`: lists of photos."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from frpipe.cli.gallery_parser import not_negative
from frpipe.core.counted import counted

if TYPE_CHECKING:
    from frpipe.core.config import Config
    from frpipe.io.manifest.probe import Probe
    from frpipe.io.manifest.roots import Resolver
    from frpipe.io.manifest.scan import Scan

_SCAN_EXAMPLES = """\
examples:
  frpipe manifest scan photos/ -o photos.parquet             # flat, or one folder per person
  frpipe manifest scan lfw/ -o lfw.csv --subject-from folder
  frpipe manifest scan s3://bucket/photos -o photos.jsonl --glob 'team-*/**/*.jpg'
  frpipe manifest scan photos/ -o photos.parquet --exclude old --exclude '*/drafts/*.png'
  frpipe manifest scan s3://bucket/shards -o photos.parquet  # WebDataset: .tar, .tar.gz and .zip
  frpipe manifest scan photos/ -o photos.parquet --root /archive    # links may lead there, too
"""
_CHECK_EXAMPLES = """\
examples:
  frpipe manifest check photos.parquet
  frpipe manifest check s3://bucket/manifest/ --root s3://bucket/photos
  frpipe manifest check 'lists/*.csv.gz' --probe 1000
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
        "--glob", metavar="PATTERN", help="keep paths that match, relative to URI; * stops at /, ** does not"
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out files and folders that match: by name, or by path if there is a / in it; repeatable",
    )
    parser.add_argument(
        "--system",
        action="store_true",
        help="take what systems make, too (@eaDir, #recycle, __MACOSX, ...), and what is hidden",
    )
    parser.add_argument(
        "--shards",
        action=argparse.BooleanOptionalAction,
        help="list photos in .tar, .tar.gz and .zip files, too; default: where there are no others",
    )
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    _add_roots(parser, "links may lead below this")
    parser.set_defaults(run=_scan)


def _add_roots(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--config", metavar="FILE", help="YAML, as for jobs")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one setting, as for jobs"
    )
    parser.add_argument(
        "--root", action="append", default=[], metavar="ROOT", help=f"{what}; may be repeated"
    )


def _add_check(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser(
        "check",
        help="check a manifest as a run would, and write nothing",
        description="Read a whole manifest, check every row as a run would, and print what a run would do.",
        epilog=_CHECK_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "uri", metavar="MANIFEST", help="a file, a folder of files of one format, or a pattern"
    )
    _add_roots(parser, "allow photos only below this")
    parser.add_argument(
        "--probe",
        type=not_negative,
        default=100,
        metavar="N",
        help="open a sample of so many photos, always the same; 0: none (default: %(default)s)",
    )
    parser.set_defaults(run=_check)


def _scan(options: argparse.Namespace) -> int:
    from frpipe.io.manifest.scan import scan

    found = scan(
        options.uri,
        options.output,
        options.subject_from,
        options.glob,
        _config(options).storage.roots,
        exclude=options.exclude,
        system=options.system,
        shards=options.shards,
    )
    print(json.dumps(found.as_dict(), indent=1) if options.json else _described(found, options.output))
    return 0


def _described(found: Scan, output: str) -> str:
    kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in found.suffixes.most_common())
    lines = [f"{counted(found.photos, 'photos')}: {kinds}"]
    if found.shards:
        lines[0] += f", in {counted(found.shards, 'shards')}"
    lines += [f"shard {shard!r} is not whole: {why}" for shard, why in found.damaged.items()]
    if found.subjects is not None and found.named:
        lines.append(f"{counted(found.subjects, 'subjects')}, by files beside the photos in their shards")
    elif found.subjects is not None:
        lines.append(f"{counted(found.subjects, 'subjects')}, by folder")
    elif len(found.depths) > 1 or 0 not in found.depths:
        lines.append("no subjects: not every photo lies one folder down (see --subject-from folder)")
    else:
        lines.append("no subjects: the photos are not in folders of their own")
    lines += found.links.lines("--root", named=True)
    lines += found.left_out.lines("--system")
    if found.unreadable_names:
        lines.append(
            f"{counted(found.unreadable_names, 'photos')} left out: their names cannot stand in a manifest"
        )
    return "\n".join([*lines, f"written to {output}"])


def _config(options: argparse.Namespace) -> Config:
    """Make the settings, with the roots that are given beside them."""
    from frpipe.core.config import load_config

    config = load_config(options.config, options.set)
    storage = config.storage.model_copy(update={"roots": (*config.storage.roots, *options.root)})
    return config.model_copy(update={"storage": storage})


def _check(options: argparse.Namespace) -> int:
    from frpipe.core.schema import reserved_names
    from frpipe.io.manifest.admission import admitted
    from frpipe.io.manifest.manifest import Manifest
    from frpipe.io.manifest.probe import Probe
    from frpipe.io.manifest.roots import Resolver
    from frpipe.io.manifest.survey import Survey

    config = _config(options)
    roots = config.storage.roots
    manifest = Manifest.open(options.uri, reserved_names(), config.manifest.nobody)
    resolver = Resolver(manifest.folder.uri, roots, count_links=True)
    survey, probe, rows = Survey(manifest.nobody), Probe(options.probe), 0
    for table in admitted(manifest, roots, resolver, survey):
        rows += table.num_rows
        probe.add(table)
    files = f"{len(manifest.parts):,} {manifest.format} file{'s' * (len(manifest.parts) > 1)}"
    print(f"{counted(rows, 'rows')} in {files}: the manifest is good")
    print("columns: " + ", ".join(f"{field.name} ({field.type})" for field in manifest.schema))
    remarks = [*manifest.remarks, *survey.lines(rows), *survey.remarks(manifest.subjects)]
    for line in (
        *remarks,
        *_of_addresses(resolver, bool(roots)),
        *_of_probe(probe, config),
        _of_parts(rows, roots),
    ):
        print(line)
    return 0


def _of_addresses(resolver: Resolver, bounded: bool) -> Iterator[str]:
    if resolver.linked:
        where = "storage.roots" if bounded else "the manifest's folder"
        yield f"{counted(resolver.linked, 'photos are')} reached by links, which stay inside {where}"
    if resolver.unbounded:
        paths = counted(resolver.unbounded, "photos have")
        yield f"{paths} absolute paths; no root is set, so that links are followed"
    for why, count in resolver.misread.most_common():
        yield f"warning: a run would reject {counted(count, 'rows')} as bad_address: {why}"


def _of_probe(probe: Probe, config: Config) -> Iterator[str]:
    """Describe what is seen of a sample. A store that does not answer is no fault of the manifest."""
    from frpipe.core.errors import StorageError
    from frpipe.io.manifest.probe import READABLE

    try:
        found = probe.look(config)
    except StorageError as error:
        yield f"warning: no photo of the sample was opened: {error.message} ({error.remedy})"
        return
    if found:
        others = "".join(f", {count:,} {why}" for why, count in found.most_common() if why != READABLE)
        word = "" if found[READABLE] else "warning: "
        sample = counted(found.total(), "photos")
        yield f"{word}of a sample of {sample} {found[READABLE]:,} are {READABLE}{others}"


def _of_parts(rows: int, roots: tuple[str, ...]) -> str:
    from frpipe.io.output.plan import auto_part_rows, worth_while
    from frpipe.runtime.cpus import usable_cpus

    workers = usable_cpus()
    size = auto_part_rows(rows, min(workers, worth_while(rows)), roots)
    parts = -(-rows // size)
    here = f"on the {workers:,} CPU{'s' * (workers > 1)} of this machine"
    return f"{here} a run would cut it into {parts:,} part{'s' * (parts > 1)} of {size:,} rows"
