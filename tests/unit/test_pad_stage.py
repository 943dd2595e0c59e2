"""The stage `pad` in runs: how it is asked for, what it marks and holds back, and what a replay lets in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from frozen import Frozen, copied
from PIL import Image
from staged_runs import config, dry_run, enrolled, replayed, table

from frpipe.core.config import load_config
from frpipe.core.errors import ConfigError, ModelError, ModelMissing
from frpipe.core.schema import stage_of
from frpipe.models.card import PadSpec
from frpipe.models.registry import Registry
from frpipe.stages.chain import StageChain
from frpipe.stages.locate import locator_of
from frpipe.stages.models import Models
from frpipe.stages.pad.stage import Pad
from frpipe.stages.stage import stage_class
from frpipe.testing.tiny import tiny_pad

NAMES = ("pad_near", "pad_far")
BOTH = [f"pad.model={NAMES[0]}", f"pad.second_model={NAMES[1]}"]
TIMES = ("fetch_ms", "decode_ms", "detect_ms", "align_ms", "embed_ms")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    """The photos and models of the fixtures, and two tiny networks of role pad."""
    with copied(tmp_path_factory.mktemp("pad") / "frozen") as found:
        for number, name in enumerate(NAMES):
            spec = PadSpec(
                scale=(2.7, 4.0)[number],
                border="shift",
                resize="bilinear",
                outputs="logits",
                classes=("attack_2d", "bona_fide", "attack_3d"),
                threshold=(0.2, 0.5)[number],
            )
            card = tiny_pad(found / f"models/{name}.onnx", spec, seed=number)
            text = yaml.safe_dump(card.model_dump(mode="json", exclude_none=True) | {"name": name})
            (found / f"cards/{name}.yaml").write_text(text)
        yield found


@pytest.fixture(scope="module")
def plain(home: Frozen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without the stage."""
    out = tmp_path_factory.mktemp("plain") / "out"
    enrolled(home / "photos.csv", out)
    return out


