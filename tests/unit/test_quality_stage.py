"""The stage `quality` in runs: how it is asked for, what it marks, holds back, and leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from frozen import Frozen, copied
from staged_runs import config, dry_run, enrolled, table
from test_quality_measures import rotation_of

from frpipe.core.config import load_config
from frpipe.core.errors import ConfigError, ModelMissing
from frpipe.core.schema import stage_of
from frpipe.gallery.gallery import Gallery
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.stages.chain import StageChain
from frpipe.stages.models import Models
from frpipe.stages.quality.settings import LIMITS, PRESETS, QualitySettings
from frpipe.stages.quality.stage import Quality
from frpipe.stages.stage import FaceBatch, stage_class
from frpipe.stages.stage_docs import stage_tables
from frpipe.stages.tabulate import tabulate
from frpipe.testing.faces import located_faces, plan_of
from frpipe.vision.quality.pose import HEAD

TIMES = ("fetch_ms", "decode_ms", "detect_ms", "align_ms", "embed_ms")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    """The photos and models of the fixtures."""
    with copied(tmp_path_factory.mktemp("quality") / "frozen") as found:
        yield found


@pytest.fixture(scope="module")
def plain(home: Frozen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without the stage."""
    out = tmp_path_factory.mktemp("plain") / "out"
    enrolled(home / "photos.csv", out)
    return out


