"""Binned scores: bounds that hold the exact value, whatever the order and the cut."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frpipe.metrics.bounds import Binned, Bounds, BoundsAtTarget
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.operating import AtTarget, EqualError, Insufficient
from frpipe.metrics.scores import Scores
from frpipe.metrics.streaming import COUNTED, ScoreHistogram
from frpipe.metrics.verification import at_threshold, auc_exact, eer, roc, tar_at_fmr

# On edges of the bins, just beside them, beyond the range, and so small that 1 + s rounds to 1.
AWKWARD = st.sampled_from(
    [-1.0000001, -1.0, -0.5, float(np.nextafter(-0.5, -1)), -1e-30, 0.0, 1e-30, 0.25, 1.0, 1.0000002]
)
FLOAT = st.one_of(AWKWARD, st.floats(-1, 1, width=32), st.floats(-1, 1))
SOME = st.lists(FLOAT, min_size=1, max_size=40)


def _of(scores: object, bins: int = 8, dtype: type = np.float64) -> ScoreHistogram:
    found = ScoreHistogram(bins)
    found.add(np.asarray(scores, dtype))
    return found


def _same(a: ScoreHistogram, b: ScoreHistogram) -> bool:
    return np.array_equal(a.counts, b.counts) and (a.low, a.high) == (b.low, b.high)


def _holds(bounds: Bounds, value: float | None) -> bool:
    return value is not None and bounds.low <= value <= bounds.high


@settings(deadline=None)
@given(SOME, st.sampled_from([2, 8, 1 << 16]), st.sampled_from([np.float32, np.float64]))
def test_every_score_is_in_its_bin(scores: list[float], bins: int, dtype: type) -> None:
    exact = np.asarray(scores, dtype).astype(np.float64)
    found = _of(scores, bins, dtype)
    places = np.searchsorted(found.edges[1:-1], exact, "right")
    assert np.array_equal(found.counts, np.bincount(places, minlength=bins))
    assert (found.low, found.high, found.total) == (exact.min(), exact.max(), len(exact))


@pytest.mark.parametrize("bins", [1 << 10, 1 << 16, 1 << 17])
def test_masses_are_counted_as_a_few_are(bins: int) -> None:
    """More than is counted at once, half of them in one bin, some beyond the range."""
    rng = np.random.default_rng(0)
    scores = np.clip(rng.normal(0, 0.2, COUNTED + 1000), -1.0000001, 1).astype(np.float32)
    scores[: COUNTED // 2] = 0.25
    places = np.searchsorted(_of([0.0], bins).edges[1:-1], scores, "right")
    assert np.array_equal(_of(scores, bins, np.float32).counts, np.bincount(places, minlength=bins))


@settings(deadline=None)
@given(SOME, SOME, SOME)
def test_merging_is_adding_in_any_order(a: list[float], b: list[float], c: list[float]) -> None:
    one, two, three = _of(a), _of(b), _of(c)
    whole = _of([*a, *b, *c])
    assert _same(one.merge(two).merge(three), whole)
    assert _same(one.merge(two.merge(three)), whole)
    assert _same(three.merge(one).merge(two), whole)
    assert _same(one, _of(a))


@settings(max_examples=200, deadline=None)
@given(SOME, SOME, st.sampled_from([2, 16, 1 << 12]), st.lists(FLOAT, min_size=1, max_size=8))
def test_bounds_hold_the_exact_value(
    mated: list[float], nonmated: list[float], bins: int, asked: list[float]
) -> None:
    scores, binned = Scores.of(mated, nonmated), Binned(_of(mated, bins), _of(nonmated, bins))
    assert _holds(binned.auc(), auc_exact(scores))
    equal = eer(scores)
    assert isinstance(equal, EqualError) and _holds(binned.eer(), equal.value)
    for threshold in (*asked, *mated, *nonmated, -2.0, 2.0):
        exact = at_threshold(scores, threshold)
        assert _holds(binned.fmr(threshold), exact.fmr.value)
        assert _holds(binned.fnmr(threshold), exact.fnmr.value)
    for target, found in zip((0.3, 0.7), tar_at_fmr(scores, (0.3, 0.7)), strict=True):
        bounds = binned.at_fmr(target)
        if isinstance(found, AtTarget):
            assert isinstance(bounds, BoundsAtTarget) and _holds(bounds.tar, found.tar.value)
            there = at_threshold(scores, bounds.threshold).fmr.value
            assert there is not None and there <= target and _holds(bounds.fmr, there)
        else:
            assert isinstance(bounds, Insufficient)


@settings(max_examples=40, deadline=None)
@given(st.data(), SOME, SOME, st.sampled_from([16, 1 << 12]), st.sampled_from([1e-4, 3e-2, 0.3]))
def test_bounds_hold_the_value_of_scores_that_were_counted_with_an_error(
    data: st.DataObject, mated: list[float], nonmated: list[float], bins: int, error: float
) -> None:
    off = st.floats(-error, error)
    counted = [[score + data.draw(off, label="off") for score in part] for part in (mated, nonmated)]
    # What has been added may itself have been rounded up.
    binned = Binned(_of(counted[0], bins), _of(counted[1], bins), error * (1 + 1e-9))
    scores = Scores.of(mated, nonmated)
    equal = eer(scores)
    assert isinstance(equal, EqualError) and _holds(binned.eer(), equal.value)
    assert _holds(binned.auc(), auc_exact(scores))
    for threshold in (*mated, *nonmated, *binned.mated.edges[::5]):
        exact = at_threshold(scores, threshold)
        assert _holds(binned.fmr(threshold), exact.fmr.value)
        assert _holds(binned.fnmr(threshold), exact.fnmr.value)
    (found,), bounds = tar_at_fmr(scores, [0.5]), binned.at_fmr(0.5)
    if isinstance(found, AtTarget):
        assert isinstance(bounds, BoundsAtTarget) and _holds(bounds.tar, found.tar.value)
        there = at_threshold(scores, bounds.threshold).fmr.value
        assert there is not None and there <= 0.5 and _holds(bounds.fmr, there)


@settings(deadline=None)
@given(SOME, SOME)
def test_the_points_at_edges_are_points_of_the_exact_curve(mated: list[float], nonmated: list[float]) -> None:
    curve = Binned(_of(mated), _of(nonmated)).roc()
    fmr, fnmr = roc(Scores.of(mated, nonmated)).at(curve.threshold)
    assert (curve.fmr.tolist(), curve.fnmr.tolist()) == (fmr.tolist(), fnmr.tolist())


def test_fine_bins_leave_next_to_nothing_open() -> None:
    rng = np.random.default_rng(0)
    mated, nonmated = np.clip(rng.normal(0.5, 0.15, 20000), -1, 1), rng.normal(0.0, 0.1, 200000)
    binned = Binned(_of(mated, 1 << 16), _of(nonmated, 1 << 16))
    assert binned.auc().high - binned.auc().low < 1e-5
    assert binned.eer().high - binned.eer().low < 1e-4
    assert binned.auc().middle == pytest.approx(auc_exact(Scores.of(mated, nonmated)), abs=1e-7)


def test_a_checkpoint_brings_back_the_same() -> None:
    for found in (_of([0.1, 0.1, -0.3], 1 << 16, np.float32), ScoreHistogram(16)):
        back = ScoreHistogram.from_arrow(found.to_arrow())
        assert _same(found, back)
        back.add(np.array([0.5]))
        assert back.total == found.total + 1


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"bin": [0], "count": [1]}),
        pa.table({"bin": [99], "count": [1]}).replace_schema_metadata({"bins": "8", "low": "0", "high": "0"}),
        pa.table({"bin": [-1], "count": [1]}).replace_schema_metadata({"bins": "8", "low": "0", "high": "0"}),
        pa.table({"bin": [1], "count": [-1]}).replace_schema_metadata({"bins": "8", "low": "0", "high": "0"}),
        pa.table({"other": [0]}).replace_schema_metadata({"bins": "8", "low": "0", "high": "0"}),
    ],
)
def test_another_table_is_refused(table: pa.Table) -> None:
    with pytest.raises(ScoresError, match="no histogram"):
        ScoreHistogram.from_arrow(table)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_none_is_refused_and_nothing_counted(bad: float) -> None:
    found = _of([0.5])
    scores = np.zeros(200_000, np.float32)
    scores[-1] = bad
    with pytest.raises(ScoresError, match="not finite"):
        found.add(scores)
    assert _same(found, _of([0.5]))


@settings(deadline=None)
@given(SOME, SOME)
def test_what_is_taken_back_was_never_there(some: list[float], more: list[float]) -> None:
    found = _of([*some, *[more[0]] * 3, *more])
    found.remove(more[0], 3)
    assert _same(found, _of([*some, *more]))


def test_the_last_of_a_score_is_not_taken_back() -> None:
    with pytest.raises(ScoresError, match="fewer than 3"):
        _of([0.5, 0.5]).remove(0.5, 2)


def test_what_cannot_be_counted_or_merged_is_refused() -> None:
    with pytest.raises(ScoresError, match="type int64"):
        ScoreHistogram().add(np.array([1, 2]))
    with pytest.raises(ScoresError, match="type float16"):
        ScoreHistogram().add(np.array([1, 2], np.float16))
    for bins in (0, 1, 100, 1 << 21):
        with pytest.raises(ScoresError, match="power of two"):
            ScoreHistogram(bins)
    with pytest.raises(ScoresError, match="bins"):
        ScoreHistogram(8).merge(ScoreHistogram(16))
    with pytest.raises(ScoresError, match="bins"):
        Binned(ScoreHistogram(8), ScoreHistogram(16))
    with pytest.raises(ScoresError, match="no mated"):
        Binned(_of([0.5]), ScoreHistogram(8)).auc()
