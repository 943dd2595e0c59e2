"""The stage `pad`: score each face as bona fide, and mark or hold back those below a limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pyarrow as pa

from frpipe.models.card import Card
from frpipe.stages.pad.probabilities import fused, probabilities, spec_of
from frpipe.stages.pad.settings import PadSettings
from frpipe.stages.stage import Column, Enlarged, FaceBatch, FaceStage, Held, StageResult

_REASON = "presentation_attack"


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
        Column("pad_flags", pa.string(), "with policy flag: min_score where it is not met", True),
    )

    @classmethod
    def enlarged(cls, settings: PadSettings, cards: Mapping[str, Card]) -> Mapping[str, Enlarged]:
        return {name: _window(card) for name, card in cards.items()}

    @property
    def limit(self) -> float:
        """The least `pad_score` that is accepted."""
        if self.settings.min_score is not None:
            return float(self.settings.min_score)
        return float(np.mean([spec_of(model.card).threshold for model in self.models.values()]))

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
        flags = ["min_score" if low and not holds else None for low in below]
        return StageResult({"pad_score": scores, "pad_label": labels, "pad_flags": flags}, held=held)


def _window(card: Card) -> Enlarged:
    spec = spec_of(card)
    return Enlarged(spec.scale, card.input.side, spec.border, spec.resize)
