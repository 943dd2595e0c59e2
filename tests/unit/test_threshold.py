"""Threshold cards: read as they were written, and refused where they say something they cannot mean."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from frpipe.core.errors import ConfigError
from frpipe.core.threshold import ThresholdCard
from frpipe.io import threshold_file

DOCS = Path(__file__).resolve().parents[2] / "docs"
VERIFICATION: dict[str, Any] = {
    "format": "frpipe-threshold/1",
    "embedder_hash": "e" * 64,
    "kind": "similarity",
    "value": 0.4,
    "purpose": "verification",
    "target": {"rate": "FMR", "value": 1e-4},
    "trials": 30_000,
    "source": "all non-mated pairs of our photos",
    "created": "2026-05-01T10:00:00Z",
}
IDENTIFICATION = {
    **VERIFICATION,
    "purpose": "identification",
    "target": {"rate": "FPIR", "value": 0.01},
    "gallery_subjects": 10_000,
}


def _parse(**changes: Any) -> ThresholdCard:
    return ThresholdCard.parse(json.dumps({**VERIFICATION, **changes}))


def test_a_similarity_and_a_distance_of_one_limit_agree() -> None:
    assert (_parse().similarity, _parse().distance) == (0.4, 0.6)
    other = _parse(kind="distance", value=0.6)
    assert (other.similarity, other.distance) == (0.4, 0.6)
    assert _parse(kind="distance", value=2).similarity == -1


@pytest.mark.parametrize("content", [VERIFICATION, IDENTIFICATION])
def test_what_is_saved_is_what_is_loaded(content: dict[str, Any], tmp_path: Path) -> None:
    card = ThresholdCard.parse(json.dumps(content))
    path = str(tmp_path / "sub" / "card.json")
    threshold_file.save(path, card)
    assert threshold_file.load(path) == card
    assert threshold_file.load(f"file://{path}") == card


def test_the_card_in_the_documentation_is_one() -> None:
    page = (DOCS / "thresholds.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    card = ThresholdCard.parse(example)
    assert set(json.loads(example)) == set(ThresholdCard.model_fields)
    assert set(re.findall(r"`(\w+)`", page.split("| field |")[1].split("Fields that")[0])) >= set(
        ThresholdCard.model_fields
    )
    assert card.target is not None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "frpipe-threshold/2"}, "format 'frpipe-threshold/2'"),
        ({"value": 1.2}, "similarity, from -1 to 1"),
        ({"kind": "distance", "value": -0.1}, "distance, from 0 to 2"),
        ({"value": "0.4"}, "value"),
        ({"value": True}, "value"),
        ({"kind": "score"}, "kind"),
        ({"purpose": "identification"}, "gallery_subjects is needed"),
        ({"gallery_subjects": 5}, "gallery_subjects has no meaning"),
        ({"target": {"rate": "FPIR", "value": 0.1}}, "FPIR"),
        ({"target": {"rate": "FMR", "value": 2}}, "target.value"),
        ({"treshold": 0.4}, "unknown field treshold"),
        ({"embedder_hash": ""}, "embedder_hash"),
        ({"created": "2026-05-01T10:00:00"}, "created"),
        ({"trials": 0}, "trials"),
    ],
)
def test_a_card_that_cannot_be_meant_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        _parse(**changes)
    assert "docs/thresholds.md" in refused.value.remedy


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"value": 0.4}', '{"format": 1}', "\udcff"])
def test_a_file_that_is_no_card_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match="card"):
        threshold_file.load(str(path))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    text = json.dumps(VERIFICATION).replace("0.4", number)
    with pytest.raises(ConfigError):
        ThresholdCard.parse(text)


def test_a_card_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no threshold card"):
        threshold_file.load(str(tmp_path / "card.json"))
