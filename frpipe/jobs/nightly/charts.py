"""Small drawings of a night's page: numbers in, HTML and SVG out. All texts are escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

_WIDTH, _HEIGHT, _FLOOR = 240, 84, 68
_NAMES = {
    "rejected": "Rejected photos",
    "no_face": "Photos without a face",
    "detection_score": "Detection score",
    "quality": "Face quality",
    "rank1_similarity_gallery": "Rank-1 similarity, gallery",
    "rank1_similarity_watch-list": "Rank-1 similarity, watch list",
    "mated_similarity": "Mated similarity",
}
_CHIPS = {"steady": "good", "moved": "warn", "insufficient data": "none"}
SHARES = ("rejected", "no_face")


def bar(value: float, mark: float, most: float) -> str:
    """A bar, and a mark for the night before."""
    now, then = (100 * each / most if most else 0 for each in (value, mark))
    tick = f'<u style="left:min({then:.1f}%, calc(100% - 2px))"></u>' if mark else ""
    return f'<div class="bar"><i style="width:{now:.1f}%"></i>{tick}</div>'


def measure(name: str, facts: dict[str, Any]) -> str:
    """One measure: its verdict, both distributions, and how far they lie apart."""
    verdict, before, tonight = facts["verdict"], facts["before"], facts["tonight"]
    if facts["distance"] is None:
        apart = f"{tonight['count']:,} values tonight, {before['count']:,} before"
    else:
        apart = f"distance {facts['distance']:.3f}; by chance up to {facts['chance']:.3f}"
    drawn = _share(tonight, before) if name in SHARES else _histogram(facts)
    return (
        f'<div class="card"><header><h3>{escape(_NAMES.get(name, name))}</h3>'
        f'<span class="chip {_CHIPS[verdict]}">{verdict}</span></header>{drawn}<p>{apart}</p></div>'
    )


def _share(tonight: dict[str, Any], before: dict[str, Any]) -> str:
    """Two bars: a share has no distribution to draw."""
    most = max(tonight["mean"] or 0, before["mean"] or 0, 1e-9)
    rows = []
    for y, style, each in ((8, "then", before), (38, "tonight", tonight)):
        share = each["mean"]
        fill = ' class="then"' if style == "then" else ' style="fill:var(--now)"'
        text = "no nights before" if share is None else f"{share:.2%}"
        rows.append(
            f'<rect x="0" y="{y}" height="20" rx="3" width="{(share or 0) / most * 160:.1f}"{fill}/>'
            f'<text x="{(share or 0) / most * 160 + 8:.1f}" y="{y + 14}">{text}</text>'
        )
    return f'<svg viewBox="0 0 {_WIDTH} 66" role="img" aria-label="shares">{"".join(rows)}</svg>'


def _histogram(facts: dict[str, Any]) -> str:
    then, now = facts["before_shares"], facts["tonight_shares"]
    most = max([*then, *now, 1e-9])
    low, high = facts["edges"]
    width = _WIDTH / len(then)
    bars = "".join(
        f'<rect class="then" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_FLOOR - y:.1f}"/>'
        for x, y in _points(then, most)
        if y < _FLOOR
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="distribution">{bars}'
        f'<path class="now" d="{_outline(now, most)}"/>'
        f'<line class="base" x1="0" y1="{_FLOOR}" x2="{_WIDTH}" y2="{_FLOOR}"/>'
        f'<text x="0" y="{_HEIGHT - 2}">{low:.2f}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 2}" text-anchor="end">{high:.2f}</text></svg>'
    )


def _points(shares: Sequence[float], most: float) -> list[tuple[float, float]]:
    step = _WIDTH / len(shares)
    return [(number * step, _FLOOR - share / most * (_FLOOR - 4)) for number, share in enumerate(shares)]


def _outline(shares: Sequence[float], most: float) -> str:
    step = _WIDTH / len(shares)
    steps = "".join(f"L{x:.1f},{y:.1f}L{x + step:.1f},{y:.1f}" for x, y in _points(shares, most))
    return f"M0,{_FLOOR}{steps}L{_WIDTH},{_FLOOR}"
