"""Thresholds, and threshold cards: files that hold one with how it was found.

An embedder's model card may suggest a threshold for one-to-one comparison. A threshold card holds one that
was chosen on data like yours, for a purpose, and for a size of gallery.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from frpipe.core.calibration import CalibrationMap
from frpipe.core.card_part import Card, CardPart, Hash
from frpipe.core.errors import ConfigError

FORMAT: Literal["frpipe-threshold/1"] = "frpipe-threshold/1"

Kind = Literal["similarity", "distance"]
Purpose = Literal["verification", "identification"]


@dataclass(frozen=True, slots=True)
class Threshold:
    """The similarity from which on two templates count as one person's: similarity >= `similarity`.

    distance: the same as a distance, 1 - similarity: accept up to here.  kind: the form in which it was
    stated.  source: who chose it, on what data.  target: the error rate that it was chosen for, in words;
    None: unknown.  fmr: the same as the false match rate of one comparison, where it is one.  warning: why it
    may be wrong here; None: no reason is known.  purpose: what it was chosen for; None: nobody says.
    """

    similarity: float
    distance: float
    kind: Kind
    source: str
    target: str | None = None
    fmr: float | None = None
    warning: str | None = None
    purpose: Purpose | None = None

    @classmethod
    def stated(cls, kind: Kind, value: float, source: str, **facts: Any) -> Self:
        """Make a threshold from its value in one of the two forms. facts: the other fields."""
        similarity, distance = (value, 1 - value) if kind == "similarity" else (1 - value, value)
        return cls(similarity, distance, kind, source, **facts)

    def as_dict(self) -> dict[str, Any]:
        """The threshold as reports and `run.json` hold it."""
        names = ("similarity", "distance", "kind", "source", "target", "fmr", "warning")
        return {name: getattr(self, name) for name in names}


def least_similarity(distance: float) -> float:
    """The least similarity s for which 1 - s, as floats subtract, is at most this distance.

    So the pair whose distance was printed as exactly this one is accepted. `1 - distance` may be rounded up.
    Raises ConfigError: it is no cosine distance.
    """
    if not 0 <= distance <= 2:
        raise ConfigError(
            "a cosine distance is a number from 0 to 2", "the distance of a similarity s is 1 - s"
        )
    above = (Fraction(distance) + Fraction(math.nextafter(distance, math.inf))) / 2
    least = float(1 - above)
    return max(-1.0, least if 1 - least <= distance else math.nextafter(least, math.inf))


def both_forms(similarity: float) -> str:
    """A threshold in words, as a similarity and as the distance that it is."""
    return f"similarity >= {similarity:.6g} (distance <= {1 - similarity:.6g})"


def threshold_lines(threshold: dict[str, Any]) -> list[str]:
    """Lines of a report: both forms of a threshold, where it comes from, and its warning.

    threshold: as `Threshold.as_dict` gives it.
    """
    target = f", {threshold['target']}" if threshold["target"] else ""
    lines = [
        f"threshold  {both_forms(threshold['similarity'])}{target}",
        f"           {threshold['source']}",
    ]
    return [*lines, f"  warning  {threshold['warning']}"] if threshold["warning"] else lines


class Target(CardPart):
    """The error rate that a threshold was chosen for.

    FMR: share of non-mated comparisons that are accepted.  FPIR: share of searches for strangers that name
    somebody (ISO/IEC 19795-1).
    """

    rate: Literal["FMR", "FPIR"]
    value: float = Field(ge=0, le=1)


class ThresholdCard(Card):
    """A threshold card: accept when similarity >= `similarity`, which is distance <= `distance`."""

    KIND = "threshold card"
    format: Literal["frpipe-threshold/1"] = FORMAT
    embedder_hash: Hash
    preprocessing_hash: Hash | None = Field(None, description="None: whatever the preprocessing")
    kind: Kind
    value: float = Field(description="-1..1 of a similarity, 0..2 of a distance")
    purpose: Purpose
    target: Target | None = None
    gallery_subjects: int | None = Field(None, ge=1, description="N that an identification threshold is for")
    trials: int | None = Field(None, ge=1, description="non-mated comparisons or searches behind it")
    source: str = Field(min_length=1, description="on what data, and how")
    created: AwareDatetime
    calibration: CalibrationMap | None = Field(None, description="of the same comparisons")

    @property
    def similarity(self) -> float:
        """The threshold as a cosine similarity, in [-1, 1]: accept from here up."""
        return self.value if self.kind == "similarity" else 1 - self.value

    @property
    def distance(self) -> float:
        """The threshold as a cosine distance, in [0, 2]: accept up to here."""
        return self.value if self.kind == "distance" else 1 - self.value

    def json_text(self) -> str:
        """The card as JSON, as `parse` reads it; without a calibration in a form that older readers know."""
        none = {"calibration"} if self.calibration is None else set()
        return self.model_dump_json(indent=1, exclude=none) + "\n"

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        low, high = (-1, 1) if self.kind == "similarity" else (0, 2)
        if not low <= self.value <= high:
            raise ValueError(f"value is a {self.kind}, from {low} to {high}")
        return self

    @model_validator(mode="after")
    def _purpose_fits(self) -> Self:
        if self.purpose == "identification" and self.gallery_subjects is None:
            raise ValueError(
                "gallery_subjects is needed: an identification threshold is for one size of gallery"
            )
        if self.purpose == "verification" and self.gallery_subjects is not None:
            raise ValueError("gallery_subjects has no meaning for verification: leave it null")
        if self.purpose == "verification" and self.target and self.target.rate == "FPIR":
            raise ValueError("FPIR is a rate of searches: the target of verification is an FMR")
        return self
