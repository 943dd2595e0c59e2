"""Tests that any network of role pose must pass. Subclass `PoseKit` in a test module; pytest collects it."""

from __future__ import annotations

import numpy as np
import pytest

from frpipe.models.card import Card
from frpipe.models.crop_model import CropModel
from frpipe.models.session import Session
from frpipe.stages.quality.stage import Quality, network_pose
from frpipe.testing.model_kit import ModelKit
from frpipe.testing.photos import Pixels, flat, noise
from frpipe.vision.quality.pose import Pose


class PoseKit(ModelKit):
    """The kit of a network of role pose.

    Override `card`, `session` and `heads`, and `yaws` where the weights are trained ones.
    """

    tolerance_deg = 0.1  # of one head in two batches
    most_apart_deg = 15.0  # of the yaw of a head and of its mirror image, less the sign
    turned_deg = 20.0

    @pytest.fixture(scope="class")
    @classmethod
    def heads(cls, card: Card) -> Pixels:
        """Heads, (7 or more, side, side, 3) uint8 RGB, cut as the card asks, some turned to each side."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def yaws(cls) -> np.ndarray | None:
        """The yaw of each head as its five points give it; None: weights are random."""
        return None

    def poses(self, card: Card, session: Session, heads: Pixels, rows: int = 4) -> Pose:
        """The angles of each head."""
        return network_pose(CropModel(card, session, rows), heads)

    def test_the_card_asks_for_crops_that_can_be_cut(self, card: Card) -> None:
        assert card.role == "pose"
        (wanted,) = Quality.enlarged(Quality.section(), {"pose_model": card}).values()
        assert (wanted.side, wanted.side) == card.input.size

    def test_it_gives_rotations(self, card: Card, session: Session, heads: Pixels) -> None:
        rotations = np.asarray(CropModel(card, session, 4).run(heads)[0], np.float64)
        assert rotations.shape == (len(heads), 3, 3)
        assert np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max() < 1e-3
        assert np.abs(np.linalg.det(rotations) - 1).max() < 1e-3

    @pytest.mark.parametrize("rows", [1, 2, 7])
    def test_company_does_not_matter(self, card: Card, session: Session, heads: Pixels, rows: int) -> None:
        each = [self.poses(card, session, head[None]) for head in heads]
        alone = [np.concatenate(angles) for angles in zip(*each, strict=True)]
        order = np.random.default_rng(rows).permutation(len(heads))
        for one, other in zip(alone, self.poses(card, session, heads[order], rows), strict=True):
            np.testing.assert_allclose(one[order], other, atol=self.tolerance_deg)

    def test_survives_featureless_crops(self, card: Card, session: Session) -> None:
        assert isinstance(card.input.size, tuple)
        side = card.input.size[0]
        heads = np.stack([flat(side, side, 0), flat(side, side, 255), noise(side, side)])
        assert np.isfinite(self.poses(card, session, heads)).all()

    def test_a_mirror_turns_the_yaw_about(self, card: Card, session: Session, heads: Pixels) -> None:
        mirrored = self.poses(card, session, np.ascontiguousarray(heads[:, :, ::-1]))
        assert np.median(np.abs(self.poses(card, session, heads).yaw + mirrored.yaw)) <= self.most_apart_deg

    def test_the_sign_of_yaw_is_that_of_the_points(
        self, card: Card, session: Session, heads: Pixels, yaws: np.ndarray | None
    ) -> None:
        """Mend `yaw_sign` of the card where this fails."""
        if yaws is None:
            pytest.skip("random weights know nothing of heads")
        turned = np.abs(yaws) > self.turned_deg
        assert turned.any(), "give heads that are turned"
        assert (np.sign(self.poses(card, session, heads).yaw) == np.sign(yaws))[turned].mean() >= 0.9
