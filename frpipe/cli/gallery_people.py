"""`frpipe gallery list | show`: who is in a gallery."""

from __future__ import annotations

import argparse
import json
from typing import Any

from frpipe.cli.gallery_parser import Commands, command, identifier, integer, not_negative, pairs
from frpipe.cli.table import table
from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, GalleryError


def add_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    listing = command(
        commands,
        "list",
        "list people in the order of their ids; vectors are not read",
        _list,
        [
            "G",
            "G --where Department=Sales --limit 20",
            "G --after 1041 --json",
            "G --limit 0 --json > all.jsonl",
        ],
    )
    listing.add_argument(
        "--where",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="people with this attribute",
    )
    listing.add_argument(
        "--limit",
        type=not_negative,
        default=100,
        metavar="N",
        help="people on the page; 0: all (default: %(default)s)",
    )
    listing.add_argument("--after", type=identifier, default="", metavar="ID", help="begin after this id")
    listing.add_argument("--version", type=integer, metavar="V", help="as of this version")
    show = command(
        commands, "show", "show all templates of one person", _show, ["G 0", "G 0 --json --vectors"]
    )
    show.add_argument("id", type=identifier, metavar="ID", help="id of the person")
    show.add_argument("--vectors", action="store_true", help="with --json: the vectors too")
    show.add_argument("--version", type=integer, metavar="V", help="as of this version")


def _list(options: argparse.Namespace) -> int:
    from frpipe.gallery.gallery import Gallery
    from frpipe.gallery.persons import persons

    snapshot = Gallery.open(options.gallery).snapshot(options.version)
    limit = options.limit + 1 if options.limit else None
    page = persons(snapshot, pairs(options.where, "--where"), options.after, limit)
    more = limit is not None and page.num_rows == limit
    shown = page.slice(0, options.limit) if more else page
    if options.json:
        for batch in shown.to_batches(max_chunksize=10_000):
            for row in batch.to_pylist():
                print(json.dumps(_person(row), ensure_ascii=False, default=_iso))
        return 0
    print(table(shown.column_names, [_cells(row) for row in shown.to_pylist()]))
    last = f"; more: --after {shown['subject_id'][-1].as_py()}" if more and shown.num_rows else ""
    print(f"({counted(shown.num_rows, 'people')}, version {snapshot.number}{last})")
    return 0


def _show(options: argparse.Namespace) -> int:
    from frpipe.gallery.attributes import agreed, known_values
    from frpipe.gallery.gallery import Gallery

    if options.vectors and not options.json:
        raise ConfigError("--vectors goes with --json", "add --json, or leave it out")
    snapshot = Gallery.open(options.gallery).snapshot(options.version)
    rows = snapshot.show(options.id, vectors=options.vectors).sort_by("face_id").to_pylist()
    if not rows:
        raise GalleryError("nobody of this id is in the gallery", "`frpipe gallery list` shows who is")
    if options.json:
        for row in rows:
            print(json.dumps(_template(row), ensure_ascii=False, default=_iso))
        return 0
    values = known_values(rows)
    for name, value in agreed(values).items():
        print(table(["", ""], [[name, value]]).strip())
    columns = ["face_id", "quality", "enrolled_at", *(n for n, some in values.items() if len(some) > 1)]
    columns.append("image_uri")
    print(table(columns, [[_short(row[name]) for name in columns] for row in rows]))
    print(f"({counted(len(rows), 'templates')}, version {snapshot.number})")
    return 0


_FIXED = ("subject_id", "templates", "face_id", "image_uri", "quality", "enrolled_at", "embedding")


def _person(row: dict[str, Any]) -> dict[str, Any]:
    """Make a row a mapping, its known attributes in one of their own: they may have any name.

    attributes: those of which the person's templates have one value.  disputed: all values of the others.
    """
    own = {name: values for name, values in row.items() if name not in _FIXED and values}
    shared = {name: values[0] for name, values in own.items() if len(values) == 1}
    others = {name: values for name, values in own.items() if len(values) > 1}
    fixed = {name: value for name, value in row.items() if name in _FIXED}
    return fixed | {"attributes": shared} | ({"disputed": others} if others else {})


def _template(row: dict[str, Any]) -> dict[str, Any]:
    from frpipe.gallery.attributes import is_shown
    from frpipe.gallery.schema import FIXED_COLUMNS

    own = {name: value for name, value in row.items() if is_shown(name) and value is not None}
    return {name: value for name, value in row.items() if name in FIXED_COLUMNS} | {"attributes": own}


def _cells(row: dict[str, Any]) -> list[object]:
    return [" | ".join(v) if isinstance(v, list) else _short(v) for v in row.values()]


def _short(value: Any) -> object:
    if isinstance(value, float):
        return f"{value:.3f}"
    return value.strftime("%Y-%m-%d %H:%M:%S") if hasattr(value, "strftime") else value


def _iso(value: Any) -> str:
    return str(value.isoformat())
