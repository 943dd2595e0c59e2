"""Weights of faces in weighted means, from columns of the stage `quality`, and the kind that a gallery keeps.

The log of a gallery tells which kind of templates it was given last, in notes of consolidations and merges.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa

from frpipe.core.errors import GalleryError
from frpipe.gallery.catalog import LogEntry
from frpipe.gallery.gallery import Gallery

WEIGHED_BY: Final[Mapping[str, str]] = {
    "quality-score-mean": "quality_score",
    "pose-mean": "pose_yaw_deg",
}
"""By kind of template, the column of `faces` that its weights come from."""
WEIGHT = "frpipe.weight"
"""Column of weights of faces that become a weighted mean: float64, null if unknown. No gallery has it."""
_CONSOLIDATED = "consolidate "
_MERGED = re.compile("(?:^|; )templates ([a-z-]+)$")


def weights_of(policy: str, values: pa.ChunkedArray) -> pa.Array:
    """Compute weights from the column that WEIGHED_BY names: (n,) float64; null and NaN stay null.

    quality-score-mean: the score over 100, kept within 0 and 1.  pose-mean: cos² of the yaw, which is
    in degrees; 0 from 90 on, where a face is seen from behind.
    """
    known = values.cast(pa.float64()).to_numpy()
    if policy == "pose-mean":
        weights = np.cos(np.radians(np.minimum(np.abs(known), 90))) ** 2
    else:
        weights = np.clip(known / 100, 0, 1)
    return pa.array(weights, pa.float64(), from_pandas=True)


def weighted_kind(gallery: Gallery) -> str | None:
    """Kind of weighted mean that a gallery was given last; None: templates of another kind, or none.

    An empty gallery has no kind.
    """
    last = _last_kind(gallery)
    return last if last in WEIGHED_BY else None


def merged_note(note: str, gallery: Gallery, other: Gallery) -> str:
    """Make the note of a merge: the given note, and the kind of weighted mean that the gallery then has.

    Raises GalleryError where runs gave one of them weighted means and the other templates of another kind.
    """
    own, its = _last_kind(gallery), _last_kind(other)
    if own == its or its is None or not {own, its} & WEIGHED_BY.keys():
        return note
    if own is not None:
        raise GalleryError(
            f"this gallery has templates of the kind {own}, the other of the kind {its}",
            f"consolidate the runs of the other into this one with --templates {own}",
        )
    return f"{note}; templates {its}" if note else f"templates {its}"


def _last_kind(gallery: Gallery) -> str | None:
    """The kind of templates that a run or a merge gave last; None: neither did, or nobody is there."""
    kinds = (_kind(entry) for entry in reversed(gallery.log()))
    last = next(filter(None, kinds), None)
    return last if last is not None and gallery.snapshot().rows else None


def _kind(entry: LogEntry) -> str | None:
    """The kind of templates that a log entry speaks of; None: of none."""
    if entry.action == "merge":
        found = _MERGED.search(entry.note)
        return found[1] if found else None
    if not entry.note.startswith(_CONSOLIDATED):
        return None
    try:
        facts = json.loads(entry.note.removeprefix(_CONSOLIDATED))
        return str(facts["templates"])
    except (ValueError, KeyError, TypeError):
        return None
