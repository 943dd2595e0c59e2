"""A stage of another package: found by its entry point, and with all that frpipe's own work has."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import installed
import numpy as np
import pyarrow.compute as pc
import pytest
import yaml
from frozen import Frozen, copied
from staged_runs import config, dry_run, enrolled, replayed, table

from frpipe.cli.main import main
from frpipe.core.config import load_config
from frpipe.core.errors import (
    ConfigError,
    GalleryMismatch,
    ManifestError,
    ModelError,
    ModelMissing,
    OutputError,
)
from frpipe.core.schema import stage_of
from frpipe.gallery.gallery import Gallery
from frpipe.io.storage.folder import Folder
from frpipe.jobs.check.job import Check, again
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.enroll.job import run_spec
from frpipe.jobs.face_pipeline import pipeline_of
from frpipe.stages.models import Models
from frpipe.stages.quarantine import trial
from frpipe.stages.stage import FaceBatch, StageResult, stage_class
from frpipe.stages.stage_docs import stage_tables
from frpipe.testing.kills import Killed, at_change, die
from frpipe.testing.tiny import tiny_embedder

ON = "stages.brightness={}"
TIMES = ("fetch_ms", "decode_ms", "detect_ms", "align_ms", "embed_ms", "brightness_ms")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    """The photos and models of the fixtures, and the example package."""
    place = tmp_path_factory.mktemp("stages")
    with copied(place / "frozen") as found, installed.example(place / "installed"):
        yield found


@pytest.fixture(scope="module")
def plain(home: Frozen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without the stage."""
    out = tmp_path_factory.mktemp("plain") / "out"
    enrolled(home / "photos.csv", out)
    return out


