"""`frpipe gallery suppressed | suppress | allow`: who must not come back into a gallery."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from frpipe.cli.exits import EXIT_NO
from frpipe.cli.gallery_parser import Commands, answer, command, identifier
from frpipe.cli.table import table
from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError

if TYPE_CHECKING:
    from frpipe.gallery.suppression import Names, SuppressionEntry, Suppressions

_SHOWN = 12


def add_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    listing = command(
        commands,
        "suppressed",
        "list who must not come back: digests, why, when and by whom; or test ids (exit code 12: not on it)",
        _suppressed,
        ["G", "G --id joe-biden", "G --image joe/1.jpg --json"],
    )
    _add_names(listing, "test", "--id")
    suppress = command(
        commands,
        "suppress",
        "keep people or photos out of a gallery; what is in sight of them is deleted",
        _suppress,
        ["G 0 17 --reason 'request 2026-14'", "G --image joe/1.jpg", "G --like NEWER-GALLERY"],
    )
    suppress.add_argument("ids", nargs="*", type=identifier, metavar="ID", help="ids of people")
    suppress.add_argument(
        "--like", metavar="H", help="take over the list of this gallery, say of the one that a copy is of"
    )
    _add_names(suppress, "keep out")
    add_reason(suppress)
    allow = command(
        commands,
        "allow",
        "let people or photos come back that were suppressed; nobody is enrolled by it",
        _allow,
        ["G 0", "G --image joe/1.jpg --reason 'wrong file'"],
    )
    allow.add_argument("ids", nargs="*", type=identifier, metavar="ID", help="ids of people")
    _add_names(allow, "allow")
    add_reason(allow)


def add_reason(parser: argparse.ArgumentParser) -> None:
    """Add --reason and --by, for the suppression list."""
    parser.add_argument("--reason", type=identifier, default="", help="why; kept in the clear: name nobody")
    parser.add_argument("--by", type=identifier, default="", metavar="WHO", help="by whom")


def _add_names(parser: argparse.ArgumentParser, what: str, subjects: str | None = None) -> None:
    if subjects:
        parser.add_argument(
            subjects, dest="ids", nargs="+", default=[], type=identifier, metavar="ID", help=f"{what} people"
        )
    for flag, means in (("image", "photos, by their ids"), ("content", "photos, by SHA-256 of their files")):
        parser.add_argument(
            f"--{flag}",
            nargs="+",
            default=[],
            type=identifier if flag == "image" else _content,
            metavar=flag.upper(),
            help=f"{what} {means}",
        )


def _content(text: str) -> str:
    if len(text) < 20 or not set(text.lower()) <= set("0123456789abcdef"):
        raise argparse.ArgumentTypeError("it is no SHA-256 in hex, of 20 digits or more")
    return text


def _suppressed(options: argparse.Namespace) -> int:
    from frpipe.gallery.gallery import Gallery

    found = Gallery.open(options.gallery).suppressions.read()
    if options.ids or options.image or options.content:
        return _tested(options, found)
    rows = [_row(entry) for entry in found.entries]
    content = {"gallery": options.gallery, "entries": [_facts(entry) for entry in found.entries]}
    text = table(("when", "people", "photos", "contents", "reason", "by"), rows)
    return answer(options, content, f"{text}\n({counted(len(rows), 'entries')})")


def _row(entry: SuppressionEntry) -> tuple[object, ...]:
    who = " ".join(each[:_SHOWN] for each in sorted(entry.subjects))
    return entry.created, who, len(entry.images), len(entry.contents), entry.reason, entry.by


def _facts(entry: SuppressionEntry) -> dict[str, Any]:
    """The digests alone: with their key, which is left out, ids could be tried."""
    kinds = {kind: sorted(getattr(entry, kind)) for kind in ("subjects", "images", "contents")}
    return {"created": entry.created, "reason": entry.reason, "by": entry.by, **kinds}


def _tested(options: argparse.Namespace, found: Suppressions) -> int:
    kinds = (("subjects", options.ids), ("images", options.image), ("contents", options.content))
    results = [(value, found.holds(kind, value)) for kind, values in kinds for value in values]
    lines = [f"{value}: {'suppressed' if there else 'not suppressed'}" for value, there in results]
    answer(options, {"suppressed": dict(results)}, "\n".join(lines))
    return 0 if all(there for _, there in results) else EXIT_NO


def _suppress(options: argparse.Namespace) -> int:
    from frpipe.gallery import lifecycle
    from frpipe.gallery.delete import names_of
    from frpipe.gallery.gallery import Gallery
    from frpipe.gallery.suppression import Names

    gallery, names = Gallery.open(options.gallery), _names(options)
    if not names and not options.like:
        raise _nobody()
    added = gallery.suppressions.adopt(Gallery.open(options.like).suppressions.read()) if options.like else 0
    # People one by one, so that they can be allowed one by one; with their photos, as a deletion has them.
    each = names_of(gallery, names.subjects)
    each.append(Names(images=names.images, contents=names.contents))
    added += gallery.suppressions.suppress(each, options.reason, options.by)
    done = lifecycle.obey(gallery, note="suppressed")
    gone = f"; {counted(done.deleted, 'templates')} in sight deleted" if done.deleted else ""
    text = f"{counted(added, 'entries')} added to the suppression list{gone}; version {done.version}"
    return answer(options, {"added": added, **done.as_dict()}, text)


def _allow(options: argparse.Namespace) -> int:
    from frpipe.gallery.gallery import Gallery

    names = _names(options)
    if not names:
        raise _nobody()
    lifted = Gallery.open(options.gallery).suppressions.allow(names, options.reason, options.by)
    text = f"{counted(lifted, 'digests')} lifted from the suppression list"
    answer(options, {"lifted": lifted}, text if lifted else "none of these is on the suppression list")
    return 0 if lifted else EXIT_NO


def _names(options: argparse.Namespace) -> Names:
    from frpipe.gallery.suppression import Names

    return Names(frozenset(options.ids), frozenset(options.image), frozenset(options.content))


def _nobody() -> ConfigError:
    return ConfigError("nobody is named", "give ids of people, --image or --content")
