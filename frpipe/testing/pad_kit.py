"""Tests that any network of role pad must pass. Subclass `PadKit` in a test module; pytest collects it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from frpipe.models.card import BONA_FIDE, Card
from frpipe.models.crop_model import CropModel
from frpipe.models.session import Session
from frpipe.stages.pad.probabilities import probabilities, spec_of
from frpipe.stages.pad.stage import Pad
from frpipe.testing.model_kit import ModelKit
from frpipe.testing.photos import Pixels, flat, noise
from frpipe.testing.spy import Spy


class PadKit(ModelKit):
    """The kit of a network of role pad.

    Override `card`, `session` and `crops`; `attacks` where the weights are trained ones.
    """

    tolerance = 1e-4  # of a probability of one crop in two batches

    @pytest.fixture(scope="class")
    @classmethod
    def crops(cls, card: Card) -> Pixels:
        """Crops, (7 or more, side, side, 3) uint8 RGB: faces of people, cut as the card asks, coloured."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def attacks(cls, card: Card) -> Pixels | None:
        """Attacks, (7 or more, side, side, 3) uint8 RGB: photos of photos, cut so; None: random weights."""
        return None

    def rows(self, card: Card, session: Session, crops: Pixels, rows: int = 4) -> NDArray[np.float64]:
        """The probabilities of each crop."""
        return probabilities(CropModel(card, session, rows), crops)

    def test_the_card_asks_for_crops_that_can_be_cut(self, card: Card) -> None:
        assert card.role == "pad"
        (wanted,) = Pad.enlarged(Pad.section(), {"model": card}).values()
        spec = spec_of(card)
        assert (wanted.side, wanted.side) == card.input.size
        assert (wanted.scale, wanted.border, wanted.resize) == (spec.scale, spec.border, spec.resize)

    def test_each_crop_has_probabilities(self, card: Card, session: Session, crops: Pixels) -> None:
        found = self.rows(card, session, crops)
        assert found.shape == (len(crops), len(spec_of(card).classes))
        assert ((found >= 0) & (found <= 1)).all() and np.abs(found.sum(axis=1) - 1).max() < 1e-3

    def test_the_graph_gives_what_the_card_says(self, card: Card, session: Session, crops: Pixels) -> None:
        """Probabilities that are taken for logits would all lie near those of chance."""
        raw = np.asarray(CropModel(card, session, 4).run(crops)[0], np.float64)
        are_probabilities = bool((raw >= 0).all() and np.abs(raw.sum(axis=1) - 1).max() < 1e-3)
        assert are_probabilities == (spec_of(card).outputs == "probabilities")

    @pytest.mark.parametrize("rows", [1, 2, 3, 7])
    def test_company_does_not_matter(self, card: Card, session: Session, crops: Pixels, rows: int) -> None:
        alone = np.concatenate([self.rows(card, session, crop[None], 1) for crop in crops])
        order = np.random.default_rng(rows).permutation(len(crops))
        together = self.rows(card, session, crops[order], rows)
        np.testing.assert_allclose(together, alone[order], atol=self.tolerance)

    def test_survives_featureless_crops(self, card: Card, session: Session) -> None:
        side = card.input.side
        crops = np.stack([flat(side, side, 0), flat(side, side, 255), noise(side, side)])
        assert np.isfinite(self.rows(card, session, crops)).all()

    def test_different_crops_differ(self, card: Card, session: Session, crops: Pixels) -> None:
        assert len(np.unique(self.rows(card, session, crops)[:, 0])) > len(crops) // 2

    def test_sees_the_pixels_of_the_crop_in_the_order_of_the_card(
        self, card: Card, session: Session, crops: Pixels
    ) -> None:
        spy = Spy(session)
        self.rows(card, spy, crops[:1], 1)
        restored = spy.blobs[0].transpose(0, 2, 3, 1) * np.array(card.input.std) + np.array(card.input.mean)
        wanted = crops[0] if card.input.colour == "RGB" else crops[0][..., ::-1]
        np.testing.assert_allclose(restored[0], wanted, atol=1e-3)

    def test_tells_attacks_from_people(
        self, card: Card, session: Session, crops: Pixels, attacks: Pixels | None
    ) -> None:
        """At the threshold of the card: most of either. A class named wrongly turns it round."""
        if attacks is None:
            pytest.skip("random weights know nothing of attacks")
        spec = spec_of(card)
        people, others = (
            self.rows(card, session, each)[:, spec.classes.index(BONA_FIDE)] for each in (crops, attacks)
        )
        assert (people >= spec.threshold).mean() > 0.5 > (others >= spec.threshold).mean()
        assert np.median(people) > np.median(others)
