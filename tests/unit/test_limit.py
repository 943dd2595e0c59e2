"""Which threshold a job takes, and what it says against it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from frpipe.core.errors import ConfigError, GalleryMismatch
from frpipe.core.threshold import Target, ThresholdCard
from frpipe.matching.threshold import expected_fpir, threshold_of
from frpipe.models.card import Card
from frpipe.models.registry import Registry

OWN, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def model() -> Card:
    return Registry.default().card("sface_2021dec")


def _card(**changes: Any) -> ThresholdCard:
    facts: dict[str, Any] = {
        "embedder_hash": OWN,
        "kind": "distance",
        "value": 0.5,
        "purpose": "verification",
        "target": Target(rate="FMR", value=1e-4),
        "source": "our photos",
        "created": datetime(2026, 5, 1, tzinfo=UTC),
    }
    return ThresholdCard(**{**facts, **changes})


def _search_card(fpir: float = 0.01, subjects: int = 10_000) -> ThresholdCard:
    return _card(purpose="identification", target=Target(rate="FPIR", value=fpir), gallery_subjects=subjects)


def test_what_is_given_goes_before_the_threshold_card_and_that_before_the_model_card(model: Card) -> None:
    given = threshold_of(OWN, given=0.3, card=_card(), embedder_card=model)
    assert (given.similarity, given.distance, given.source, given.warning) == (0.3, 0.7, "given", None)
    chosen = threshold_of(OWN, card=_card(), embedder_card=model)
    assert (chosen.similarity, chosen.kind, chosen.fmr) == (0.5, "distance", 1e-4)
    assert "our photos" in chosen.source
    default = threshold_of(OWN, embedder_card=model)
    assert model.embedder is not None
    assert model.embedder.threshold is not None
    assert default.similarity == model.embedder.threshold.similarity
    assert model.name in default.source


def test_a_threshold_says_what_it_was_chosen_for_and_is_stored_without(model: Card) -> None:
    chosen = [
        threshold_of(OWN, given=0.3),
        threshold_of(OWN, embedder_card=model),
        threshold_of(OWN, card=_card()),
        threshold_of(OWN, card=_search_card(), searched=10_000),
    ]
    assert [each.purpose for each in chosen] == [None, "verification", "verification", "identification"]
    assert [*chosen[0].as_dict()] == ["similarity", "distance", "kind", "source", "target", "fmr", "warning"]


def test_zero_is_a_threshold(model: Card) -> None:
    assert threshold_of(OWN, given=0.0, embedder_card=model).similarity == 0


@pytest.mark.parametrize("given", [1.01, -2, float("nan"), float("inf")])
def test_what_is_no_similarity_is_refused(given: float) -> None:
    with pytest.raises(ConfigError, match="from -1 to 1"):
        threshold_of(OWN, given=given)


def test_without_any_threshold_the_error_says_how_to_give_one(model: Card) -> None:
    assert model.embedder is not None
    without = model.model_copy(update={"embedder": model.embedder.model_copy(update={"threshold": None})})
    for card in (None, without):
        with pytest.raises(ConfigError, match="no threshold") as refused:
            threshold_of(OWN, embedder_card=card)
        assert "--threshold-card" in refused.value.remedy


def test_a_card_of_another_embedder_is_refused_with_both_hashes(model: Card) -> None:
    with pytest.raises(GalleryMismatch) as refused:
        threshold_of(OTHER, card=_card(), embedder_card=model)
    assert OWN in refused.value.message
    assert OTHER in refused.value.message


def test_a_card_of_another_preprocessing_is_refused_where_it_names_one() -> None:
    card = _card(preprocessing_hash="p" * 64)
    assert threshold_of(OWN, card=card).similarity == 0.5
    assert threshold_of(OWN, card=card, preprocessing={"p" * 64}).similarity == 0.5
    assert threshold_of(OWN, card=_card(), preprocessing={"q" * 64}).similarity == 0.5
    with pytest.raises(GalleryMismatch, match="preprocessing"):
        threshold_of(OWN, card=card, preprocessing={"q" * 64, "r" * 64})


def test_a_threshold_for_pairs_is_warned_of_in_a_search(model: Card) -> None:
    for limit in (
        threshold_of(OWN, embedder_card=model, searched=10_000),
        threshold_of(OWN, card=_card(), searched=10_000),
    ):
        assert limit.warning is not None
        assert "one-to-one" in limit.warning
        assert "0.632" in limit.warning
        assert "10,000 templates" in limit.warning
    assert threshold_of(OWN, card=_card(), searched=1).warning is None
    unknown = threshold_of(OWN, card=_card(target=None), searched=10_000)
    assert unknown.fmr is None
    assert "unknown" in (unknown.warning or "")


def test_a_default_is_always_said_to_be_one(model: Card) -> None:
    assert "model card of sface_2021dec" in (threshold_of(OWN, embedder_card=model).warning or "")


@pytest.mark.parametrize(
    ("subjects", "said"),
    [(10_000, None), (5_000, None), (4_000, "stricter"), (1_000_000, "near 0.634 in place of 0.01")],
)
def test_a_threshold_for_a_search_is_warned_of_in_a_gallery_of_another_size(
    subjects: int, said: str | None
) -> None:
    limit = threshold_of(OWN, card=_search_card(), searched=subjects)
    assert limit.target == "FPIR 0.01 among 10,000 subjects"
    assert limit.fmr is None
    assert (limit.warning is None) == (said is None)
    assert said is None or said in (limit.warning or "")


def test_it_is_people_that_count_where_they_have_several_templates() -> None:
    assert threshold_of(OWN, card=_search_card(), searched=30_000, subjects=10_000).warning is None


def test_a_threshold_for_a_search_is_strict_for_a_pair() -> None:
    assert "stricter" in (threshold_of(OWN, card=_search_card()).warning or "")


def test_expected_fpir_is_the_formula_and_exact_for_tiny_rates() -> None:
    assert expected_fpir(1e-4, 10_000) == pytest.approx(1 - (1 - 1e-4) ** 10_000)
    assert expected_fpir(1e-18, 1000) == pytest.approx(1e-15, rel=1e-9)
    assert expected_fpir(1, 5) == 1
    assert expected_fpir(0, 5) == 0
    simulated = (np.random.default_rng(7).random((20_000, 50)) < 0.02).any(axis=1).mean()
    assert expected_fpir(0.02, 50) == pytest.approx(simulated, abs=0.02)
