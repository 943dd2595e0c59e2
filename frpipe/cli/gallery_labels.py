"""`frpipe gallery outliers`: labels that look wrong."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from frpipe.cli.gallery_parser import Commands, add_similarity, answer, command, positive
from frpipe.cli.table import table
from frpipe.core.counted import counted

if TYPE_CHECKING:
    from frpipe.gallery.labels import Labels


def add_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = command(
        commands,
        "outliers",
        "find photos unlike the others of their person, and persons more like somebody else",
        _outliers,
        ["G", "G --limit 50 --json", "G --threshold 0.5"],
    )
    parser.add_argument(
        "--limit", type=positive, default=20, metavar="N", help="of each kind (default: %(default)s)"
    )
    group = parser.add_mutually_exclusive_group()
    add_similarity(group, "of one person (default: the embedder card's)")
    parser.add_argument("--force", action="store_true", help="also where it takes more than some minutes")


def _outliers(options: argparse.Namespace) -> int:
    from frpipe.gallery.gallery import Gallery
    from frpipe.gallery.labels import examine
    from frpipe.jobs.photo import embedder_card
    from frpipe.matching.threshold import threshold_of

    gallery = Gallery.open(options.gallery)
    limit = threshold_of(
        gallery.spec.embedder_hash,
        given=options.threshold,
        embedder_card=embedder_card(gallery.spec),
    )
    snapshot = gallery.snapshot()
    columns = ["subject_id", "face_id", "image_uri"]
    found = examine(
        lambda: snapshot.tables(columns, vectors=True),
        gallery.spec.dim,
        limit.similarity,
        options.limit,
        options.force,
    )
    content = {**snapshot.id.as_dict(), "threshold": limit.similarity, **found.as_dict()}
    return answer(options, content, _text(found, limit.similarity))


def _text(found: Labels, threshold: float) -> str:
    photos = [
        (p.subject_id, p.face_id, f"{p.own:.3f}", p.nearest_id, _number(p.nearest)) for p in found.photos
    ]
    pairs = [(p.subject_id, p.other_id, f"{p.similarity:.3f}", _number(p.own)) for p in found.pairs]
    spreads = [(s.subject_id, s.templates, f"{s.dispersion:.3f}") for s in found.spreads]
    return "\n".join(
        (
            f"{counted(found.subjects, 'people')}, {counted(found.templates, 'templates')}; "
            f"one person from similarity {threshold:g} (distance {1 - threshold:g})",
            "",
            f"photos unlike the others of their person: {found.suspect_photos:,}",
            table(("person", "photo", "to own", "nearest other", "to other"), photos),
            "",
            f"persons as near to somebody else: {found.suspect_pairs:,}",
            table(("person", "other", "to other", "to own"), pairs),
            "",
            "widest spread (1 - mean similarity to the centroid of the others)",
            table(("person", "templates", "dispersion"), spreads),
        )
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