@pytest.fixture(scope="module")
def bright(home: Frozen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with it, which leaves no face out."""
    out = tmp_path_factory.mktemp("bright") / "out"
    enrolled(home / "photos.csv", out, ON)
    return out


@pytest.fixture(scope="module")
def least(bright: Path) -> float:
    """The brightness of the darkest photo with a face, and a little more."""
    return min(value for value in table(bright, "images")["brightest_face"].to_pylist() if value) + 0.01


def test_its_columns_stand_between_ours_and_the_manifests(plain: Path, bright: Path) -> None:
    for name, column in (("faces", "brightness"), ("images", "brightest_face")):
        before, after = table(plain, name), table(bright, name)
        staged = [field.name for field in after.schema if stage_of(field) == "brightness"]
        assert staged == ([column] if name == "faces" else [column, "brightness_ms"])
        assert [n for n in after.column_names if n not in staged] == before.column_names
        assert after.column_names.index(column) < after.column_names.index("department")
        kept = [n for n in before.column_names if n not in TIMES]
        assert after.select(kept).equals(before.select(kept))
    faces = table(bright, "faces").to_pylist()
    brightest: dict[str, float] = {}
    for face in faces:
        brightest[face["image_id"]] = max(brightest.get(face["image_id"], 0), face["brightness"])
    assert all(0 < face["brightness"] < 255 for face in faces)
    assert {
        row["image_id"]: row["brightest_face"] for row in table(bright, "images").to_pylist() if row["faces"]
    } == brightest


def test_its_settings_and_version_are_part_of_the_recipe_and_change_no_vector(home: Frozen) -> None:
    recipes = {
        name: Models.of(config(*settings)).recipe
        for name, settings in (("plain", ()), ("on", (ON,)), ("least", ("stages.brightness.least=9",)))
    }
    assert "stages" not in recipes["plain"].as_dict() and "stages" not in recipes["plain"].settings
    assert recipes["on"].settings["stages"] == {"brightness": {"least": 0.0}}
    assert recipes["on"].stages["brightness"]["version"] == 1
    assert len({each.metadata()["frpipe.recipe_hash"] for each in recipes.values()}) == 3
    assert len({each.preprocessing_hash for each in recipes.values()}) == 1


def test_a_package_that_brings_a_stage_of_our_name_is_refused(home: Frozen, tmp_path: Path) -> None:
    point = {"frpipe.stages": {"quality": "frpipe_example.brightness:Brightness"}}
    with installed.registered(tmp_path, point, "other"), pytest.raises(ConfigError, match="frpipe, other"):
        load_config(None, ["stages.quality={}"])


@pytest.mark.parametrize(
    ("setting", "message", "remedy"),
    [
        ("stages.brightness.lest=3", "stages.brightness.lest", "stages.brightness.least"),
        ("stages.brightness.least=300", "stages.brightness.least", "types and ranges"),
        ("stages.brightness=3", "stages.brightness", ""),
        ("stages.brightnes={}", "brightnes", "did you mean brightness"),
        ("stages=brightness", "stages", ""),
        ("run.max_reject_ratio_by_reason.too_drak=0.1", "too_dark", ""),
    ],
)
def test_what_is_wrong_with_its_settings_is_one_clear_error(
    home: Frozen, setting: str, message: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, [ON, setting])
    assert message in caught.value.message and remedy in caught.value.remedy
    assert "\n" not in caught.value.message and caught.value.remedy


def test_its_settings_come_from_a_file_too(home: Frozen, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("stages:\n  brightness:\n")
    found = load_config(tmp_path / "c.yaml", ["run.max_reject_ratio_by_reason.too_dark=0.1"])
    assert found.stages == {"brightness": {"least": 0.0}} and {found: 1}[found] == 1
    assert load_config(None, ["stages.brightness.least=7"]).stages["brightness"]["least"] == 7


def test_faces_that_it_leaves_out_are_counted_and_shown(
    home: Frozen, bright: Path, least: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    report = enrolled(home / "photos.csv", out, f"stages.brightness.least={least}")
    before = {row["image_id"]: row for row in table(bright, "images").to_pylist()}
    for row in table(out, "images").to_pylist():
        dark = before[row["image_id"]]["brightest_face"] is not None and (
            before[row["image_id"]]["brightest_face"] < least
        )
        assert (row["reason"] == "too_dark") == dark
        if dark:
            assert (row["status"], row["faces"], row["brightest_face"]) == (
                "rejected",
                0,
                before[row["image_id"]]["brightest_face"],
            )
            assert row["detail"].endswith("of 1 faces") and row["embed_ms"] is None
    kept = [row for row in table(bright, "faces").to_pylist() if row["brightness"] >= least]
    assert table(out, "faces").to_pylist() == kept
    assert report.rows == report.ok + report.no_face + report.rejected == len(before)
    assert report.reasons["too_dark"] >= 1 and report.faces == len(kept)
    assert report.stages["brightness"]["rows"] >= report.ok
    assert main(["rejects", str(out), "--reason", "too_dark"]) == 0
    assert ["too_dark", "brightness"] in [line.split()[:2] for line in capsys.readouterr().out.splitlines()]


def test_a_photo_that_keeps_a_face_says_what_it_has_lost(home: Frozen, bright: Path, tmp_path: Path) -> None:
    two = sorted(
        row["brightness"] for row in table(bright, "faces").to_pylist() if row["image_id"] == _of_two(bright)
    )
    enrolled(home / "photos.csv", tmp_path / "out", f"stages.brightness.least={two[0] + 0.01}")
    rows = {row["image_id"]: row for row in table(tmp_path / "out", "images").to_pylist()}
    row = rows[_of_two(bright)]
    assert (row["status"], row["faces"]) == ("ok", 1)
    assert row["detail"] == "1 of 2 faces left out: 1 too dark"
    faces = [f for f in table(tmp_path / "out", "faces").to_pylist() if f["image_id"] == _of_two(bright)]
    assert [face["brightness"] for face in faces] == [two[1]]


def test_a_replay_does_what_it_rejected_again_and_is_a_whole_run(
    home: Frozen, least: float, tmp_path: Path
) -> None:
    manifest = tmp_path / "photos.csv"
    shutil.copytree(home / "photos", tmp_path / "photos")
    manifest.write_text((home / "photos.csv").read_text())
    out, again_ = tmp_path / "out", tmp_path / "again"
    enrolled(manifest, out, f"stages.brightness.least={least}")
    for photo in (home / "mended").iterdir():
        shutil.copy(photo, tmp_path / "photos" / photo.name)
    report = replayed(out, again_)
    assert report.reasons.get("too_dark", 0) >= 1
    before, after = table(out, "images"), table(again_, "images")
    assert after.schema.equals(before.schema) and after.num_rows == before.num_rows
    assert table(again_, "faces").num_rows > table(out, "faces").num_rows
    assert all(value is not None for value in table(again_, "faces")["brightness"].to_pylist())
    tried = {row["image_id"]: row["attempts"] for row in after.to_pylist()}
    dark = [row["image_id"] for row in before.to_pylist() if row["reason"] == "too_dark"]
    assert all(tried[name] == 2 for name in dark)
    with pytest.raises(OutputError, match=r"stages\.brightness\.least"):
        replayed(out, tmp_path / "other", "stages.brightness.least=0")


def test_killed_at_any_moment_it_goes_on_and_comes_out_the_same(
    home: Frozen, bright: Path, tmp_path: Path
) -> None:
    with at_change(None, die) as changes:
        enrolled(home / "photos.csv", tmp_path / "whole", ON)
    for moment in range(2, changes[0] + 1, 8):
        out = tmp_path / f"killed-{moment}"
        with pytest.raises(Killed), at_change(moment, die):
            enrolled(home / "photos.csv", out, ON)
        enrolled(home / "photos.csv", out, ON)
        for name in ("images", "faces"):
            names = [n for n in table(bright, name).column_names if n not in (*TIMES, "attempts")]
            assert table(out, name).select(names).equals(table(bright, name).select(names)), moment
        assert all(found.whole for found in Check(str(out)).run())


def test_a_run_goes_on_with_the_stage_that_it_was_begun_with_alone(
    home: Frozen, bright: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(bright, out)
    for settings in ((), ("stages.brightness.least=1",)):
        with pytest.raises(OutputError, match="stages"):
            enrolled(home / "photos.csv", out, *settings)
    monkeypatch.setattr(stage_class("brightness"), "version", 2)
    with pytest.raises(OutputError, match="version was 1, is 2"):
        enrolled(home / "photos.csv", out, ON)


def test_where_it_is_not_installed_the_remedy_is_named(home: Frozen, bright: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sys, "path", [p for p in sys.path if "installed" not in p and "plugin_package" not in p]
        )
        with pytest.raises(ConfigError) as caught:
            config(ON)
        assert "brightness" in caught.value.message and "install the package" in caught.value.remedy
        # What only reads its output needs no package.
        assert all(found.whole for found in Check(str(bright)).run())
        assert main(["rejects", str(bright)]) == 0


def test_two_packages_with_a_stage_of_one_name_are_refused(
    home: Frozen, bright: Path, tmp_path: Path
) -> None:
    points = {"frpipe.stages": {"brightness": "some_package.stages:Brightness"}}
    with installed.registered(tmp_path / "other", points), pytest.raises(ConfigError) as raised:
        load_config(None, [ON])
    assert "some-package" in raised.value.message
    assert "uninstall all but one" in raised.value.remedy


def test_the_command_that_does_it_again_names_it(bright: Path) -> None:
    assert "--set 'stages.brightness.least=0.0'" in again(Folder.at(str(bright)), "enroll").replace(
        "--set stages.brightness.least=0.0", "--set 'stages.brightness.least=0.0'"
    )


def test_a_column_of_the_manifest_with_its_name_is_refused(home: Frozen, tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"image_uri,brightness\n{home / 'photos/anna-1.png'},5\n")
    with pytest.raises(ManifestError, match="brightness"):
        enrolled(manifest, tmp_path / "out", ON)
    assert enrolled(manifest, tmp_path / "out").faces == 1


def test_its_columns_are_no_attributes_of_people(bright: Path, tmp_path: Path) -> None:
    Consolidation(str(bright), str(tmp_path / "gallery")).run()
    tables = list(Gallery.open(str(tmp_path / "gallery")).snapshot().tables())
    names = {name for each in tables for name in each.column_names}
    assert "department" in names and not {"brightness", "brightest_face"} & names


def test_the_page_shows_its_tables(home: Frozen) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/stages.md").read_text(encoding="utf-8")
    assert stage_tables(stage_class("brightness")) in page


@pytest.mark.parametrize("stage", ["brightness", "face_processing"])
def test_the_page_shows_its_code(stage: str) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/stages.md").read_text(encoding="utf-8")
    code = (installed.EXAMPLE / f"frpipe_example/{stage}.py").read_text(encoding="utf-8")
    assert code.strip() in page


def test_run_json_says_what_it_was(bright: Path) -> None:
    recipe = json.loads((bright / "run.json").read_text())["identity"]["recipe"]
    assert recipe["stages"] == {
        "brightness": {"version": 1, "models": {}, "reasons": ["too_dark"], "changes_vectors": False}
    }
    assert recipe["settings"]["stages"] == {"brightness": {"least": 0.0}}


def _of_two(out: Path) -> str:
    rows = table(out, "images").to_pylist()
    return next(str(row["image_id"]) for row in rows if row["faces"] == 2)


def test_a_model_of_a_stage_is_a_card_of_its_role(home: Frozen, tmp_path: Path) -> None:
    card = tiny_embedder(home / "models/tiny_quality.onnx", dim=1, seed=5)
    facts = {"name": "tiny_quality", "role": "quality", "embedder": None}
    facts = {**card.model_dump(mode="json"), **facts}
    (home / "cards/tiny_quality.yaml").write_text(yaml.safe_dump(facts))
    (tmp_path / "quality_stage.py").write_text(QUALITY)
    point = {"frpipe.stages": {"usability": "quality_stage:Quality"}}
    with installed.registered(tmp_path / "installed", point, "quality", tmp_path):
        spec = run_spec(config("stages.usability={}", ON), str(tmp_path / "out"))
        assert "tiny_quality" in {each.name for each in spec.models_of("locate")}
        assert "tiny_quality" not in {each.name for each in spec.models_of("embed")}
        assert spec.named["usability model"].sha256 == card.sha256
        assert spec.recipe.stages["usability"]["models"]["model"]["sha256"] == card.sha256
        report = enrolled(home / "photos.csv", tmp_path / "out", "stages.usability={}", ON)
        assert report.models["usability model"].startswith("tiny_quality")
        faces = table(tmp_path / "out", "faces")
        assert faces["quality"].null_count == 0 and len(set(faces["quality"].to_pylist())) > 3
        with pytest.raises(ModelError, match="role embedder, not quality"):
            config_ = config("stages.usability.model=tiny_embedder")
            Models.of(config_)
        (home / "models/tiny_quality.onnx").unlink()
        with pytest.raises(ModelMissing):
            run_spec(config("stages.usability={}"), str(tmp_path / "out"))


def test_a_stage_that_changes_crops_changes_vectors_and_their_hash(
    home: Frozen, plain: Path, tmp_path: Path
) -> None:
    (tmp_path / "lighten_stage.py").write_text(LIGHTEN)
    point = {"frpipe.stages": {"lighten": "lighten_stage:Lighten"}}
    with installed.registered(tmp_path / "installed", point, "lighten", tmp_path):
        recipes = [
            Models.of(config(*settings)).recipe
            for settings in ((), ("stages.lighten={}",), ("stages.lighten.by=9",), ("stages.lighten={}", ON))
        ]
        hashes = [recipe.preprocessing_hash for recipe in recipes]
        assert len(set(hashes[:3])) == 3 and hashes[3] == hashes[1]
        enrolled(home / "photos.csv", tmp_path / "out", "stages.lighten={}")
        photo = home / "photos/anna-1.png"
        single = pipeline_of(config("stages.lighten={}"))
        vector = single.embed(single.locate([photo])[0].crops)[0]
    before, after = table(plain, "faces"), table(tmp_path / "out", "faces")
    assert before["face_id"].equals(after["face_id"]) and not before["embedding"].equals(after["embedding"])
    assert set(after["preprocessing_hash"].to_pylist()) == {hashes[1]}
    own = after.filter(pc.equal(after["face_id"], "r-01#0"))["embedding"][0].as_py()
    np.testing.assert_allclose(vector / np.linalg.norm(vector), own, atol=1e-5)


def test_face_processing_is_the_identity_until_a_configuration_names_it(
    home: Frozen, plain: Path, tmp_path: Path
) -> None:
    """Its output and a gallery of unprocessed faces do not go together."""
    assert not Models.of(config()).recipe.stages
    enrolled(home / "photos.csv", tmp_path / "out", "stages.face_processing.clip=8")
    before, after = table(plain, "faces"), table(tmp_path / "out", "faces")
    assert before["face_id"].equals(after["face_id"]) and not before["embedding"].equals(after["embedding"])
    Consolidation(str(plain), str(tmp_path / "gallery")).run()
    with pytest.raises(GalleryMismatch, match="preprocessing"):
        Consolidation(str(tmp_path / "out"), str(tmp_path / "gallery")).run()


def test_the_search_for_photos_that_kill_runs_the_stages_too(
    home: Frozen, bright: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo that makes a stage die is in hand when it does."""
    spec = run_spec(config(ON), str(bright))
    rows = [row for row, faces in enumerate(table(bright, "images")["faces"].to_pylist()[:4]) if faces]

    def dies(_: object, batch: FaceBatch) -> StageResult:
        raise MemoryError

    monkeypatch.setattr(stage_class("brightness"), "process", dies)
    for name in ("_limit_memory", "_warm_up"):
        monkeypatch.setattr(trial, name, lambda *_: None)
    for alone in (True, False):
        said: list[str] = []
        order = {"spec": spec.model_dump(mode="json"), "part": 0, "rows": rows, "alone": alone}
        with pytest.raises(MemoryError):
            trial.try_photos(order, said.append)
        assert f"taken {rows[0]}" in said and f"done {rows[0]}" not in said


def test_single_photos_go_through_the_stages_too(home: Frozen) -> None:
    """Else a face that a run leaves out would be verified and identified."""
    photo = home / "photos/anna-1.png"
    for least, ended in ((0, ("ok", None, 1)), (255, ("rejected", "too_dark", 0))):
        located = pipeline_of(config(f"stages.brightness.least={least}")).locate([photo])[0]
        assert (located.status, located.reason, len(located.faces)) == ended


def test_the_plan_names_the_stages(home: Frozen, tmp_path: Path) -> None:
    plan = dry_run(home / "photos.csv", tmp_path / "out", "stages.brightness.least=5")
    assert "stages    brightness 1" in plan.text()
    assert plan.as_dict()["stages"] == {"brightness": 1}
    assert "stages" not in dry_run(home / "photos.csv", tmp_path / "out").as_dict()


LIGHTEN = """
import numpy as np
from frpipe.stages.stage import FaceStage, Section, StageResult


class Settings(Section):
    by: int = 60


class Lighten(FaceStage):
    name, version, section, changes_vectors = "lighten", 1, Settings, True

    def process(self, batch):
        return StageResult(crops=np.maximum(batch.crops, self.settings.by).astype(np.uint8))
"""
QUALITY = """
from pyarrow import float32
from frpipe.core.config import Section
from frpipe.core.schema import Column
from frpipe.stages.stage import FaceStage, StageResult


class Settings(Section):
    model: str = "tiny_quality"


class Quality(FaceStage):
    name, version, section, roles = "usability", 1, Settings, {"model": "quality"}
    face_columns = (Column("quality", float32(), "how good it is"),)

    def process(self, batch):
        return StageResult({"quality": self.models["model"].run(batch.crops)[0][:, 0]})
"""
