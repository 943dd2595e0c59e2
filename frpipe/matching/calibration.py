"""Choose the calibration of a job: a calibration card's, or that of its threshold card."""

from __future__ import annotations

from collections.abc import Collection

from frpipe.core.calibration import CalibrationCard, CalibrationMap
from frpipe.core.errors import GalleryMismatch
from frpipe.core.threshold import ThresholdCard

_REMEDY = (
    "a calibration holds for one embedder, detector and way of aligning: fit one on such vectors "
    "(docs/thresholds.md), or leave it away"
)


def calibration_of(
    embedder_hash: str,
    detector_hash: str,
    preprocessing: Collection[str],
    *,
    card: CalibrationCard | None = None,
    threshold_card: ThresholdCard | None = None,
) -> CalibrationMap | None:
    """Choose the map for vectors of an embedder: the card's, else the threshold card's; None without either.

    preprocessing: the hashes that stand for the recipe of the vectors.
    Raises GalleryMismatch, both hashes named, where the card is of another embedder, detector or
    preprocessing.
    """
    if card is not None:
        _check("embedder", card.embedder_hash, [embedder_hash])
        _check("detector", card.detector_hash, [detector_hash])
        _check("preprocessing", card.preprocessing_hash, preprocessing)
        return card.map
    if threshold_card is None or threshold_card.calibration is None:
        return None
    _check("embedder", threshold_card.embedder_hash, [embedder_hash])
    _check("preprocessing", threshold_card.preprocessing_hash, preprocessing)
    return threshold_card.calibration


def _check(what: str, own: str | None, its: Collection[str]) -> None:
    if own is not None and own not in its:
        raise GalleryMismatch(
            f"{what}: the calibration's is {own}, that of the vectors is {' or '.join(sorted(its))}", _REMEDY
        )