@pytest.fixture(scope="module")
def flagged(home: Frozen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that measures, and marks dark faces."""
    out = tmp_path_factory.mktemp("flagged") / "out"
    enrolled(home / "photos.csv", out, "quality.min_scores={ofiq_like_luminance_mean: 50}")
    return out


def crops(count: int = 3) -> np.ndarray:
    """Of middling grey with some detail."""
    return np.random.default_rng(0).integers(90, 160, (count, 112, 112, 3), dtype=np.uint8)


def run(located: object, version: int = 2, **settings: object) -> pa.Table:
    """The faces of one photo after the stage."""
    part = tabulate(0, plan_of(1), [located], [1], "all", version=version)  # type: ignore[list-item]
    return StageChain([Quality(QualitySettings.model_validate(settings), {})])(part).faces


def test_off_is_as_without_the_stage() -> None:
    without = load_config()
    for settings in (["quality.policy=off"], ["stages.quality.policy=off"], ["quality={policy: off}"]):
        found = load_config(None, settings)
        assert found.stages == {} and found.recipe() == without.recipe() and found == without


def test_quality_is_short_for_stages_quality(tmp_path: Path) -> None:
    short = load_config(None, ["quality.preset=enrolment"])
    assert short == load_config(None, ["stages.quality.preset=enrolment"])
    assert short.stages["quality"]["policy"] == "flag"
    (tmp_path / "c.yaml").write_text("quality:\n  policy: reject\n  max_yaw_deg: 30\n")
    assert load_config(tmp_path / "c.yaml").stages["quality"]["max_yaw_deg"] == 30
    assert (
        load_config(None, ["quality="]).stages["quality"]
        == load_config(None, ["quality={}"]).stages["quality"]
    )


@pytest.mark.parametrize(
    ("settings", "message", "remedy"),
    [
        (["quality.polcy=flag"], "stages.quality.polcy", "stages.quality.policy"),
        (["quality.policy=maybe"], "stages.quality.policy", "docs/quality.md"),
        (["quality.policy=reject"], "needs a limit", "docs/quality.md"),
        (["quality.min_scores={sharp: 3}"], "ofiq_like_sharpness", "docs/quality.md"),
        (["quality.max_yaw_deg=-1"], "stages.quality.max_yaw_deg", "docs/quality.md"),
        (["quality={}", "stages.quality.policy=flag"], "the same settings", "leave one"),
        (["quality=3"], "stages.quality is a group of settings", "docs/quality.md"),
        (["quality=off"], "stages.quality is a group of settings", "stages.quality.policy=off"),
        (["pad=off"], "stages.pad is a group of settings", "stages.pad.policy=off"),
        (["quality.min_scores={noise:101}"], "'noise:101' is no measure", "docs/quality.md"),
        (["quality.min_scores={noise: 101}"], "stages.quality.min_scores.noise", "docs/quality.md"),
        (["quality.min_scores=noise"], "stages.quality.min_scores", "docs/quality.md"),
        (["quality.min_inter_eye_px=.inf"], "finite", "docs/quality.md"),
    ],
)
def test_what_is_wrong_with_its_settings_is_one_clear_error(
    settings: list[str], message: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, settings)
    assert message in caught.value.message and remedy in caught.value.remedy


def test_limits_of_a_preset_give_way_to_those_that_are_set() -> None:
    settings = QualitySettings.model_validate(
        {"preset": "enrolment", "max_yaw_deg": 15, "min_scores": {"noise": 9}}
    )
    expected = {**PRESETS["enrolment"], "max_yaw_deg": 15, "min_scores.noise": 9}
    assert settings.limits == expected
    assert set(PRESETS["enrolment"]) <= set(LIMITS) and QualitySettings().limits == {}


def test_a_run_gets_its_columns_and_keeps_all_others(plain: Path, flagged: Path) -> None:
    before, after = table(plain, "faces"), table(flagged, "faces")
    staged = [field.name for field in after.schema if stage_of(field) == "quality"]
    assert staged == [column.name for column in Quality.face_columns]
    assert after.select(before.column_names).equals(before)
    kept = [name for name in table(plain, "images").column_names if name not in TIMES]
    assert table(flagged, "images").select(kept).equals(table(plain, "images").select(kept))
    scores = [name for name in staged if name.endswith("_score")]
    for name in scores:
        assert all(0 <= value <= 100 for value in after[name].drop_null().to_pylist()), name
    assert after["learned_quality"].null_count == after.num_rows


def test_dark_faces_are_marked(flagged: Path) -> None:
    for row in table(flagged, "faces").to_pylist():
        is_dark = row["ofiq_like_luminance_mean_score"] < 50
        assert row["quality_flags"] == ("min_scores.ofiq_like_luminance_mean" if is_dark else None)


def test_rejected_faces_are_held_back_with_their_measure(home: Frozen, flagged: Path, tmp_path: Path) -> None:
    values = np.abs(table(flagged, "faces")["pose_yaw_deg"].to_numpy())
    limit = float(np.median(values))
    out = tmp_path / "out"
    enrolled(home / "photos.csv", out, "quality.policy=reject", f"quality.max_yaw_deg={limit}")
    held = table(out, "held").to_pylist()
    assert len(held) == int((values.astype(np.float64) > limit).sum()) > 0
    assert len(held) + table(out, "faces").num_rows == len(values)
    for row in held:
        assert (row["held_reason"], row["held_measure"], row["held_limit"]) == (
            "turned_too_far",
            "pose_yaw_deg",
            pytest.approx(limit),
        )
        assert row["held_value"] == pytest.approx(abs(row["pose_yaw_deg"]), abs=1e-4)
    assert table(out, "faces")["quality_flags"].null_count == table(out, "faces").num_rows


def test_the_quality_of_a_gallery_is_what_it_was(plain: Path, flagged: Path, tmp_path: Path) -> None:
    """The older `quality` of 0 to 1 does not depend on the stage, whose columns no gallery takes."""
    found = []
    for name, out in (("plain", plain), ("flagged", flagged)):
        gallery = str(tmp_path / name)
        Consolidation(str(out), gallery).run()
        found.append(pa.concat_tables(Gallery.open(gallery).snapshot().tables()))
    names = [name for name in found[0].column_names if name != "enrolled_at"]
    assert found[0].column_names == found[1].column_names
    assert found[0].select(names).equals(found[1].select(names))
    assert all(0 <= value <= 1 for value in found[1]["quality"].to_pylist())


def test_a_dry_run_says_what_it_measures_and_what_it_lacks(home: Frozen, tmp_path: Path) -> None:
    described = dry_run(home / "photos.csv", tmp_path / "out", "quality.preset=enrolment")
    text = described.text()
    assert "stages    quality 1 (model: none, pose_model: none)" in text
    assert described.as_dict()["stages"] == {"quality": 1}


def test_weights_that_are_not_here_are_named_with_where_they_come_from(home: Frozen) -> None:
    with pytest.raises(ModelMissing) as caught:
        Models.of(config("quality.model=lightqnet_dm100"))
        dry_run(home / "photos.csv", home.root / "nowhere", "quality.model=lightqnet_dm100")
    assert "lightqnet" in f"{caught.value.message} {caught.value.remedy}"


def test_what_cannot_be_assessed_is_null_with_its_cause() -> None:
    located = located_faces(crops())
    located.faces_detected, located.format, located.bytes = 5, "PNG", 9000
    rows = run(located, max_yaw_deg=90, min_scores={"single_face": 10}).to_pylist()
    for row in rows:
        assert row["second_face_share"] is row["single_face_score"] is row["ofiq_like_compression"] is None
        assert row["quality_failures"] == "single_face: other_faces_unknown; ofiq_like_compression: no_jpeg"
        assert row["quality_flags"] == "min_scores.single_face"  # what was not seen to be good is not let in
        assert row["quality_score"] > 0
    located.faces_detected, located.format = 3, "JPEG"
    rows = run(located).to_pylist()
    assert {row["quality_failures"] for row in rows} == {None}
    assert rows[0]["ofiq_like_compression"] == pytest.approx(8 * 9000 / (640 * 480))
    assert rows[0]["second_face_share"] == pytest.approx(1)


def test_recipes_of_a_single_look_are_measured_too() -> None:
    """Their images have neither turns nor faces refused."""
    rows = run(located_faces(crops()), version=1).to_pylist()
    assert [row["pose_yaw_score"] for row in rows] == [
        run(located_faces(crops())).to_pylist()[0]["pose_yaw_score"]
    ] * 3


def test_a_photo_on_its_side_has_the_borders_of_the_upright_one() -> None:
    upright, lying = located_faces(crops(1)), located_faces(crops(1))
    points = upright.faces.points.astype(np.float64)
    # Stored turned by 90 degrees counter-clockwise: what is right in the upright photo is up in it.
    turned = np.stack([points[..., 1], 639 - points[..., 0]], axis=-1)
    lying.faces.points[:] = turned
    lying.width, lying.height, lying.turn_deg = 480, 640, 90
    one, other = (run(each).to_pylist()[0] for each in (upright, lying))
    for name in ("crop_left_eyes", "crop_right_eyes"):
        assert other[name] == pytest.approx(one[name], abs=1e-3)
    assert other["pose_yaw_deg"] == pytest.approx(one["pose_yaw_deg"], abs=1e-3)
    assert other["pose_roll_deg"] == pytest.approx(one["pose_roll_deg"] - 90, abs=1e-3)


def test_a_face_turned_away_is_flagged_by_its_yaw() -> None:
    located = located_faces(crops(2))
    for index, yaw in enumerate((10, -50)):
        located.faces.points[index] = 40 * (HEAD @ rotation_of(yaw, 0, 0).T)[:, :2] + 200
    rows = run(located, preset="enrolment", min_quality=0).to_pylist()
    assert [row["pose_yaw_deg"] for row in rows] == pytest.approx([10, -50], abs=0.01)
    assert [row["quality_flags"] for row in rows] == [None, "max_yaw_deg"]


def test_a_face_at_its_limit_as_it_is_written_meets_it() -> None:
    for yaw in range(5, 35):
        located = located_faces(crops(1))
        located.faces.points[0] = 40 * (HEAD @ rotation_of(yaw + 0.1, 0, 0).T)[:, :2] + 200
        written = run(located)["pose_yaw_deg"][0].as_py()
        assert run(located, max_yaw_deg=written)["quality_flags"].to_pylist() == [None]


def test_a_photo_alone_is_rejected_as_in_a_run() -> None:
    located = located_faces(crops(1))
    StageChain([Quality(QualitySettings(policy="reject", min_inter_eye_px=500), {})]).apply(located)
    assert (located.status, located.reason, len(located.faces)) == ("rejected", "eyes_too_close", 0)


def test_the_page_shows_what_the_stage_declares() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/quality.md").read_text(encoding="utf-8")
    assert stage_tables(stage_class("quality")) in page, "run: python tests/unit/test_docs.py"


def test_every_null_has_a_cause() -> None:
    """Whatever the points are."""
    located = located_faces(crops(3))
    located.faces.points[0] = 7
    part = tabulate(0, plan_of(1), [located], [1], "all")
    part.crops.flags.writeable = False
    result = Quality(QualitySettings(), {}).process(FaceBatch(part.crops, part.faces, part.images))
    rows = pa.table({name: pa.array(values) for name, values in result.faces.items()}).to_pylist()
    raw = [name for name in rows[0] if f"{name}_score" not in rows[0] and name.endswith("_score")]
    for row in rows:
        nulls = {name.removesuffix("_score") for name in raw if row[name] is None and "learned" not in name}
        said = row["quality_failures"] or ""
        assert nulls == {each.split(":")[0] for each in said.split("; ") if each}
        assert "not_finite" not in said