@pytest.fixture(scope="module")
def flagged(home: Frozen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that marks by the thresholds of the cards."""
    out = tmp_path_factory.mktemp("flagged") / "out"
    enrolled(home / "photos.csv", out, *BOTH)
    return out


@pytest.fixture(scope="module")
def limit(flagged: Path) -> float:
    """What half of the faces are below."""
    return float(np.median(table(flagged, "faces")["pad_score"].to_numpy()))


@pytest.fixture(scope="module")
def held(home: Frozen, limit: float, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that holds these back."""
    out = tmp_path_factory.mktemp("held") / "out"
    enrolled(home / "photos.csv", out, *BOTH, "pad.policy=reject", f"pad.min_score={limit}")
    return out


def test_off_is_as_without_the_stage() -> None:
    """A bare `off` of YAML, too: it is read as false."""
    without = load_config()
    for settings in (["pad.policy=off"], ["stages.pad.policy=off"], ["pad={policy: off}"]):
        assert load_config(None, settings) == without


@pytest.mark.parametrize(
    ("settings", "message", "remedy"),
    [
        (["pad.polcy=flag"], "stages.pad.polcy", "stages.pad.policy"),
        (["pad.policy=maybe"], "stages.pad.policy", "docs/pad.md"),
        (["pad.min_score=1.5"], "stages.pad.min_score", "docs/pad.md"),
        (["pad.second_model=minifasnet_v2"], "the same card", "docs/pad.md"),
        (["pad={}", "stages.pad.policy=flag"], "the same settings", "leave one"),
    ],
)
def test_what_is_wrong_with_its_settings_is_one_clear_error(
    settings: list[str], message: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, settings)
    assert message in caught.value.message and remedy in caught.value.remedy


def test_a_run_gets_its_columns_and_keeps_all_others(plain: Path, flagged: Path) -> None:
    before, after = table(plain, "faces"), table(flagged, "faces")
    staged = [field.name for field in after.schema if stage_of(field) == "pad"]
    assert staged == ["pad_score", "pad_label", "pad_flags"]
    assert after.select(before.column_names).equals(before)
    kept = [name for name in table(plain, "images").column_names if name not in TIMES]
    assert table(flagged, "images").select(kept).equals(table(plain, "images").select(kept))


def test_faces_below_the_mean_of_the_cards_thresholds_are_marked(flagged: Path) -> None:
    rows = table(flagged, "faces").to_pylist()
    flags = [row["pad_flags"] for row in rows]
    assert flags == ["min_score" if row["pad_score"] < np.float32(0.35) else None for row in rows]
    assert {row["pad_label"] for row in rows} <= {"attack_2d", "bona_fide", "attack_3d"}
    assert table(flagged, "held").num_rows == 0


def test_one_model_alone_gives_another_score(home: Frozen, flagged: Path, tmp_path: Path) -> None:
    """The mean of both alone is what the pair gives."""
    scores = []
    for name in NAMES:
        enrolled(home / "photos.csv", tmp_path / name, f"pad.model={name}", "pad.second_model=null")
        scores.append(table(tmp_path / name, "faces")["pad_score"].to_numpy())
    assert not np.allclose(*scores)
    np.testing.assert_allclose(
        np.mean(scores, axis=0), table(flagged, "faces")["pad_score"].to_numpy(), atol=1e-6
    )


def test_rejected_faces_are_held_back_with_their_score(held: Path, flagged: Path, limit: float) -> None:
    rows = table(held, "held").to_pylist()
    scores = table(flagged, "faces")["pad_score"].to_numpy()
    assert len(rows) == (scores < limit).sum() > 0
    assert len(rows) + table(held, "faces").num_rows == len(scores)
    for row in rows:
        assert (row["held_reason"], row["held_measure"]) == ("presentation_attack", "pad_score")
        assert row["held_value"] == row["pad_score"] < row["held_limit"] == limit
        assert row["pad_flags"] is None


def test_the_short_form_amends_the_settings_that_are_there(tmp_path: Path) -> None:
    """Those of the run that is replayed, or of a file."""
    (tmp_path / "c.yaml").write_text("stages:\n  pad:\n    policy: reject\n    min_score: 0.9\n")
    found = load_config(tmp_path / "c.yaml", ["pad.min_score=0.1"]).stages["pad"]
    assert (found["policy"], found["min_score"]) == ("reject", 0.1)


def test_a_replay_with_a_loosened_limit_brings_them_in(held: Path, flagged: Path, tmp_path: Path) -> None:
    for name, setting in (("flag", "pad.policy=flag"), ("limit", "pad.min_score=0")):
        out = tmp_path / name
        replayed(held, out, setting)
        assert table(out, "held").num_rows == 0
        names = [each for each in table(flagged, "faces").column_names if each != "pad_flags"]
        assert (
            table(out, "faces")
            .select(names)
            .sort_by("face_id")
            .equals(table(flagged, "faces").select(names).sort_by("face_id"))
        )


def test_other_models_are_another_recipe_and_the_same_vectors(home: Frozen) -> None:
    one, both = (
        Models.of(config(*each)).recipe for each in (("pad.model=pad_near", "pad.second_model=null"), BOTH)
    )
    assert one.metadata()["frpipe.recipe_hash"] != both.metadata()["frpipe.recipe_hash"]
    assert one.preprocessing_hash == both.preprocessing_hash == Models.of(config()).recipe.preprocessing_hash
    card = Registry.default().card("pad_near")
    assert both.stages["pad"]["models"]["model"]["sha256"] == card.sha256


def test_a_dry_run_says_what_looks_at_faces(home: Frozen, tmp_path: Path) -> None:
    text = dry_run(home / "photos.csv", tmp_path / "out", *BOTH).text()
    assert "stages    pad 1 (model: pad_near, second_model: pad_far)" in text


def test_weights_that_are_not_here_are_named_with_the_command_that_fetches_them(
    home: Frozen, tmp_path: Path
) -> None:
    with pytest.raises(ModelMissing) as caught:
        dry_run(home / "photos.csv", tmp_path / "out", "pad.policy=flag")
    assert "frpipe models pull minifasnet_v2 minifasnet_v1se" in caught.value.remedy
    with pytest.raises(ModelMissing) as caught:
        one = ("pad.model=minifasnet_v2_batched", "pad.second_model=null")
        dry_run(home / "photos.csv", tmp_path / "out", *one)
    assert "FRPIPE_MODEL_DIR" in caught.value.remedy
    with pytest.raises(ModelError, match="role"):
        Models.of(config("pad.model=tiny_embedder"))


def test_a_replay_that_refuses_less_than_was_marked_takes_the_marks_off(
    home: Frozen, limit: float, tmp_path: Path
) -> None:
    gate = ["policy=reject", f"min_score={limit}"]
    enrolled(home / "photos.csv", tmp_path / "marked", *BOTH, "pad.min_score=1")
    replayed(tmp_path / "marked", tmp_path / "again", *(f"stages.pad.{each}" for each in gate))
    enrolled(home / "photos.csv", tmp_path / "anew", *BOTH, *(f"pad.{each}" for each in gate))
    for name in ("faces", "held"):
        assert table(tmp_path / "again", name).equals(table(tmp_path / "anew", name)), name


def test_a_photo_alone_is_rejected_as_in_a_run(home: Frozen, held: Path) -> None:
    row = next(row for row in table(held, "images").to_pylist() if row["reason"] == "presentation_attack")
    models = Models.of(config(*BOTH, "pad.policy=reject", "pad.min_score=1"))
    chain = StageChain.of(models.config, models.stage_cards)
    locator = locator_of(models.config, models.detector, models.judge, enlarged=chain.enlarged)
    (located,) = locator.locate([(home / row["image_uri"]).read_bytes()])
    chain.apply(located)
    assert (located.status, located.reason) == ("rejected", "presentation_attack")


def test_it_claims_no_liveness() -> None:
    assert "liveness" in (Pad.__doc__ or "")
    assert stage_class("pad") is Pad


@pytest.fixture(scope="module")
def grey(home: Frozen) -> Path:
    """The photos of the fixtures without colour, beside the same in colour."""
    rows = ["image_uri"]
    for photo in sorted((home / "photos").glob("*-*.png")):
        pixels = Image.open(photo).convert("RGB")
        for name, picture in (("grey", pixels.convert("L").convert("RGB")), ("colour", _toned(pixels))):
            picture.save(home / f"{name}-{photo.name}")
            rows.append(str(home / f"{name}-{photo.name}"))
    (home / "grey.csv").write_text("\n".join(rows) + "\n")
    for name in NAMES:
        path = home / f"cards/{name}.yaml"
        card = yaml.safe_load(path.read_text())
        card["pad"]["needs_colour"] = True
        (home / f"cards/{name}_coloured.yaml").write_text(yaml.safe_dump(card | {"name": f"{name}_coloured"}))
    return home / "grey.csv"


def _toned(pixels: Image.Image) -> Image.Image:
    """The picture with more red and less blue."""
    return Image.fromarray((np.asarray(pixels) * np.array([1, 0.8, 0.6])).astype(np.uint8))


def test_a_run_says_how_many_faces_it_refused_that_have_no_colour_and_what_to_do(
    grey: Path, tmp_path: Path
) -> None:
    coloured = [f"pad.model={NAMES[0]}_coloured", f"pad.second_model={NAMES[1]}_coloured"]
    refuse = ["pad.policy=reject", "pad.min_score=1"]
    report = enrolled(grey, tmp_path / "out", *coloured, *refuse)
    held = table(tmp_path / "out", "held").to_pylist()
    theirs = {face["image_uri"] for face in held if face["pad_flags"] == "no_colour"}
    assert theirs == {face["image_uri"] for face in held if "/grey-" in face["image_uri"]} and theirs
    count = sum(face["image_uri"] in theirs for face in held)
    assert report.held_without_colour == count < len(held)
    text = (tmp_path / "out/report.md").read_text()
    assert f"{count} of them have no colour" in text and "pad.model=minifas_se_128" in text
    again = replayed(tmp_path / "out", tmp_path / "again", "stages.pad.policy=flag")
    assert again.held_without_colour == 0 and "no colour" not in again.text()
    flags = {face["image_uri"]: face["pad_flags"] for face in table(tmp_path / "again", "faces").to_pylist()}
    assert {flags[uri] for uri in theirs} == {"min_score, no_colour"}
    assert {flag for uri, flag in flags.items() if uri not in theirs} == {"min_score"}
    # Where the networks' cards say nothing of colour, neither does the run.
    other = enrolled(grey, tmp_path / "other", *BOTH, *refuse)
    assert other.faces_held == len(held) and other.held_without_colour == 0


def test_that_a_network_needs_colour_is_no_part_of_the_recipe(grey: Path, tmp_path: Path) -> None:
    one, other = (
        Models.of(config(f"pad.model={NAMES[0]}{end}", "pad.second_model=null")).recipe
        for end in ("", "_coloured")
    )
    assert one.stages == other.stages
