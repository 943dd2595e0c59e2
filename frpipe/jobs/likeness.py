"""Doubt faces that come into a gallery and do not fit their people: the threshold, and the text."""

from __future__ import annotations

from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError
from frpipe.gallery.likeness import Doubt, Doubts, Likeness
from frpipe.gallery.spec import GallerySpec
from frpipe.jobs.features import card_name
from frpipe.matching.threshold import threshold_of
from frpipe.models.registry import Registry

_SHOWN = 10


def likeness_of(spec: GallerySpec, threshold: float | None = None, strict: bool = False) -> Likeness | None:
    """Make the rule for doubting a face: a similarity, the embedder card's unless one is given.

    None where there is none. Raises ConfigError where one is needed (strict), or is out of range.
    """
    name = card_name(spec.embedder_hash)
    card = Registry.default().card(name) if name else None
    try:
        limit = threshold_of(spec.embedder_hash, given=threshold, embedder_card=card)
    except ConfigError:
        if strict or threshold is not None:
            raise
        return None
    return Likeness(limit.similarity, strict, limit.fmr)


def doubts_text(doubts: Doubts | None) -> list[str]:
    """List the doubted faces for people, with ids; empty where all faces fit."""
    if doubts is None:
        return [
            "not looked at: whether the faces fit their people; the embedder has no threshold (--threshold)"
        ]
    lines = []
    if doubts.unlike_own:
        lines.append(
            f"{_faces(doubts.unlike_own)} below similarity {doubts.threshold:.3f} to all others of the person"
        )
        lines += _listed(doubts, "unlike_own", doubts.unlike_own)
    if doubts.like_another:
        chance = f"; by chance {doubts.by_chance:,.1f}" if doubts.by_chance is not None else ""
        lines.append(
            f"{_faces(doubts.like_another)} at similarity {doubts.threshold:.3f} or more to another person "
            f"({counted(doubts.comparisons, 'comparisons')}{chance})"
        )
        lines += _listed(doubts, "like_another", doubts.like_another)
    if doubts.like_another is None:
        lines.append(
            f"not compared with other people: {doubts.new:,} new faces are too many to do so at once; "
            "jobs/dedup.py does"
        )
    return lines


def _faces(count: int) -> str:
    return f"doubted    {count:,} new face{'s' * (count > 1)}"


def _listed(doubts: Doubts, kind: str, count: int) -> list[str]:
    shown = [doubt for doubt in doubts.shown if doubt.kind == kind][:_SHOWN]
    more = [f"           and {count - len(shown):,} more"] if count > len(shown) else []
    return [f"           {_line(doubt)}" for doubt in shown] + more


def _line(doubt: Doubt) -> str:
    other = f"{doubt.other_face_id} of {doubt.other_subject_id}"
    return f"{doubt.subject_id}, {doubt.face_id}: nearest {doubt.similarity:.3f}, {other}"
