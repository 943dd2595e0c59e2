"""`frpipe gallery log | diff | rollback | merge | verify`: versions, and whether they are whole."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from frpipe.cli.doubts import doubts_shown
from frpipe.cli.gallery_parser import (
    Commands,
    add_likeness,
    add_photos,
    answer,
    command,
    integer,
    outcome_text,
)
from frpipe.cli.table import printable, table
from frpipe.core.errors import GalleryDamaged

_SHOWN = 20


def add_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    command(
        commands, "log", "what was done to a gallery: counts and digests, no names", _log, ["G", "G --json"]
    )
    diff = command(
        commands,
        "diff",
        "who is different between two versions, or two galleries",
        _diff,
        ["G", "G --from 3 --to 7", "G --other H --json"],
    )
    diff.add_argument(
        "--from", dest="old", type=integer, metavar="V", help="default: the version before --to"
    )
    diff.add_argument("--to", dest="new", type=integer, metavar="V", help="default: the newest")
    diff.add_argument("--other", metavar="H", help="from G to the newest version of this gallery instead")
    rollback = command(commands, "rollback", "make an older version the newest", _rollback, ["G 3"])
    rollback.add_argument("version", type=integer, metavar="V", help="a version of `frpipe gallery log`")
    merge = command(commands, "merge", "put all people of another gallery into this one", _merge, ["G H"])
    merge.add_argument("other", metavar="H", help="a gallery of the same model")
    add_photos(merge)
    add_likeness(merge)
    command(commands, "verify", "check every byte and every row of a gallery", _verify, ["G"])


def _log(options: argparse.Namespace) -> int:
    from frpipe.gallery.catalog import SHORT
    from frpipe.gallery.gallery import Gallery

    gallery = Gallery.open(options.gallery)
    history, readable = gallery.catalog.history(), set(gallery.versions())
    rows, entries = [], []
    for commit, entry in history:
        counts = _counts(entry.counts)
        state = "" if entry.version in readable else "purged"
        rows.append((entry.version, commit[:SHORT], entry.created, entry.action, counts, state, entry.note))
        entries.append({**asdict(entry), "commit": commit, "readable": entry.version in readable})
    content = {"gallery": gallery.uri, "gallery_id": gallery.gallery_id, "entries": entries}
    heads = ("version", "commit", "when", "action", "counts", "", "note")
    return answer(options, content, table(heads, rows))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in counts.items() if value)


def _diff(options: argparse.Namespace) -> int:
    from frpipe.gallery import lifecycle
    from frpipe.gallery.gallery import Gallery

    gallery = Gallery.open(options.gallery)
    if options.other:
        old, new = gallery.snapshot(options.old), Gallery.open(options.other).snapshot(options.new)
    else:
        new = gallery.snapshot(options.new)
        old = gallery.snapshot(max(0, new.number - 1) if options.old is None else options.old)
    found = lifecycle.diff(old, new)
    kinds = {name: list(getattr(found, name)) for name in ("added", "removed", "changed")}
    lines = [f"from {old.id} to {new.id}"]
    for kind, ids in kinds.items():
        more = f" ... ({len(ids) - _SHOWN:,} more, see --json)" if len(ids) > _SHOWN else ""
        lines.append(f"{kind:<8} {len(ids):,}  {' '.join(map(printable, ids[:_SHOWN]))}{more}".rstrip())
    named = {"from": old.number, "to": new.number, "from_id": old.id.as_dict(), "to_id": new.id.as_dict()}
    return answer(options, {**named, **kinds}, "\n".join(lines))


def _rollback(options: argparse.Namespace) -> int:
    from frpipe.gallery import lifecycle
    from frpipe.gallery.gallery import Gallery

    gallery = Gallery.open(options.gallery)
    older = gallery.snapshot(options.version).id
    outcome = lifecycle.rollback(gallery, options.version)
    content = {**outcome.as_dict(), "to_id": older.as_dict()}
    return answer(options, content, f"{outcome_text(outcome)}, with the templates of {older}")


def _merge(options: argparse.Namespace) -> int:
    from frpipe.gallery import lifecycle
    from frpipe.gallery.gallery import Gallery
    from frpipe.gallery.photos import check_source
    from frpipe.jobs.likeness import likeness_of

    check_source(options.source)
    gallery = Gallery.open(options.gallery)
    with doubts_shown():
        outcome = lifecycle.merge(
            gallery,
            Gallery.open(options.other),
            source=options.source,
            same_photos=options.same_photos,
            likeness=likeness_of(gallery.spec, options.threshold, options.strict),
        )
    return answer(options, outcome.as_dict(), outcome_text(outcome))


def _verify(options: argparse.Namespace) -> int:
    from frpipe.gallery import lifecycle
    from frpipe.gallery.gallery import Gallery
    from frpipe.jobs.low_forms import form_problems

    gallery = Gallery.open(options.gallery)
    # Files derived from damaged shards prove nothing.
    problems = lifecycle.verify(gallery) or form_problems(gallery)
    content = {"intact": not problems, "problems": [asdict(problem) for problem in problems]}
    lines = [f"{problem.file}: {problem.what}" for problem in problems]
    answer(options, content, "\n".join(lines) or "every file and every row is as it was written")
    return GalleryDamaged.exit_code if problems else 0
