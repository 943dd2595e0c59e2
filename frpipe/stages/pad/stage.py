"""The stage `pad`: score each face as bona fide, and mark or hold back those below a limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from frpipe.core.config import Section
from frpipe.core.held import NO_COLOUR
from frpipe.models.card import Card
from frpipe.stages.pad.probabilities import fused, probabilities, spec_of
from frpipe.stages.stage import Column, Enlarged, FaceBatch, FaceStage, Held, StageResult
from frpipe.vision.colour import without_colour

_REASON = "presentation_attack"


# YAML takes a bare `off` for false.
Policy = Annotated[
    Literal["off", "flag", "reject"], BeforeValidator(lambda value: "off" if value is False else value)
]


class PadSettings(Section):
    """Settings of `pad`."""

    policy: Policy = Field(
        "flag",
        description="off: nothing is looked at, as without the stage; flag: faces below the limit are "
        "marked; reject: they are held back",
    )
    model: str = Field("minifasnet_v2", description="a card of role pad")
    second_model: str | None = Field(
        "minifasnet_v1se",
        description="another, whose probabilities are averaged with those of the first; null: one alone",
    )
    min_score: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="least pad_score, 0 to 1; null: the mean of what the cards suggest"
    )

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.second_model == self.model:
            raise ValueError("model and second_model are the same card; second_model: null takes one alone")
        return self


class Pad(FaceStage):
    """Detection of printed and replayed photos in a single image. It says nothing of liveness."""

    name = "pad"
    version = 1
    section = PadSettings
    roles: ClassVar = {"model": "pad", "second_model": "pad"}
    reasons: ClassVar = {
        _REASON: "`pad_score` is below its limit: it may be a photo of a photo or of a screen"
    }
    holds = True
    gates = ("policy", "min_score")
    face_columns = (
        Column(
            "pad_score", pa.float32(), "probability of bona fide by the networks, 0 to 1; higher is better"
        ),
        Column(
            "pad_label", pa.string(), "the most probable class: bona_fide, or an attack as the card names it"
        ),
        Column(
            "pad_flags",
            pa.string(),
            "of a face below the limit: with policy flag min_score; no_colour, where it has no colour and a "
            "network takes such photos for attacks",
            True,
        ),
    )

    @classmethod
    def enlarged(cls, settings: PadSettings, cards: Mapping[str, Card]) -> Mapping[str, Enlarged]:
        return {name: _window(card) for name, card in cards.items()}

    @classmethod
    def judged_otherwise(
        cls, settings: PadSettings, cards: Mapping[str, Card], faces: pa.Table
    ) -> NDArray[np.bool_]:
        below = faces["pad_score"].to_numpy() < _limit(settings, cards)
        marked: NDArray[np.bool_] = faces["pad_flags"].is_valid().to_numpy()
        return np.asarray(below | marked if settings.policy == "reject" else below != marked)

    def _without_colour(self, batch: FaceBatch) -> NDArray[np.bool_]:
        """Mark the faces, (n,), that have no colour, which a network of the stage needs."""
        needing = [name for name, model in self.models.items() if spec_of(model.card).needs_colour]
        if not needing:
            return np.zeros(len(batch.crops), bool)
        return without_colour(batch.enlarged[needing[0]])

    @property
    def limit(self) -> float:
        """The least `pad_score` that is accepted."""
        return _limit(self.settings, {name: model.card for name, model in self.models.items()})

    def process(self, batch: FaceBatch) -> StageResult:
        models, limit = self.models, self.limit
        each = [probabilities(model, batch.enlarged[name]) for name, model in models.items()]
        scores, labels = fused([spec_of(model.card) for model in models.values()], each)
        # As it is written, so that whoever compares the column with the limit finds the same faces.
        scores = scores.astype(np.float32)
        below = scores < limit
        holds = self.settings.policy == "reject"
        held = [
            Held(_REASON, "pad_score", float(score), limit) if holds and low else None
            for score, low in zip(scores, below, strict=True)
        ]
        grey = self._without_colour(batch)
        flags = [_flags(not holds, bool(grey[row])) if low else None for row, low in enumerate(below)]
        return StageResult({"pad_score": scores, "pad_label": labels, "pad_flags": flags}, held=held)


def _flags(is_marked: bool, is_grey: bool) -> str | None:
    """The value of `pad_flags` of a face below the limit."""
    said = (("min_score", is_marked), (NO_COLOUR, is_grey))
    return ", ".join(flag for flag, holds in said if holds) or None


def _limit(settings: PadSettings, cards: Mapping[str, Card]) -> float:
    """The least `pad_score` that is accepted: the one that is set, or the mean of those of the cards."""
    if settings.min_score is not None:
        return float(settings.min_score)
    return float(np.mean([spec_of(card).threshold for card in cards.values()]))


def _window(card: Card) -> Enlarged:
    spec = spec_of(card)
    return Enlarged(spec.scale, card.input.side, spec.border, spec.resize)
