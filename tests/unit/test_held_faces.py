"""Faces that a stage holds back: in files of their own, read where they are asked for, erased like others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import installed
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from frozen import Frozen, copied
from staged_runs import HERE, config, dry_run, enrolled, replayed, table

import frpipe
from frpipe.cli.main import main
from frpipe.compose import EmbedFaces
from frpipe.core.config import load_config
from frpipe.core.errors import ConfigError, FileDamaged, ManifestError, OutputError
from frpipe.core.night_config import NightConfig
from frpipe.gallery.gallery import Gallery
from frpipe.io.output.features import Features
from frpipe.io.output.parts import clear_orphans, create_part, write_part
from frpipe.io.storage.folder import Folder
from frpipe.jobs.check.job import Check
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.doctor.job import examine
from frpipe.jobs.enroll.job import Enrollment
from frpipe.jobs.erase.everywhere import EraseEverywhere
from frpipe.jobs.erase.job import Erase
from frpipe.jobs.erase.proof import ErasureError
from frpipe.jobs.face_pipeline import pipeline_of
from frpipe.jobs.features import FeatureRun, stored_settings
from frpipe.jobs.nightly.job import Night
from frpipe.jobs.rejects import Choice
from frpipe.jobs.replay.job import Replay, Rescan
from frpipe.jobs.rescan.affected import settings_to_look_again
from frpipe.jobs.verify.named_faces import FACE_NAMES as VERIFY_FACES
from frpipe.jobs.verify.named_faces import IMAGE_NAMES as VERIFY_IMAGES
from frpipe.jobs.verify.named_faces import NamedFaces
from frpipe.stages.models import Models
from frpipe.testing.kills import Killed, at_change, die

ON = "stages.dim={}"
COLUMNS = ["held_reason", "held_measure", "held_value", "held_limit"]
TIMES = ("fetch_ms", "decode_ms", "detect_ms", "align_ms", "embed_ms", "dim_ms")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    """The photos and models of the fixtures, and the example package."""
    place = tmp_path_factory.mktemp("held")
    with copied(place / "frozen") as found, installed.example(place / "installed"):
        yield found


@pytest.fixture(scope="module")
def open_gate(home: Frozen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose gate lets every face pass."""
    out = tmp_path_factory.mktemp("open") / "out"
    enrolled(home / "photos.csv", out, ON)
    return out


@pytest.fixture(scope="module")
def least(open_gate: Path) -> float:
    """Just above the dimmer face of the photo of two, so that it keeps one; others go whole."""
    greys = [f["grey"] for f in table(open_gate, "faces").to_pylist() if f["image_id"] == _of_two(open_gate)]
    return min(greys) + 0.01


