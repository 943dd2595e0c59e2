"""What the hashes of a recipe cover."""

from __future__ import annotations

import pytest

from frpipe.core.config import load_config
from frpipe.core.recipe import Recipe

DETECTOR = {"sha256": "d" * 64, "input": {"colour": "BGR"}}
EMBEDDER = {"sha256": "e" * 64, "input": {"colour": "RGB"}}


def _recipe(*settings: str) -> Recipe:
    return Recipe.of(load_config(None, settings), DETECTOR, EMBEDDER)


@pytest.mark.parametrize(
    "setting", ["decode.scaled=false", "detect.max_side_px=320", "align.antialias=false", "embed.flip=true"]
)
def test_what_changes_a_vector_changes_the_preprocessing_hash(setting: str) -> None:
    assert _recipe(setting).preprocessing_hash != _recipe().preprocessing_hash


@pytest.mark.parametrize(
    "setting", ["detect.policy=largest", "detect.max_faces=3", "resources.embed.threads=2"]
)
def test_which_faces_are_kept_and_how_fast_does_not(setting: str) -> None:
    assert _recipe(setting).preprocessing_hash == _recipe().preprocessing_hash


def test_a_run_of_another_policy_is_another_run() -> None:
    assert _recipe("detect.policy=largest").as_dict() != _recipe().as_dict()


def test_the_embedders_weights_have_a_hash_of_their_own() -> None:
    other = Recipe.of(load_config(), DETECTOR, {**EMBEDDER, "sha256": "f" * 64})
    assert other.preprocessing_hash == _recipe().preprocessing_hash
    assert other.embedder_hash != _recipe().embedder_hash
