"""Settings: what is refused, with what advice, and what the hash covers."""

from __future__ import annotations

from pathlib import Path

import pytest

from frpipe.core.config import Config, canonical_hash, iter_settings, load_config
from frpipe.core.errors import ConfigError


@pytest.mark.parametrize(
    ("override", "advice"),
    [
        ("detect.polcy=all", "detect.policy"),
        ("resources.locate.worker=2", "resources.locate.workers"),
        ("embd.model=x", "embed.model"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(override: str, advice: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert advice in caught.value.remedy or caught.value.remedy.startswith("did you mean embed")


@pytest.mark.parametrize(
    "override",
    [
        "detect.max_side_px=many",
        "detect.policy=best",
        "detect.score_threshold=1.5",
        "resources.embed.device=cuda",
        "detect.bucket_sides_px=[100, 640]",
        "detect.bucket_sides_px=[]",
        "detect.turns=on",
        "detect.min_face_px=4",
        "detect",
        "detect.policy.name=all",
        "resources.part_rows=some",
    ],
)
def test_a_bad_value_is_one_clear_error(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert caught.value.remedy
    assert "\n" not in caught.value.message


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("detect: {policy: largest, max_faces: 3}\n")
    config = load_config(path, ["detect.policy=all"])
    assert (config.detect.policy, config.detect.max_faces) == ("all", 3)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "just text"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_config(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    # That of a night is of another form: test_night_config.py.
    "path",
    [p for p in sorted((Path(__file__).parents[2] / "configs").glob("*.yaml")) if p.name != "nightly.yaml"],
    ids=lambda p: p.name,
)
def test_the_shipped_configurations_load(path: Path) -> None:
    assert isinstance(load_config(path), Config)


@pytest.mark.parametrize(
    ("overrides", "side", "buckets"),
    [
        (["detect.max_side_px=1280"], 1280, None),
        (["detect.bucket_sides_px=[320]"], None, (320,)),
        (["detect.max_side_px=1280", "detect.bucket_sides_px=[640, 1280]"], 1280, (640, 1280)),
    ],
)
def test_the_sides_of_looks_may_be_set_alone_or_together(
    overrides: list[str], side: int | None, buckets: tuple[int, ...] | None
) -> None:
    detect = load_config(None, overrides).detect
    assert (detect.max_side_px, detect.bucket_sides_px) == (side, buckets)
    assert not detect.is_single_look


@pytest.mark.parametrize("text", ["off", "'off'", "false"])
def test_a_look_is_switched_off_by_a_bare_word(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"detect: {{turns: {text}}}\n")
    detect = load_config(path, [f"detect.refine={text}"]).detect
    assert (detect.turns, detect.refine) == ("off", "off")


def test_a_single_look_is_named_by_all_of_its_settings() -> None:
    words = ["detect.turns=off", "detect.refine=off", "detect.not_photographs=keep"]
    assert not load_config(None, words).detect.is_single_look
    sides = ["detect.max_side_px=640", "detect.bucket_sides_px=[320, 640]"]
    assert load_config(None, [*words, *sides]).detect.is_single_look
    single = Config().single_look()
    assert single.detect.is_single_look
    assert single.single_look() == single


def test_a_recipe_of_a_single_look_holds_no_setting_that_the_first_ones_did_not_know() -> None:
    single = Config().single_look().recipe()["detect"]
    assert not {"turns", "refine", "not_photographs", "min_face_px"} & set(single)
    assert {"turns", "refine", "not_photographs", "min_face_px"} <= set(Config().recipe()["detect"])


def test_execution_does_not_change_the_recipe() -> None:
    base = load_config()
    faster = load_config(None, ["resources.embed.workers=7", "storage.fetch_attempts=9"])
    other = load_config(None, ["detect.policy=largest"])
    assert canonical_hash(base.recipe()) == canonical_hash(faster.recipe())
    assert canonical_hash(base.recipe()) != canonical_hash(other.recipe())


def test_setting_one_value_of_a_pool_keeps_the_others() -> None:
    config = load_config(None, ["resources.embed.workers=2"])
    assert config.resources.embed.batch_rows == Config().resources.embed.batch_rows


def test_the_list_of_settings_shows_the_true_defaults() -> None:
    for name, default, description in iter_settings():
        value: object = Config()
        for key in name.split("."):
            value = getattr(value[0] if isinstance(value, tuple) else value, key)
        assert value == default, name
        assert description, name
