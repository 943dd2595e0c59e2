"""Calibration cards: files that hold a map from similarities to log-likelihood ratios, with how it was found.

A threshold answers one question at one prior; a ratio serves every use. Like a threshold, a map holds for one
embedder, one detector and one way of aligning.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import AwareDatetime, Field, model_validator

from frpipe.core.card_part import Card, CardPart, Hash

FORMAT: Literal["frpipe-calibration/1"] = "frpipe-calibration/1"


class CalibrationMap(CardPart):
    """A monotone map from cosine similarities to log-likelihood ratios, in nats.

    logistic: ratio = slope similarity + offset.  isotonic: straight lines between knots, and beyond the first
    and the last theirs.
    """

    method: Literal["logistic", "isotonic"]
    slope: float | None = Field(None, ge=0, description="of logistic, in nats for a unit of similarity")
    offset: float | None = Field(None, description="of logistic, the ratio of a similarity of 0")
    similarities: tuple[float, ...] | None = Field(None, min_length=1, description="of isotonic, ascending")
    ratios: tuple[float, ...] | None = Field(None, min_length=1, description="of isotonic, at each of these")

    def llr(self, similarity: ArrayLike) -> NDArray[np.float64]:
        """(n,) ratios of (n,) similarities; NaN stays NaN."""
        asked = np.asarray(similarity, np.float64)
        if self.method == "logistic":
            return np.asarray(float(self.slope or 0.0) * asked + float(self.offset or 0.0), np.float64)
        return np.asarray(np.interp(asked, self.similarities or (), self.ratios or ()), np.float64)

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the ratios."""
        return hashlib.sha256(self.model_dump_json(exclude_none=True).encode()).hexdigest()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        line, knots = (self.slope, self.offset), (self.similarities, self.ratios)
        own, other = (line, knots) if self.method == "logistic" else (knots, line)
        if any(part is None for part in own) or any(part is not None for part in other):
            raise ValueError("logistic has slope and offset, isotonic has similarities and ratios")
        if self.similarities is not None and self.ratios is not None:
            if len(self.similarities) != len(self.ratios):
                raise ValueError("similarities and ratios differ in length")
            if (np.diff(self.similarities) <= 0).any() or (np.diff(self.ratios) < 0).any():
                raise ValueError("similarities ascend, and ratios never fall")
        return self


def ratio_of(calibration: CalibrationMap | None, similarity: float) -> float | None:
    """The log-likelihood ratio of one similarity, in nats; None where there is no calibration."""
    return None if calibration is None else float(calibration.llr(similarity))


def without_ratio(answer: dict[str, Any]) -> dict[str, Any]:
    """Drop `llr` from an answer to one photo, as data, where no calibration gave it."""
    return {name: value for name, value in answer.items() if not (name == "llr" and value is None)}


class CalibrationCard(Card):
    """A calibration card. map: from similarities to log-likelihood ratios, in nats.

    mated, nonmated: comparisons that it was fitted on.  cllr: what its cross-fitted ratios cost, in bits;
    min_cllr: the least possible for these scores.
    """

    KIND = "calibration card"
    format: Literal["frpipe-calibration/1"] = FORMAT
    embedder_hash: Hash
    detector_hash: Hash | None = Field(None, description="None: whatever the detector")
    preprocessing_hash: Hash | None = Field(None, description="None: whatever the preprocessing")
    map: CalibrationMap
    mated: int = Field(ge=1)
    nonmated: int = Field(ge=1)
    cllr: float | None = Field(None, ge=0)
    min_cllr: float | None = Field(None, ge=0)
    source: str = Field(min_length=1, description="on what data, and how")
    created: AwareDatetime

    def json_text(self) -> str:
        """The card as JSON, as `parse` reads it."""
        return self.model_dump_json(indent=1) + "\n"
