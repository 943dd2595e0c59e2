"""Comparisons that went worst; photos of them only where they were handed in."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

from frpipe.evaluation.evaluation import Evaluation, Trial
from frpipe.evaluation.plots.text import fixed
from frpipe.evaluation.report.parts import system

_GROUPS = ((True, "Mated, least alike"), (False, "Non-mated, most alike"))


def pairs_section(evaluations: Sequence[Evaluation], thumbnails: Mapping[str, bytes]) -> str:
    """HTML; "" where no evaluation has such pairs.  thumbnails: JPEGs by image id."""
    return "".join(_card(e, place, thumbnails) for place, e in enumerate(evaluations) if e.worst)


def _card(evaluation: Evaluation, place: int, thumbnails: Mapping[str, bytes]) -> str:
    parts = []
    for mated, title in _GROUPS:
        trials = [trial for trial in evaluation.worst if trial.mated == mated]
        if trials:
            items = "".join(f"<li>{_pair(trial, thumbnails)}</li>" for trial in trials)
            parts.append(f'<p>{title}</p><ul class="pairs">{items}</ul>')
    return f'<div class="card"><h3>{system(evaluation.name, place)}</h3>{"".join(parts)}</div>'


def _pair(trial: Trial, thumbnails: Mapping[str, bytes]) -> str:
    score = f"similarity {fixed(trial.similarity, 4)}, distance {fixed(1 - trial.similarity, 4)}"
    sides = "".join(_side(image, thumbnails.get(image)) for image in (trial.a, trial.b))
    return f"<b>{score}</b>{sides}"


def _side(image: str, jpeg: bytes | None) -> str:
    text = escape(image)
    if jpeg is None:
        return f"<figure><code>{text}</code></figure>"
    data = base64.b64encode(jpeg).decode()
    return (
        f'<figure><img alt="photo {text}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption><code>{text}</code></figcaption></figure>"
    )
