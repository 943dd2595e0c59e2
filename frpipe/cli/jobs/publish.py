"""Publish finished runs and nights into tables that engines query: photos, faces, matches, people.

    frpipe run publish --nights nights/ --tables tables/
    frpipe run publish --config night.yaml                       # as the step of the night does; backfills
    frpipe run publish --results out/ found/ --tables s3://lake/faces --layout parquet
    frpipe run publish --tables tables/ --compact
    frpipe run publish --tables tables/ --move-source old new
    ray job submit --address http://head:8265 --working-dir . -- \\
        python jobs/publish.py --nights s3://runs --tables s3://lake/faces

One row for each photo and face, whatever was killed, repeated or raced: a photo that was processed again
has its newest rows. What has not ended is never in the tables. The same command goes on after any
interruption, and publishes what is new. Exit codes: 0 done, 2 settings, 6 a result is not finished, damaged
or of another recipe than the tables, 7 storage, 10 gallery. docs/tables.md says what readers may rely on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from frpipe.cli.exits import guarded
from frpipe.cli.gallery_parser import hours, positive
from frpipe.cli.job_options import add_modes, job_parser
from frpipe.cli.reporter import Speaker
from frpipe.cli.stdout import kept_clean
from frpipe.core.errors import ConfigError

if TYPE_CHECKING:
    from frpipe.jobs.publish.job import Publishing
    from frpipe.jobs.publish.merge import Barred
    from frpipe.jobs.publish.sources import Publication

_say = Speaker("publish")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return guarded(lambda: _publish(options))


def _publish(options: argparse.Namespace) -> int:
    job = _job(options)
    with kept_clean():
        done = job.dry_run() if options.dry_run else job.run()
    print(json.dumps(done.as_dict(), indent=1, ensure_ascii=False) if options.json else done.text())
    return 0


def _job(options: argparse.Namespace) -> Publishing:
    from frpipe.jobs.nightly.published import publishing
    from frpipe.jobs.output_place import refuse_relative
    from frpipe.jobs.publish.job import Publishing

    how = {
        "layout": options.layout,
        "embeddings": options.embeddings,
        "target_bytes": None if options.target_mb is None else options.target_mb << 20,
        "keep_hours": options.keep_hours,
        "without": frozenset(options.without),
        "compact": options.compact,
        "same_photos": options.same_photos,
        "move": tuple(options.move_source) if options.move_source else None,
    }
    given = {name: value for name, value in how.items() if value is not None}
    if options.config:
        from frpipe.core.night_config import load_night

        if options.results or options.nights or options.obey or options.source:
            raise ConfigError("--config says what is published", "leave the other sources out")
        tables = [f"publish.tables={options.tables}"] if options.tables else []
        config = load_night(options.config, [*options.set, *tables])
        return publishing(config, _say, **given)
    if options.set:
        raise ConfigError("--set goes with --config", "leave it out")
    if not options.tables:
        raise ConfigError("where are the tables?", "give --tables, or --config with publish.tables")
    if not (options.results or options.nights or options.compact or options.move_source):
        raise ConfigError("there is nothing to publish", "give --results, --nights or --config")
    for flag, uri in (("--tables", options.tables), ("--nights", options.nights)):
        if uri:
            refuse_relative(flag, uri)
    return Publishing(
        options.tables, lambda known: _found(options, known), _barred(options), say=_say, **given
    )


def _found(
    options: argparse.Namespace, known: Mapping[str, str]
) -> tuple[Sequence[Publication], Sequence[str]]:
    from frpipe.jobs.nightly.published import nights_at
    from frpipe.jobs.publish.sources import result_at

    found = [result_at(uri, options.source) for uri in options.results]
    if not options.nights:
        return found, ()
    nights, unfinished = nights_at(options.nights, options.source, known)
    return [*found, *nights], unfinished


def _barred(options: argparse.Namespace) -> Barred:
    from frpipe.gallery.gallery import Gallery
    from frpipe.gallery.suppression import Suppressions
    from frpipe.io.storage.folder import Folder
    from frpipe.jobs.nightly.history import nights
    from frpipe.jobs.nightly.photo_sources import prefixes_of
    from frpipe.jobs.publish.merge import Barred

    entries = [entry for uri in options.obey for entry in Gallery.open(uri).suppressions.read().entries]
    # Whatever name --source gives to the photos of nights.
    known = nights(Folder.at(options.nights)) if entries and options.nights else ()
    return Barred(Suppressions(entries), prefixes=prefixes_of(known))


def _parser() -> argparse.ArgumentParser:
    parser = job_parser(__doc__)
    add = parser.add_argument
    add(
        "--tables", metavar="URI", help="folder or s3:// prefix of the tables, new or of earlier publications"
    )
    add(
        "--results",
        nargs="+",
        action="extend",
        default=[],
        metavar="URI",
        help="finished outputs of enroll, replays, identify and dedup",
    )
    add("--nights", metavar="URI", help="all finished nights of this folder, oldest first")
    add("--config", metavar="FILE", help="the configuration of nights: its `runs`, gallery and `publish`")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="with --config: one setting")
    add(
        "--source",
        metavar="NAME",
        help="what the ids of the photos belong to: those of two sources never meet (default: the manifest; "
        "of nights consolidate.source, else the folder of the first)",
    )
    add(
        "--same-photos",
        action="store_true",
        help="photos of --results that lie elsewhere than those of the same ids in the tables, and are of "
        "other content, are the same ones",
    )
    add(
        "--move-source",
        nargs=2,
        metavar=("FROM", "TO"),
        help="the photos of one source are of the other, from now on and for good: of a photo of both the "
        "later row stands",
    )
    add(
        "--obey",
        action="append",
        default=[],
        metavar="GALLERY",
        help="leave out, and take out, whom its suppression list names; with --config its gallery is obeyed",
    )
    add(
        "--layout",
        choices=("delta", "parquet"),
        help="Delta Lake, or plain Parquet in folders by month; settled by the first publication "
        "(default: delta)",
    )
    add(
        "--embeddings",
        action=argparse.BooleanOptionalAction,
        help="whether faces have their vectors; settled by the first publication (default: yes)",
    )
    add(
        "--without",
        action="append",
        default=[],
        metavar="COLUMN",
        help="leave a column of the manifests out; may be repeated",
    )
    add("--compact", action="store_true", help="merge all small files now; else those of like size")
    add(
        "--target-mb",
        type=positive,
        metavar="N",
        help="MB that the rows of a large file take in memory (default: 256)",
    )
    add(
        "--keep-hours",
        type=hours,
        metavar="H",
        help="how long replaced files stay for readers that are at them (default: 168 of delta, else 0)",
    )
    add_modes(parser)
    return parser
