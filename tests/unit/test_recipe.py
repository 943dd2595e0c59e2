"""What the hashes of a recipe cover."""

from __future__ import annotations

from dataclasses import replace

import pytest

from frpipe.core.config import load_config
from frpipe.core.errors import GalleryMismatch
from frpipe.core.recipe import Recipe
from frpipe.gallery.spec import GallerySpec

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


SINGLE = (
    "detect.turns=off",
    "detect.refine=off",
    "detect.not_photographs=keep",
    "detect.max_side_px=640",
    "detect.bucket_sides_px=[128, 640]",
)
LIMITS = (
    "decode.max_bytes=1000",
    "decode.max_pixels=1000",
    "decode.min_side_px=99",
    "decode.truncated=accept",
    "decode.plugins=['frpipe.vision.decode:decode']",
)


def _spec(recipe: Recipe) -> GallerySpec:
    hashes = recipe.embedder_hash, recipe.preprocessing_hash, recipe.detector_hash
    return GallerySpec(8, *hashes, same_vectors=recipe.same_vectors)


def _of_before(recipe: Recipe) -> GallerySpec:
    """Of a gallery that says one hash alone."""
    return replace(_spec(recipe), same_vectors=())


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("looks", [(), SINGLE], ids=["looks again", "single look"])
def test_limits_part_no_features_and_no_galleries(limit: str, looks: tuple[str, ...]) -> None:
    plain, limited = _recipe(*looks), _recipe(*looks, limit)
    for one, other in ((plain, limited), (limited, plain), (limited, _recipe(*looks, *LIMITS))):
        _spec(one).check_same(_spec(other))
    for features in (plain, limited):
        _of_before(plain).check_same(_spec(features))
    _of_before(limited).check_same(_spec(limited))


def test_the_name_of_the_detectors_card_parts_none() -> None:
    """Its weights and its facts are compared in any case."""
    renamed = _recipe("detect.model=of_ours")
    _spec(_recipe()).check_same(_spec(renamed))
    other = Recipe.of(load_config(), {**DETECTOR, "input": {"colour": "RGB"}}, EMBEDDER)
    assert not _spec(_recipe()).same_preprocessing(_spec(other))


@pytest.mark.parametrize(
    "setting",
    [
        "detect.turns=off",
        "detect.refine=off",
        "detect.min_face_px=24",
        "detect.max_side_px=320",
        "detect.bucket_sides_px=[640]",
        "detect.score_threshold=0.5",
        "detect.nms_iou=0.9",
        "decode.scaled=false",
        "align.antialias=false",
        "embed.flip=true",
    ],
)
def test_what_changes_a_vector_parts_them_whatever_the_limits(setting: str) -> None:
    for looks in ((), SINGLE):
        one, other = _spec(_recipe(*looks)), _spec(_recipe(*looks, *LIMITS, setting))
        if one.preprocessing_hash != _recipe(*looks, setting).preprocessing_hash:
            assert not one.same_preprocessing(other)
            with pytest.raises(GalleryMismatch, match=one.preprocessing_hash):
                _of_before(_recipe(*looks)).check_same(other)


def test_looking_once_and_looking_again_are_never_the_same() -> None:
    assert not _spec(_recipe()).same_preprocessing(_spec(_recipe(*SINGLE)))


def test_another_detector_or_embedder_is_refused_whatever_the_hashes_say() -> None:
    for role in ("detector_hash", "embedder_hash"):
        other = replace(_spec(_recipe()), **{role: "0" * 64})
        with pytest.raises(GalleryMismatch, match=role.removesuffix("_hash")):
            _spec(_recipe()).check_same(other)


@pytest.mark.parametrize(
    "device",
    [
        ("resources.locate.num_gpus=1", "resources.embed.num_gpus=1"),
        ("resources.locate.batch_rows=32", "resources.embed.batch_rows=256", "resources.locate.threads=8"),
        ("storage.fetch_attempts=9", "run.executor=local"),
    ],
    ids=["GPU", "batches", "execution"],
)
def test_device_batches_and_execution_are_no_part_of_any_recipe(device: tuple[str, ...]) -> None:
    for looks in ((), SINGLE):
        assert _recipe(*looks, *device).as_dict() == _recipe(*looks).as_dict()
        assert _recipe(*looks, *device).preprocessing_hash == _recipe(*looks).preprocessing_hash
