"""Tests that any embedder must pass.

Subclass `EmbedderKit` in a test module; pytest collects the subclass.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from frpipe.core.errors import InvariantError, ModelMismatch
from frpipe.models.card import Card, EmbedderSpec
from frpipe.models.embedders.arcface import Embedder
from frpipe.models.session import Session
from frpipe.testing.model_kit import ModelKit
from frpipe.testing.photos import Pixels, flat, noise
from frpipe.testing.spy import Spy

Floats = NDArray[np.float32]


def cosines(first: Floats, second: Floats) -> Floats:
    """Cosines of two arrays, row by row, computed in float64."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    result: Floats = np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return result


class EmbedderKit(ModelKit):
    """The kit of an embedder. Override `card`, `session` and `crops`."""

    least_cosine = 1 - 1e-5  # of the vectors of one crop in two batches

    @pytest.fixture(scope="class")
    @classmethod
    def crops(cls) -> Pixels:
        """Crops, (7 or more, 112, 112, 3) uint8 RGB, no two alike, coloured."""
        raise NotImplementedError

    def test_shape_is_that_of_the_card(self, card: Card, session: Session, crops: Pixels) -> None:
        assert card.embedder is not None
        vectors = Embedder(card, session, 4).embed(crops)
        assert vectors.shape == (len(crops), card.embedder.dim)
        assert vectors.dtype == np.float32
        assert np.isfinite(vectors).all()

    @pytest.mark.parametrize("fixed", [False, True])
    @pytest.mark.parametrize("rows", [1, 2, 3, 7])
    def test_company_does_not_matter(
        self, card: Card, session: Session, crops: Pixels, rows: int, fixed: bool
    ) -> None:
        assert len(crops) >= 7
        alone = np.concatenate(
            [Embedder(card, session, 1).embed(crops[k : k + 1]) for k in range(len(crops))]
        )
        order = np.random.default_rng(rows).permutation(len(crops))
        together = Embedder(card, session, rows, fixed_batch=fixed).embed(crops[order])
        assert cosines(alone[order], together).min() >= self.least_cosine

    def test_no_crop_no_vector(self, card: Card, session: Session, crops: Pixels) -> None:
        embedder = Embedder(card, session, 4, flip=True, fixed_batch=True)
        assert embedder.embed(crops[:0]).shape == (0, embedder.dim)

    def test_survives_featureless_crops(self, card: Card, session: Session) -> None:
        crops = np.stack([flat(112, 112, 0), flat(112, 112, 255), noise(112, 112)])
        assert np.isfinite(Embedder(card, session, 3).embed(crops)).all()

    def test_different_crops_differ(self, card: Card, session: Session, crops: Pixels) -> None:
        vectors = Embedder(card, session, 4).embed(crops)
        assert cosines(vectors[:-1], vectors[1:]).max() < 1 - 1e-3

    def test_flip_adds_the_mirrored_crop(self, card: Card, session: Session, crops: Pixels) -> None:
        plain = Embedder(card, session, 3)
        mirrored = np.ascontiguousarray(crops[:, :, ::-1])
        both = Embedder(card, session, 3, flip=True).embed(crops)
        total = plain.embed(crops) + plain.embed(mirrored)
        assert cosines(both, total).min() >= self.least_cosine
        np.testing.assert_allclose(np.linalg.norm(both, axis=1), np.linalg.norm(total, axis=1), rtol=1e-3)

    def test_sees_the_colours_of_the_card(self, card: Card, session: Session, crops: Pixels) -> None:
        """The graph gets the crop in the card's order of colours, and the order matters to it."""
        spy = Spy(session)
        vectors = Embedder(card, spy, len(crops)).embed(crops)
        ordered = crops if card.input.colour == "RGB" else crops[..., ::-1]
        restored = spy.blobs[0].transpose(0, 2, 3, 1) * np.array(card.input.std) + np.array(card.input.mean)
        np.testing.assert_allclose(restored, ordered, atol=1e-3)
        swapped = Embedder(card, session, 4).embed(np.ascontiguousarray(crops[..., ::-1]))
        assert cosines(vectors, swapped).min() < 1 - 1e-4

    def test_fixed_batches_are_full(self, card: Card, session: Session, crops: Pixels) -> None:
        spy = Spy(session)
        Embedder(card, spy, 4, fixed_batch=True).embed(crops[:5])
        expected = 4 if card.input.batched else 1
        assert {len(blob) for blob in spy.blobs} == {expected}

    def test_a_card_of_another_length_is_refused(self, card: Card, session: Session, crops: Pixels) -> None:
        assert card.embedder is not None
        other = card.model_copy(update={"embedder": EmbedderSpec(dim=card.embedder.dim + 1)})
        with pytest.raises(ModelMismatch, match="the card says"):
            Embedder(other, session, 4).embed(crops)

    def test_crops_of_another_size_are_refused(self, card: Card, session: Session) -> None:
        with pytest.raises(InvariantError):
            Embedder(card, session, 4).embed(noise(96, 96)[None])
