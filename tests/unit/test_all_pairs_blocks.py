"""All scores of two blocks: every pair once, in its cell, mated apart from non-mated; errors by template."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pyarrow as pa
import pytest

from frpipe.jobs.evaluate.all_pairs import blocks as score_blocks
from frpipe.jobs.evaluate.all_pairs.blocks import (
    CROSS,
    REST,
    Cell,
    Counting,
    LabelledTemplates,
    counted,
    scored,
)
from frpipe.jobs.evaluate.all_pairs.tables import error_table, histogram_table, histograms_of
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.streaming import BINS, PLACE, ScoreHistogram

LABELS = ("f", "m")
THRESHOLDS = (-0.2, 0.1, 0.6)
COUNTING = Counting(THRESHOLDS, LABELS, 1 << 10)

Pairs = dict[tuple[int, bool], list[tuple[int, int, float]]]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_blocks, "TILE", (4, 7))


def _block(rows: int, seed: int) -> LabelledTemplates:
    """Few people, so that most have several templates, in the whole of either block."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((rows, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    subject = pa.array([f"s{number}" for number in rng.integers(0, 9, rows)])
    cohort = rng.choice(["f", "m", None, "else"], rows).tolist()
    return LabelledTemplates(subject, pa.array(cohort, pa.string()), vectors)


def _cell_of(one: str | None, other: str | None) -> int:
    if one not in LABELS or other not in LABELS:
        return REST
    return LABELS.index(one) if one == other else CROSS


def _expected(a: LabelledTemplates, b: LabelledTemplates | None) -> Pairs:
    """Pair by pair."""
    other = a if b is None else b
    rows = combinations(range(len(a.vectors)), 2) if b is None else product(*map(_rows, (a, other)))
    found: Pairs = {}
    for i, j in rows:
        cell = _cell_of(a.cohort[i].as_py(), other.cohort[j].as_py())
        score = float(a.vectors[i] @ other.vectors[j])
        found.setdefault((cell, a.subject[i] == other.subject[j]), []).append((i, j, score))
    return found


def _rows(block: LabelledTemplates) -> range:
    return range(len(block.vectors))


def _histogram(cells: dict[int, Cell], cell: int, mated: bool) -> ScoreHistogram:
    return cells[cell].mated if mated else cells[cell].nonmated


@pytest.mark.parametrize(("rows", "others"), [(23, None), (1, None), (23, 15), (3, 40), (9, 1)])
def test_every_pair_is_counted_once_where_it_belongs(rows: int, others: int | None) -> None:
    a, b = _block(rows, 1), None if others is None else _block(others, 2)
    cells, expected = scored(a, b, COUNTING), _expected(a, b)
    kinds = [(cell, mated) for cell in cells for mated in (True, False)]
    assert sum(_histogram(cells, *kind).total for kind in kinds) == sum(map(len, expected.values()))
    for kind, pairs in expected.items():
        found, scores = _histogram(cells, *kind), np.array([score for _, _, score in pairs])
        places = np.searchsorted(found.edges[1:-1], scores, "right")
        # The last bit of a product may differ by the order of its sum.
        assert np.abs(np.cumsum(found.counts) - np.cumsum(np.bincount(places, minlength=1 << 10))).max() <= 1
        assert (found.low, found.high) == pytest.approx((scores.min(), scores.max()), abs=1e-6)


@pytest.mark.parametrize("others", [None, 31])
def test_errors_are_counted_at_the_template_they_are_of(others: int | None) -> None:
    a, b = _block(26, 3), None if others is None else _block(others, 4)
    cells, other = scored(a, b, COUNTING), b or a
    for (cell, mated), pairs in _expected(a, b).items():
        for threshold, errors in zip(THRESHOLDS, cells[cell].errors, strict=True):
            first, second = np.zeros(len(a.vectors), int), np.zeros(len(other.vectors), int)
            for i, j, score in pairs:
                first[i] += mated != (score >= threshold)
                second[j] += mated != (score >= threshold)
            if mated:
                # By the one side or the other of the same person.
                assert errors.misses.sum() == first.sum()
            elif b is None:
                assert np.array_equal(errors.first + errors.second, first + second)
            else:
                assert np.array_equal(errors.first, first)
                assert np.array_equal(errors.second, second)


def test_misses_are_of_the_person() -> None:
    vectors = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
    block = LabelledTemplates(pa.array(["a", "b", "b", "a"]), pa.nulls(4, pa.string()), vectors)
    (cell,) = scored(block, None, Counting((0.5,))).values()
    assert cell.errors[0].misses.tolist() == [1, 1, 0, 0]


def test_tables_bring_back_the_same_and_are_the_same_each_time() -> None:
    a, b = _block(20, 5), _block(30, 6)
    cells, again = scored(a, b, COUNTING), scored(a, b, COUNTING)
    assert histogram_table(cells).equals(histogram_table(again))
    assert error_table(cells).equals(error_table(again))
    for cell, mated, histogram in histograms_of(histogram_table(cells)):
        known = _histogram(cells, cell, mated)
        assert np.array_equal(histogram.counts, known.counts)
        assert (histogram.low, histogram.high) == (known.low, known.high)
    rows = error_table(cells).to_pylist()
    counted = sum(row["count"] for row in rows if row["threshold"] == 1 and row["mated"])
    assert counted == sum(cell.errors[1].misses.sum() for cell in cells.values()) > 0


def test_a_vector_that_is_not_finite_is_an_error() -> None:
    block = _block(5, 7)
    block.vectors[3, 2] = np.nan
    with pytest.raises(ScoresError, match="not finite"):
        scored(_block(5, 8), block, COUNTING)


@pytest.mark.parametrize("amount", [1000, 1 << 19])
@pytest.mark.parametrize("bins", [256, BINS])
def test_the_faster_counter_counts_as_numpy_does(amount: int, bins: int) -> None:
    places = np.random.default_rng(4).integers(0, bins, amount).astype(PLACE)
    places[:5] = [0, 0, bins - 1, bins - 1, bins - 1]
    assert counted(places, bins).tolist() == np.bincount(places, minlength=bins).tolist()
