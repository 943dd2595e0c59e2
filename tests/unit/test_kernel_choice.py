"""Which kernel a search takes: the quickest of a trial; few dimensions only where they help."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from frpipe.core.errors import ConfigError
from frpipe.core.kernel_names import Wish
from frpipe.matching import choice
from frpipe.matching.basis import Spectrum
from frpipe.matching.choice import Sample, Stored, Task, choose, named, spread, worth_a_look
from frpipe.matching.kernel import Floats

DIM = 256
TASK = Task(rows=1_000_000, k=10, at_least=-1, uses=4096)


def _sample(filled: int) -> Sample:
    """Vectors that fill some of their dimensions."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(4100, filled)) @ np.linalg.qr(rng.normal(size=(DIM, DIM)))[0][:filled]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Sample(vectors[:4000].astype(np.float32), vectors[4000:].astype(np.float32))


def _taking(*seconds: float) -> Callable[[Callable[[], Any]], float]:
    """Of a trial first the search is timed, then the form of its rows; only the first takes time here."""
    left: Iterator[float] = iter([each for one in seconds for each in (one, 0.0)])

    def timed(work: Callable[[], Any]) -> float:
        work()
        return next(left)

    return timed


def test_the_quickest_is_taken_with_its_basis_and_says_why() -> None:
    found = choose("auto", _sample(60), TASK, _taking(7, 3, 2, 1))
    assert found.name == "subspace-int8"
    assert found.basis is not None
    assert found.basis.dims == 63
    assert "63 of 256 dimensions hold 100.0 % of the energy" in found.why
    assert "fp32" in found.why
    assert "int8" in found.why
    assert "VNNI" in found.why


@pytest.mark.parametrize(("seconds", "name"), [((7, 3, 2.9, 2.8), "int8"), ((7, 9, 8, 6.5), "fp32")])
def test_a_small_gain_is_none(seconds: tuple[float, ...], name: str) -> None:
    found = choose("auto", _sample(60), TASK, _taking(*seconds))
    assert (found.name, found.basis) == (name, None)
    assert "few dimensions would not help" in found.why


def test_where_all_dimensions_are_filled_no_basis_is_tried() -> None:
    found = choose("auto", _sample(DIM), TASK, _taking(7, 3))
    assert (found.name, found.basis) == ("int8", None)


def test_what_a_row_costs_in_the_form_of_a_kernel_is_shared_by_its_uses() -> None:
    def timer() -> Callable[[Callable[[], Any]], float]:
        left = iter([7, 0, 3, 0, 1, 900, 1, 900])
        return lambda work: next(left)

    sample = _sample(60)
    few = Task(TASK.rows, TASK.k, TASK.at_least, uses=len(sample.probes))
    assert choose("auto", sample, few, timer()).name == "int8"
    many = Task(TASK.rows, TASK.k, TASK.at_least, uses=1000 * len(sample.probes))
    assert choose("auto", sample, many, timer()).name == "subspace"


@pytest.mark.parametrize("wish", ["subspace", "subspace-int8"])
def test_a_kernel_that_is_asked_for_gets_a_basis_though_it_would_lose(wish: Wish) -> None:
    found = choose(wish, _sample(DIM), TASK)
    assert found.name == wish
    assert found.basis is not None
    assert found.why.startswith("as asked")


def test_where_integers_are_wrong_auto_does_without_and_who_asks_for_them_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def wrong(*_: Any) -> None:
        raise ConfigError("wrong", "use the kernel fp32")

    monkeypatch.setattr("frpipe.matching.integers.exact_levels", wrong)
    assert choose("auto", _sample(60), TASK, _taking(7, 1)).name == "subspace"
    with pytest.raises(ConfigError, match="wrong"):
        choose("subspace-int8", _sample(60), TASK)


def test_the_limits_of_a_trial_are_those_of_a_search_halfway() -> None:
    sample = _sample(60)
    exact = np.sort(sample.probes.astype(float) @ sample.rows.T.astype(float), axis=1)
    halfway = Task(len(sample.rows) * 2, 10, -1, 1)
    assert np.allclose(choice._limits(sample, halfway), exact[:, -10], atol=1e-6)
    floored = choice._limits(sample, Task(10**9, 10, 0.9, 1))
    assert np.allclose(floored, np.maximum(exact[:, -1], 0.9), atol=1e-6)
    assert (choice._limits(sample, Task(10**9, None, 0.4, 1)) == np.float32(0.4)).all()


def test_few_pairs_and_a_named_kernel_take_no_sample() -> None:
    assert not worth_a_look("auto", 1000)
    assert not worth_a_look("int8", 10**12)
    assert worth_a_look("auto", 10**12)
    assert worth_a_look("subspace", 1)
    assert named("auto").name == "fp32"
    assert named("int8").name == "int8"


def test_nobody_to_try_it_on_is_no_error() -> None:
    nobody: Floats = np.zeros((0, 8), np.float32)
    assert choose("auto", Sample(nobody, nobody), TASK).name == "fp32"


def test_the_word_on_gpus() -> None:
    assert named("auto").beside(0).why.endswith("no GPU")
    assert "--kernel cuda" in named("auto").beside(2).why
    assert named("cuda").beside(2) == named("cuda")


def test_a_spread_is_even_and_no_longer_than_asked() -> None:
    vectors = np.arange(10, dtype=np.float32)[:, None]
    assert spread(vectors, 4)[:, 0].tolist() == [0, 3, 6, 9]
    assert len(spread(vectors, 99)) == 10


def test_forms_that_are_stored_cost_nothing_and_the_reason_says_that_they_are_there() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(600, 30)) @ rng.normal(size=(30, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    sample, task = Sample(vectors, vectors[:50]), Task(10**6, 10, -1, uses=1)
    basis = Spectrum.of(vectors).leading(31)
    there = Stored(basis, {"subspace": 1.0, "subspace-int8": 0.0})
    # All take the same time, so that only what is spared makes a difference.
    chosen = choose("auto", sample, task, lambda _: 1.0, stored=there)
    assert (chosen.name, chosen.stored) == ("subspace-int8", True)
    assert chosen.basis is basis
    assert "stored with the gallery" in chosen.why
    assert not choose("auto", sample, task, lambda _: 1.0).stored
