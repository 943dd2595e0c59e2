"""Tests that any network of role quality must pass.

Subclass `QualityKit` in a test module; pytest collects it.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from frpipe.models.card import Card
from frpipe.models.crop_model import CropModel
from frpipe.models.session import Session
from frpipe.stages.quality.stage import learned_quality
from frpipe.testing.model_kit import ModelKit
from frpipe.testing.photos import Pixels, flat, noise
from frpipe.testing.spy import Spy


class QualityKit(ModelKit):
    """The kit of a network of role quality.

    Override `card`, `session` and `crops`; `knows_faces` where the weights are trained ones.
    """

    knows_faces = True
    tolerance = 1e-4  # of the number of one crop in two batches

    @pytest.fixture(scope="class")
    @classmethod
    def crops(cls) -> Pixels:
        """Crops, (7 or more, 112, 112, 3) uint8 RGB, aligned, no two alike, coloured; of sharp faces."""
        raise NotImplementedError

    def numbers(self, card: Card, session: Session, crops: Pixels, rows: int = 4) -> NDArray[np.float64]:
        """The number that the network gives each crop."""
        return learned_quality(CropModel(card, session, rows), crops)[0]

    def test_the_card_is_of_role_quality(self, card: Card) -> None:
        assert card.role == "quality"

    def test_each_crop_has_a_number_and_a_component(
        self, card: Card, session: Session, crops: Pixels
    ) -> None:
        raw, component = learned_quality(CropModel(card, session, 4), crops)
        assert raw.shape == component.shape == (len(crops),)
        assert np.isfinite(raw).all()
        assert ((component >= 0) & (component <= 100) & (component == np.round(component))).all()
        assert (np.diff(component[np.argsort(raw)]) >= 0).all()

    @pytest.mark.parametrize("rows", [1, 2, 3, 7])
    def test_company_does_not_matter(self, card: Card, session: Session, crops: Pixels, rows: int) -> None:
        alone = np.concatenate([self.numbers(card, session, crop[None], 1) for crop in crops])
        order = np.random.default_rng(rows).permutation(len(crops))
        together = self.numbers(card, session, crops[order], rows)
        np.testing.assert_allclose(together, alone[order], atol=self.tolerance, rtol=self.tolerance)

    def test_survives_featureless_crops(self, card: Card, session: Session) -> None:
        crops = np.stack([flat(112, 112, 0), flat(112, 112, 255), noise(112, 112)])
        assert np.isfinite(self.numbers(card, session, crops)).all()

    def test_different_crops_differ(self, card: Card, session: Session, crops: Pixels) -> None:
        assert len(np.unique(self.numbers(card, session, crops))) > len(crops) // 2

    def test_sees_the_colours_of_the_card(self, card: Card, session: Session, crops: Pixels) -> None:
        """The graph gets the crop in the card's order and size."""
        spy = Spy(session)
        self.numbers(card, spy, crops[:1], 1)
        restored = spy.blobs[0].transpose(0, 2, 3, 1) * np.array(card.input.std) + np.array(card.input.mean)
        pixels = crops[0]
        if isinstance(card.input.size, tuple) and card.input.size != (112, 112):
            pixels = cv2.resize(pixels, card.input.size, interpolation=cv2.INTER_LINEAR)
        wanted = pixels if card.input.colour == "RGB" else pixels[..., ::-1]
        np.testing.assert_allclose(restored[0], wanted, atol=1e-3)

    def test_faces_made_worse_have_a_lower_number(self, card: Card, session: Session, crops: Pixels) -> None:
        """At least nine faces in ten that are strongly blurred, or reduced to an eighth, have one."""
        if not self.knows_faces:
            pytest.skip("random weights know nothing of faces")
        before = self.numbers(card, session, crops)
        blurred = np.stack([cv2.GaussianBlur(crop, (0, 0), 5) for crop in crops])
        tiny = [cv2.resize(crop, (14, 14), interpolation=cv2.INTER_AREA) for crop in crops]
        reduced = np.stack([cv2.resize(each, (112, 112), interpolation=cv2.INTER_LINEAR) for each in tiny])
        for worse in (blurred, reduced):
            assert (self.numbers(card, session, worse) < before).mean() >= 0.9
