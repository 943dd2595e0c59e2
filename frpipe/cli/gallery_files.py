"""`frpipe gallery export | import`: galleries as other files."""

from __future__ import annotations

import argparse

from frpipe.cli.doubts import doubts_shown
from frpipe.cli.gallery_parser import (
    POLICIES,
    Commands,
    add_likeness,
    add_photos,
    answer,
    command,
    outcome_text,
)
from frpipe.core.counted import counted


def add_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    export = command(
        commands,
        "export",
        "write a gallery as the lecture's HDF5 file, or as Parquet; not encrypted",
        _export,
        ["G --layout lecture -o gallery.hdf", "G --layout parquet -o templates/"],
    )
    export.add_argument(
        "--layout", choices=("lecture", "parquet"), default="lecture", help="default: %(default)s"
    )
    export.add_argument(
        "-o", "--output", required=True, metavar="TO", help="file, or folder for Parquet; a new one"
    )
    importing = command(
        commands,
        "import",
        "read a lecture's HDF5 file or a Parquet export into a gallery",
        _import,
        ["G gallery.hdf --assume-model", "G templates/ --policy replace"],
    )
    importing.add_argument(
        "file", metavar="FROM", help=".hdf, .hdf5, .h5 or .parquet file, or folder of an export"
    )
    importing.add_argument(
        "--policy",
        choices=POLICIES,
        help="for who is there already (default: append; skip for a lecture's file that names no model)",
    )
    importing.add_argument(
        "--assume-model",
        action="store_true",
        help="the file names no model: take it that the gallery's made its vectors; the log says so",
    )
    add_photos(importing)
    add_likeness(importing)


def _export(options: argparse.Namespace) -> int:
    from frpipe.gallery.gallery import Gallery
    from frpipe.jobs.gallery_files import export

    rows = export(Gallery.open(options.gallery), options.output, options.layout)
    content = {"templates": rows, "layout": options.layout, "output": options.output}
    return answer(options, content, f"{counted(rows, 'templates')} written to {options.output}")


def _import(options: argparse.Namespace) -> int:
    from frpipe.gallery.gallery import Gallery
    from frpipe.jobs.gallery_files import import_file
    from frpipe.jobs.likeness import likeness_of

    gallery = Gallery.open(options.gallery)
    with doubts_shown():
        outcome = import_file(
            gallery,
            options.file,
            options.policy,
            options.assume_model,
            source_name=options.source,
            same_photos=options.same_photos,
            likeness=likeness_of(gallery.spec, options.threshold, options.strict),
        )
    return answer(options, outcome.as_dict(), outcome_text(outcome))
