"""What another package of the field makes of the same scores; docs/metrics.md says why it may differ."""

from __future__ import annotations

import numpy as np
import pytest

from frpipe.metrics.operating import AtTarget, EqualError
from frpipe.metrics.scores import Scores
from frpipe.metrics.verification import auc_exact, eer, roc, tar_at_fmr

peer = pytest.importorskip("pyeer.eer_stats", reason="pyeer is not installed: pip install -e '.[dev]'")

Parts = tuple[np.ndarray, np.ndarray]


def _parts(digits: int | None = None) -> Parts:
    rng = np.random.default_rng(0)
    parts = rng.normal(0.45, 0.15, 5000), rng.normal(0.0, 0.08, 50_000)
    mated, nonmated = (np.clip(part, -1, 1) for part in parts)
    return (mated, nonmated) if digits is None else (mated.round(digits), nonmated.round(digits))


@pytest.fixture(params=[None, 2], ids=["all differ", "ties"])
def parts(request: pytest.FixtureRequest) -> Parts:
    return _parts(request.param)


def test_the_rates_at_every_score_are_the_same(parts: Parts) -> None:
    thresholds, fmr, fnmr = peer.calculate_roc(*parts)
    ours = roc(Scores.of(*parts)).at(thresholds)
    assert np.array_equal(ours[0], fmr)
    assert ours[1] == pytest.approx(fnmr, abs=1e-15)


def test_the_area_is_the_same(parts: Parts) -> None:
    _, fmr, fnmr = peer.calculate_roc(*parts)
    assert auc_exact(Scores.of(*parts)) == pytest.approx(peer.calculate_roc_auc(fmr, fnmr), abs=1e-9)


def test_the_equal_error_is_the_same_but_for_ties(parts: Parts) -> None:
    ours = eer(Scores.of(*parts))
    _, fmr, fnmr = peer.calculate_roc(*parts)
    *_, theirs = peer.get_eer_values(fmr, fnmr)
    assert isinstance(ours, EqualError)
    # They take the mean of the two errors at one point, we where the line between two points crosses.
    assert ours.low <= theirs <= ours.high
    assert ours.value == pytest.approx(theirs, abs=1e-12 if ours.low == ours.high else 1e-3)


@pytest.mark.parametrize("target", [0.1, 0.01, 0.001])
def test_a_target_is_met_by_the_same_threshold_or_a_stricter_one(parts: Parts, target: float) -> None:
    (ours,) = tar_at_fmr(Scores.of(*parts), [target])
    thresholds, fmr, fnmr = peer.calculate_roc(*parts)
    place, theirs = peer.get_fmr_op(fmr, fnmr, target)
    assert isinstance(ours, AtTarget)
    # They take the FMR that is nearest to the target, which may exceed it; we the largest that does not.
    if fmr[place] <= target:
        assert (ours.threshold, ours.fnmr.value) == (thresholds[place], pytest.approx(theirs))
    else:
        assert ours.threshold > thresholds[place]
        assert (ours.fmr.value, ours.fnmr.value) == pytest.approx((fmr[place + 1], fnmr[place + 1]))