@pytest.fixture(scope="module")
def held(home: Frozen, least: float, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose gate holds some faces back."""
    out = tmp_path_factory.mktemp("held") / "out"
    enrolled(home / "photos.csv", out, f"stages.dim.least={least}")
    return out


def _of_two(out: Path) -> str:
    rows = table(out, "images").to_pylist()
    return next(str(row["image_id"]) for row in rows if row["faces"] == 2)


def _rows(out: Path, name: str, *without: str) -> list[dict[str, Any]]:
    found = table(out, name)
    return found.select([n for n in found.column_names if n not in (*TIMES, *without)]).to_pylist()


def test_held_faces_stand_apart_with_all_columns_and_why(open_gate: Path, held: Path, least: float) -> None:
    every = _rows(open_gate, "faces")
    assert _rows(held, "faces") == [face for face in every if face["grey"] >= least]
    back = _rows(held, "held")
    dim = [face for face in every if face["grey"] < least]
    assert len(dim) > 1
    assert [{n: v for n, v in face.items() if n not in COLUMNS} for face in back] == dim
    assert {(f["held_reason"], f["held_measure"], f["held_limit"]) for f in back} == {
        ("too_dim", "grey", least)
    }
    assert [f["held_value"] for f in back] == [f["grey"] for f in back]
    assert table(held, "held").column_names == [*table(held, "faces").column_names, *COLUMNS]
    assert not any(table(held, "held").schema.field(name).nullable for name in COLUMNS)


def test_photos_say_how_many_are_held_and_end_by_what_is_left(
    open_gate: Path, held: Path, least: float
) -> None:
    before = {row["image_id"]: row for row in table(open_gate, "images").to_pylist()}
    greys: dict[str, list[float]] = {}
    for face in table(open_gate, "faces").to_pylist():
        greys.setdefault(face["image_id"], []).append(face["grey"])
    for row in table(held, "images").to_pylist():
        mine = greys.get(row["image_id"], [])
        back = sum(grey < least for grey in mine)
        assert row["faces"] == len(mine) - back and row["faces_held"] == (back if mine else None)
        if back and back == len(mine):
            assert (row["status"], row["reason"]) == ("rejected", "too_dim")
            assert row["detail"] == f"{back} of {back} faces, {back} held back"
        else:
            was = before[row["image_id"]]
            assert (row["status"], row["reason"]) == (was["status"], was["reason"])
    two = next(row for row in table(held, "images").to_pylist() if row["image_id"] == _of_two(open_gate))
    assert (two["faces"], two["faces_held"]) == (1, 1)
    assert two["detail"] == "1 of 2 faces held back: 1 too dim"


def test_the_report_and_the_list_of_files_count_them(open_gate: Path, held: Path) -> None:
    report = json.loads((held / "report.json").read_text())
    assert report["faces_held"] == table(held, "held").num_rows > 0
    assert report["faces"] + report["faces_held"] == table(open_gate, "faces").num_rows
    assert f"{report['faces_held']} faces are held back" in (held / "report.md").read_text()
    listed = {f["name"]: f["rows"] for f in json.loads((held / "files.json").read_text())["files"]}
    parts = [name for name in listed if name.startswith("images/")]
    assert parts and all(name.replace("images/", "held/") in listed for name in parts)
    assert sum(rows for name, rows in listed.items() if name.startswith("held/")) == report["faces_held"]
    assert json.loads((open_gate / "report.json").read_text())["faces_held"] == 0
    assert json.loads((held / "run.json").read_text())["identity"]["recipe"]["stages"]["dim"]["holds"] is True


def test_a_run_whose_stages_hold_nothing_is_as_it_was(home: Frozen, tmp_path: Path) -> None:
    enrolled(home / "photos.csv", tmp_path / "out", "stages.brightness={}")
    assert not (tmp_path / "out/held").exists()
    assert "faces_held" not in table(tmp_path / "out", "images").column_names
    assert "faces_held" not in json.loads((tmp_path / "out/report.json").read_text())
    recipe = json.loads((tmp_path / "out/run.json").read_text())["identity"]["recipe"]
    assert "holds" not in recipe["stages"]["brightness"]


def test_readers_never_give_held_faces_unless_they_are_asked_for(
    home: Frozen, open_gate: Path, tmp_path: Path
) -> None:
    greys = sorted(table(open_gate, "faces")["grey"].to_pylist())
    held = tmp_path / "out"
    enrolled(home / "photos.csv", held, f"stages.dim.least={greys[len(greys) // 2]}")
    written, back = table(held, "faces"), table(held, "held")
    assert frpipe.read_features(str(held))["face_id"].equals(written["face_id"])
    with pytest.raises(OutputError, match="held_value") as refused:
        frpipe.read_features(str(held), ["face_id", "held_value"])
    assert "held=True" in str(refused.value.remedy)
    asked = frpipe.read_features(str(held), ["face_id", "embedding", "held_value"], held=True)
    assert asked["face_id"].equals(back["face_id"]) and asked["held_value"].equals(back["held_value"])
    assert FeatureRun.open(str(held)).faces == written.num_rows
    Consolidation(str(held), str(tmp_path / "gallery")).run()
    tables = [*Gallery.open(str(tmp_path / "gallery")).snapshot().tables()]
    ids = {each for one in tables for each in one["face_id"].to_pylist()}
    assert ids and not ids & set(back["face_id"].to_pylist())
    names = {name for one in tables for name in one.column_names}
    assert not names & {*COLUMNS, "faces_held", "grey"}


def test_a_bystander_does_not_become_the_person_whose_face_is_held(
    home: Frozen, open_gate: Path, tmp_path: Path
) -> None:
    """Of the photo of two the face that is meant is held, whichever it is: no template, and no comparison."""
    photo = _of_two(open_gate)
    Consolidation(str(open_gate), str(tmp_path / "open")).run()
    tables = Gallery.open(str(tmp_path / "open")).snapshot().tables()
    ids = [face for each in tables for face in each["face_id"].to_pylist()]
    meant = next(face for face in ids if face.startswith(f"{photo}#"))
    faces = {f["face_id"]: f["grey"] for f in table(open_gate, "faces").to_pylist() if f["image_id"] == photo}
    (other,) = faces.keys() - {meant}
    gate = "dim" if faces[meant] < faces[other] else "glare"
    limit = (faces[meant] + faces[other]) / 2
    (tmp_path / "glare_stage.py").write_text(GLARE)
    point = {"frpipe.stages": {"glare": "glare_stage:Glare"}}
    setting = f"stages.dim.least={limit}" if gate == "dim" else f"stages.glare.most={limit}"
    with installed.registered(tmp_path / "installed", point, "glare", tmp_path):
        enrolled(home / "photos.csv", tmp_path / "out", setting)
    assert other in table(tmp_path / "out", "faces")["face_id"].to_pylist()
    assert meant in table(tmp_path / "out", "held")["face_id"].to_pylist()
    marks = {
        f["face_id"]: f["is_subject"] for name in ("faces", "held") for f in _rows(tmp_path / "out", name)
    }
    assert (marks[meant], marks[other]) == (True, False)
    done = Consolidation(str(tmp_path / "out"), str(tmp_path / "gallery")).run()
    tables = Gallery.open(str(tmp_path / "gallery")).snapshot().tables()
    assert other not in [face for each in tables for face in each["face_id"].to_pylist()]
    assert done.left_out["held_face"] >= 1
    features = FeatureRun.open(str(tmp_path / "out")).features
    names = NamedFaces({photo: 0, other: 1}, 32, "centre-largest")
    for images, found in features.tables(VERIFY_IMAGES, VERIFY_FACES):
        names.add(images, found)
    assert names.reasons(np.array([0, 1])).to_pylist() == ["held_face", None]


def test_reading_held_faces_of_a_run_that_has_none_is_a_clear_error(home: Frozen, tmp_path: Path) -> None:
    enrolled(home / "photos.csv", tmp_path / "out")
    with pytest.raises(OutputError, match=r"no stage of .* holds faces back"):
        frpipe.read_features(str(tmp_path / "out"), held=True)


def test_single_photos_and_batches_leave_held_faces_out(home: Frozen) -> None:
    photo = home / "photos/anna-1.png"
    for most, ended in ((0, ("ok", None, 1)), (255, ("rejected", "too_dim", 0))):
        located = pipeline_of(config(f"stages.dim.least={most}")).locate([photo])[0]
        assert (located.status, located.reason, len(located.crops)) == ended
        assert len(located.faces) == len(located.candidates) == len(located.sharpness) == ended[2]
        rows = EmbedFaces(config(f"stages.dim.least={most}"))(pa.table({"bytes": [photo.read_bytes()]}))
        assert rows["status"].to_pylist() == [ended[0]] and rows["face_index"].null_count == (most > 0)
        assert not {*COLUMNS} & {*rows.column_names}


def test_further_embedders_have_the_written_faces_alone(home: Frozen, least: float, tmp_path: Path) -> None:
    second = "embed=[{model: tiny_embedder}, {model: tiny_second}]"
    if "tiny_second" not in {path.stem for path in (home / "cards").iterdir()}:
        _second_card(home)
    enrolled(home / "photos.csv", tmp_path / "out", f"stages.dim.least={least}", second)
    beside = table(tmp_path / "out", "embeddings/tiny_second")
    assert beside["face_id"].equals(table(tmp_path / "out", "faces")["face_id"])
    assert table(tmp_path / "out", "held").num_rows
    assert not [n for n in table(tmp_path / "out", "held").column_names if "/" in n]
    report = replayed(tmp_path / "out", tmp_path / "again", "stages.dim.least=0")
    assert report.faces_held == 0 and report.faces == table(tmp_path / "again", "faces").num_rows
    beside = table(tmp_path / "again", "embeddings/tiny_second")
    assert beside["face_id"].equals(table(tmp_path / "again", "faces")["face_id"])


def _second_card(home: Frozen) -> None:
    import yaml

    from frpipe.testing.tiny import tiny_embedder

    card = tiny_embedder(home / "models/tiny_second.onnx", dim=32, seed=9)
    facts = {**card.model_dump(mode="json"), "name": "tiny_second"}
    (home / "cards/tiny_second.yaml").write_text(yaml.safe_dump(facts))


def test_killed_at_any_moment_it_goes_on_and_comes_out_the_same(
    home: Frozen, held: Path, least: float, tmp_path: Path
) -> None:
    setting = f"stages.dim.least={least}"
    with at_change(None, die) as changes:
        enrolled(home / "photos.csv", tmp_path / "whole", setting)
    for moment in range(2, changes[0] + 1, 5):
        out = tmp_path / f"killed-{moment}"
        with pytest.raises(Killed), at_change(moment, die):
            enrolled(home / "photos.csv", out, setting)
        enrolled(home / "photos.csv", out, setting)
        for name in ("images", "faces", "held"):
            assert _rows(out, name, "attempts") == _rows(held, name, "attempts"), moment
        assert all(found.whole for found in Check(str(out)).run())


def test_a_late_attempt_changes_nothing(held: Path, tmp_path: Path) -> None:
    """Of data that another attempt has published none is overwritten, and none is taken for its own."""
    shutil.copytree(held, tmp_path / "out")
    out = Folder.at(str(tmp_path / "out"))
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    images, faces, back = (
        pq.read_table(held / f"{t}/part-000000.parquet") for t in ("images", "faces", "held")
    )
    assert not write_part(out, 0, images, faces, {}, held=back)
    out.delete("images/part-000000.parquet")
    # Its own faces are there, and held ones of somebody else.
    assert not create_part(out, 0, b"images", {"held": b"other", "faces": b"other"})
    assert not out.exists("images/part-000000.parquet")
    clear_orphans(out)
    assert not out.exists("held/part-000000.parquet") and not out.exists("faces/part-000000.parquet")
    after = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert after.items() <= before.items() and len(before) - len(after) == 3


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("harm", ["gone", "other", "of another part"])
def test_a_damaged_file_is_found_and_done_again(
    home: Frozen, held: Path, least: float, tmp_path: Path, harm: str, finished: bool
) -> None:
    out = tmp_path / "out"
    shutil.copytree(held, out)
    name = next(n for n in sorted((out / "held").iterdir()) if pq.read_metadata(n).num_rows)
    if harm == "gone":
        name.unlink()
    else:
        other = next(n for n in sorted((out / "held").iterdir()) if n != name)
        name.write_bytes(other.read_bytes() if harm == "of another part" else b"nothing")
    if not finished:
        (out / "_SUCCESS").unlink()
    (checked,) = Check(str(out), mend=True).run()
    assert [each.file for each in checked.problems] == [f"held/{name.name}"]
    if not finished:
        with pytest.raises((FileDamaged, OutputError)):
            Features(Folder.at(str(out)), held=True).faces(int(name.stem[-6:]))
    enrolled(home / "photos.csv", out, f"stages.dim.least={least}")
    assert _rows(out, "held", "attempts") == _rows(held, "held", "attempts")
    assert Check(str(out)).run()[0].whole


def test_a_replay_after_the_gate_is_loosened_brings_them_in(
    home: Frozen, open_gate: Path, held: Path, least: float, tmp_path: Path
) -> None:
    """Also those of photos that have kept another face; all comes out as if the gate had been open."""
    report = replayed(held, tmp_path / "again", "stages.dim.least=0")
    assert report.faces_held == 0 and "too_dim" not in report.reasons
    for name in ("images", "faces", "held"):
        assert _rows(tmp_path / "again", name, "attempts") == _rows(open_gate, name, "attempts")
    tried = {row["image_id"]: row["attempts"] for row in table(tmp_path / "again", "images").to_pylist()}
    back = set(table(held, "held")["image_id"].to_pylist())
    assert _of_two(open_gate) in back and all(tried[name] == 2 for name in back)
    record = json.loads((tmp_path / "again/report.json").read_text())["replays"][0]
    assert record["settings"] == {"stages.dim.least": 0.0}
    assert Check(str(tmp_path / "again")).run()[0].whole


def test_a_replay_after_the_gate_is_tightened_judges_accepted_photos_too(
    open_gate: Path, held: Path, least: float, tmp_path: Path
) -> None:
    """All comes out as if the gate had been so from the first."""
    replayed(open_gate, tmp_path / "again", f"stages.dim.least={least}")
    for name in ("images", "faces", "held"):
        assert _rows(tmp_path / "again", name, "attempts") == _rows(held, name, "attempts")
    assert Check(str(tmp_path / "again")).run()[0].whole


def test_a_replay_with_the_gate_of_the_first_run_judges_what_a_replay_since_has_let_in(
    held: Path, least: float, tmp_path: Path
) -> None:
    """The recipe is that of the first run, so that nothing in it changes."""
    replayed(held, tmp_path / "open", "stages.dim.least=0")
    replayed(tmp_path / "open", tmp_path / "again", f"stages.dim.least={least}")
    for name in ("images", "faces", "held"):
        assert _rows(tmp_path / "again", name, "attempts") == _rows(held, name, "attempts")
    record = json.loads((tmp_path / "again/report.json").read_text())["replays"][-1]
    assert (record["settings"], record["choice"]) == ({}, "any reason, or judged otherwise by dim")


def test_a_replay_for_named_reasons_says_how_many_accepted_photos_stay_as_they_were(
    open_gate: Path, least: float, tmp_path: Path
) -> None:
    said: list[str] = []
    given = load_config(None, [*stored_settings(str(open_gate)), f"stages.dim.least={least}"])
    job = Replay(str(open_gate), Choice.again(["corrupt"]), str(tmp_path / "again"), given, HERE, said.append)
    with pytest.raises(ConfigError, match="nothing to do again"):
        job.dry_run()
    ok = sum(row["faces"] > 0 for row in table(open_gate, "images").to_pylist())
    assert any(f"{ok} photos were accepted with other gates" in line for line in said)


def test_a_replay_for_another_reason_carries_held_faces_over(
    home: Frozen, held: Path, least: float, tmp_path: Path
) -> None:
    out, photos = tmp_path / "out", tmp_path / "photos"
    shutil.copytree(home / "photos", photos)
    manifest = tmp_path / "photos.csv"
    manifest.write_text((home / "photos.csv").read_text())
    enrolled(manifest, out, f"stages.dim.least={least}")
    for photo in (home / "mended").iterdir():
        shutil.copy(photo, photos / photo.name)
    causes = set(table(out, "images")["reason"].drop_null().to_pylist()) - {"too_dim"}
    given = load_config(None, stored_settings(str(out)))
    again = Replay(str(out), Choice.again(sorted(causes)), str(tmp_path / "again"), given, HERE).run()
    before, after = _rows(out, "held"), _rows(tmp_path / "again", "held")
    assert [face for face in after if face in before] == before
    assert again.faces + (again.faces_held or 0) > table(out, "faces").num_rows + len(before)
    tried = {row["image_id"]: row["attempts"] for row in table(tmp_path / "again", "images").to_pylist()}
    assert {tried[face["image_id"]] for face in before} == {1}
    assert Check(str(tmp_path / "again")).run()[0].whole


def test_a_replay_that_is_killed_at_any_moment_goes_on(held: Path, tmp_path: Path) -> None:
    with at_change(None, die) as changes:
        replayed(held, tmp_path / "whole", "stages.dim.least=0")
    for moment in range(3, changes[0] + 1, 11):
        out = tmp_path / f"killed-{moment}"
        with pytest.raises(Killed), at_change(moment, die):
            replayed(held, out, "stages.dim.least=0")
        replayed(held, out, "stages.dim.least=0")
        for name in ("images", "faces", "held"):
            assert _rows(out, name, "attempts") == _rows(tmp_path / "whole", name, "attempts"), moment


def test_a_rescan_looks_again_at_photos_with_held_faces_and_carries_the_others(
    home: Frozen, open_gate: Path, tmp_path: Path
) -> None:
    """It comes out as if the photos had been looked at twice from the first."""
    greys = sorted(table(open_gate, "faces")["grey"].to_pylist())
    gate = f"stages.dim.least={greys[len(greys) // 2]}"
    out, again = tmp_path / "out", tmp_path / "again"
    Enrollment(str(home / "photos.csv"), str(out), config(gate).single_look(), HERE).run()
    assert table(out, "held").num_rows and "turn_deg" not in table(out, "images").column_names
    settings = [*settings_to_look_again(str(out)), "detect.not_photographs=keep"]
    given = load_config(None, settings)
    report = Replay(str(out), Rescan(), str(again), given, HERE).run()
    assert report.faces_held == table(again, "held").num_rows
    Enrollment(str(home / "photos.csv"), str(tmp_path / "anew"), given, HERE).run()
    for name in ("faces", "held"):
        ids = [table(each, name)["face_id"].to_pylist() for each in (again, tmp_path / "anew")]
        assert ids[0] == ids[1], name
    assert table(again, "held").schema.names == table(tmp_path / "anew", "held").schema.names
    assert Check(str(again)).run()[0].whole


def test_what_a_replay_may_not_change_it_refuses_still(held: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="flip"):
        replayed(held, tmp_path / "again", "stages.dim.least=0", "embed.flip=true")


def test_an_erasure_takes_held_faces_out_and_proves_it(held: Path, tmp_path: Path) -> None:
    """Of a person all of whose faces are held: no vector of theirs is left in any byte."""
    out = tmp_path / "out"
    shutil.copytree(held, out)
    back, images = table(out, "held").to_pylist(), table(out, "images").to_pylist()
    rejected = {row["image_id"] for row in images if row["reason"] == "too_dim"}
    face = next(f for f in back if f["image_id"] in rejected and f["subject_id"])
    theirs = [f for f in back if f["subject_id"] == face["subject_id"]]
    vectors = [np.array(each["embedding"], np.float32).tobytes() for each in theirs]
    assert any(vectors[0] in path.read_bytes() for path in out.rglob("*.parquet"))
    written = pc.sum(pc.equal(table(out, "faces")["subject_id"], face["subject_id"])).as_py() or 0
    done = Erase(str(out), frozenset({face["subject_id"]}), frozenset(), copies="keep").run()
    assert done.faces == len(theirs) + written and done.searched.others == 0
    data = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert not any(vector in data for vector in vectors)
    assert face["subject_id"] not in table(out, "held")["subject_id"].to_pylist()
    assert Check(str(out)).run()[0].whole
    report = json.loads((out / "report.json").read_text())
    assert report["faces_held"] == table(out, "held").num_rows == len(back) - len(theirs)


def test_an_erasure_that_forgot_them_would_fail_its_proof(
    held: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(held, out)
    face = table(out, "held").to_pylist()[0]
    copy = tmp_path / "copy"
    shutil.copytree(out / "held", copy)
    from frpipe.jobs.erase import job

    def struck(*arguments: Any) -> None:
        original(*arguments)
        shutil.copytree(copy, out / "notes")

    original = job.clear_scratch
    monkeypatch.setattr(job, "clear_scratch", struck)
    with pytest.raises(ErasureError, match="a vector"):
        Erase(str(out), frozenset(), frozenset({face["image_id"]}), copies="keep").run()


def test_an_erasure_that_is_killed_at_any_moment_ends(held: Path, tmp_path: Path) -> None:
    image = table(held, "held")["image_id"][0].as_py()
    shutil.copytree(held, tmp_path / "whole")

    def erase(out: Path) -> None:
        Erase(str(out), frozenset(), frozenset({image}), copies="keep").run()

    with at_change(None, die) as changes:
        erase(tmp_path / "whole")
    for moment in range(1, changes[0] + 1, 2):
        out = tmp_path / f"killed-{moment}"
        shutil.copytree(held, out)
        with pytest.raises(Killed), at_change(moment, die):
            erase(out)
        erase(out)
        for name in ("images", "faces", "held"):
            assert _rows(out, name) == _rows(tmp_path / "whole", name), moment


def test_a_night_tells_what_is_held_and_an_erasure_reaches_it(home: Frozen, tmp_path: Path) -> None:
    """Nobody of the held reaches the gallery; the whole erasure finds and proves the held, too."""
    shutil.copytree(home / "album", tmp_path / "album")
    settings = {"runs": "nights", "gallery": "people", "photos": "album"}
    places = {name: str(tmp_path / where) for name, where in settings.items()}
    night = NightConfig.model_validate(
        {**places, "dedup": {"threshold": 0.9}, "identify": {"gallery": {"threshold": 0.9}}}
    )

    def run(least: float, name: str) -> tuple[NightConfig, Path]:
        asked = night.model_copy(
            update={
                "settings": config(f"stages.dim.least={least}"),
                "runs": str(tmp_path / name / "nights"),
                "gallery": str(tmp_path / name / "people"),
            }
        )
        Night(asked, "2026-03-01", HERE).run()
        return asked, tmp_path / name / "nights/2026-03-01"

    _, free = run(0, "free")
    greys = sorted(table(free, "enroll/faces")["grey"].to_pylist())
    asked, folder = run(greys[len(greys) // 2], "held")
    enroll = json.loads((folder / "night.json").read_text())["steps"]["enroll"]
    back = table(folder, "enroll/held").to_pylist()
    assert enroll["faces_held"] == len(back) > 0 and enroll["held"] == {"too_dim": len(back)}
    assert f"held back  {len(back)} faces (too_dim {len(back)})" in (folder / "report.md").read_text()
    assert "faces held back" in (folder / "report.html").read_text()
    faces = [
        f for each in Gallery.open(asked.gallery).snapshot().tables() for f in each["face_id"].to_pylist()
    ]
    assert faces and not {f["face_id"] for f in back} & set(faces)
    who = back[0]["subject_id"]
    vectors = [
        np.array(each["embedding"], np.float32).tobytes() for each in back if each["subject_id"] == who
    ]
    EraseEverywhere(asked, frozenset({who}), reason="request", by="desk", copies="keep").run()
    data = b"".join(path.read_bytes() for path in (tmp_path / "held").rglob("*") if path.is_file())
    assert not any(vector in data for vector in vectors)
    enroll = json.loads((folder / "night.json").read_text())["steps"]["enroll"]
    left = len(back) - len(vectors)
    assert enroll["faces_held"] == table(folder, "enroll/held").num_rows == left


def test_the_doctor_finds_templates_of_faces_that_a_later_run_holds_back(
    home: Frozen, open_gate: Path, held: Path, tmp_path: Path
) -> None:
    """Before the gate was closed they were enrolled; also one whose photo has kept another face."""
    gallery = Gallery.open(Consolidation(str(open_gate), str(tmp_path / "gallery")).run().gallery)
    there = {face for each in gallery.snapshot().tables() for face in each["face_id"].to_pylist()}
    shown = examine(gallery, [str(held)], 99).findings[0].shown
    back = set(table(held, "held")["face_id"].to_pylist())
    assert {each["face_id"] for each in shown} == there & back != set()


def test_rejects_tell_of_held_faces(held: Path, capsys: pytest.CaptureFixture[str]) -> None:
    count = table(held, "held").num_rows
    assert main(["rejects", str(held)]) == 0
    assert f"{count} faces held back (too_dim {count})" in capsys.readouterr().out
    assert main(["rejects", str(held), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["held"] == {"too_dim": count}


def test_the_plan_names_the_folder(home: Frozen, tmp_path: Path) -> None:
    assert "images/, faces/ and held/" in dry_run(home / "photos.csv", tmp_path / "out", ON).text()


def test_a_contact_sheet_shows_them(
    held: Path, open_gate: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sheet", str(held), "-o", str(tmp_path / "held.png"), "--held"]) == 0
    assert f"{table(held, 'held').num_rows} held faces" in capsys.readouterr().out
    assert (tmp_path / "held.png").stat().st_size > 1000
    assert main(["sheet", str(open_gate), "-o", str(tmp_path / "none.png"), "--held"]) != 0
    assert "no face" in capsys.readouterr().err


def test_columns_of_the_manifest_with_their_names_are_refused_where_a_stage_holds(
    home: Frozen, tmp_path: Path
) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"image_uri,held_reason\n{home / 'photos/anna-1.png'},x\n")
    with pytest.raises(ManifestError, match="held_reason"):
        enrolled(manifest, tmp_path / "out", ON)
    assert enrolled(manifest, tmp_path / "out").faces == 1


def test_the_gate_changes_no_vector_and_no_hash_of_it(home: Frozen) -> None:
    recipes = [Models.of(config(*each)).recipe for each in ((), (ON,), ("stages.dim.least=9",))]
    assert len({each.preprocessing_hash for each in recipes}) == 1
    assert len({each.metadata()["frpipe.recipe_hash"] for each in recipes}) == 3


GLARE = """
from frpipe.stages.stage import FaceStage, Held, Section, StageResult


class Settings(Section):
    most: float = 255.0


class Glare(FaceStage):
    name, version, section, holds, gates = "glare", 1, Settings, True, ("most",)
    reasons = {"too_bright": "the mean grey is above `stages.glare.most`"}

    def process(self, batch):
        greys, most = batch.crops.mean(axis=(1, 2, 3)), self.settings.most
        return StageResult(held=[Held("too_bright", "grey", g, most) if g > most else None for g in greys])
"""
