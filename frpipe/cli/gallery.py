"""`frpipe gallery`: the people who are enrolled."""

from __future__ import annotations

import argparse

from frpipe.cli import (
    gallery_backups,
    gallery_contents,
    gallery_files,
    gallery_labels,
    gallery_people,
    gallery_suppressed,
    gallery_versions,
)

_DESCRIPTION = """\
A gallery is a folder, on a disk or in an object store, of people and their face vectors. Ids are the keys;
names may repeat. Every change makes a new version, whole or not at all. docs/gallery.md walks through it.

An encrypted gallery takes its key from FRPIPE_GALLERY_KEY or the file that FRPIPE_GALLERY_KEY_FILE names.
Exit code 10: no gallery, damaged, of another model, or nobody of this id."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command with all of its own."""
    parser = commands.add_parser(
        "gallery",
        help="make, fill, look at and change a gallery of people",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    modules = (
        gallery_contents,
        gallery_people,
        gallery_suppressed,
        gallery_files,
        gallery_versions,
        gallery_labels,
        gallery_backups,
    )
    for module in modules:
        module.add_commands(actions)
