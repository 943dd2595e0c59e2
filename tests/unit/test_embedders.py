"""Two embedders in one run: files of their own beside the first's, and readers that choose."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from frozen import EMBEDDER, Frozen, copied, settings
from staged_runs import config, dry_run, enrolled, replayed, table
from undrawn import undrawn

from frpipe.cli.jobs.enroll import main as enroll_main
from frpipe.core.config import load_config
from frpipe.core.errors import ConfigError, FileDamaged, GalleryMismatch, ManifestError, OutputError
from frpipe.core.schema import embedding_schema
from frpipe.gallery.gallery import Gallery
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.storage.folder import Folder
from frpipe.jobs.check.job import Check, again
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.dedup.job import Dedup
from frpipe.jobs.doctor.runs import runs_of
from frpipe.jobs.erase.job import Erase
from frpipe.jobs.erase.proof import ErasureError
from frpipe.jobs.evaluate.all_pairs.job import AllPairs
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.identify.job import Identifying
from frpipe.jobs.photo import spec_of
from frpipe.jobs.verify.job import PairVerification
from frpipe.stages.models import Models
from frpipe.stages.tabulate import finish, tabulate
from frpipe.testing.faces import located_faces, plan_of
from frpipe.testing.kills import Killed, at_change, die
from frpipe.testing.tiny import tiny_embedder

OTHER, ALIAS, DIM = "tiny_other", "OtherNet", 8
BOTH = f"embed=[{{model: {EMBEDDER}}}, {{model: {OTHER}, flip: true}}]"
ALONE = f"embed={{model: {OTHER}, flip: true}}"
TIMES = ("fetch_ms", "decode_ms", "detect_ms", "align_ms", "embed_ms")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    """The photos and models of the fixtures, and a second embedder."""
    with copied(tmp_path_factory.mktemp("embedders") / "frozen") as found:
        card = tiny_embedder(found / f"models/{OTHER}.onnx", dim=DIM, seed=7)
        facts = {**card.model_dump(mode="json"), "name": OTHER, "aliases": [ALIAS]}
        (found / f"cards/{OTHER}.yaml").write_text(yaml.safe_dump(facts))
        yield found


@pytest.fixture(scope="module")
def runs(home: Frozen, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs with the first embedder, with the other one, and with both."""
    place = tmp_path_factory.mktemp("runs")
    asked = {"first": (), "other": (ALONE,), "both": (BOTH,)}
    for name, some in asked.items():
        enrolled(home / "photos.csv", place / name, *some)
    return {name: place / name for name in asked}


@pytest.mark.parametrize("typed", [ALIAS, "othernet", "Tiny-Other"])
def test_an_embedder_is_chosen_by_a_common_name_too(typed: str, runs: dict[str, Path]) -> None:
    assert FeatureRun.open(str(runs["both"]), typed).embedder == OTHER
    assert FeatureRun.open(str(runs["other"]), typed).embedder is None
    assert spec_of(config(BOTH), typed) == spec_of(config(BOTH), OTHER)
    with pytest.raises(OutputError, match=f"no embeddings of {typed}"):
        FeatureRun.open(str(runs["first"]), typed)
    with pytest.raises(ConfigError, match=f"no embeddings of {typed}"):
        spec_of(config(), typed)


def _beside(out: Path) -> Path:
    return out / "embeddings" / OTHER


def test_a_single_embedder_is_written_as_it_always_was(home: Frozen) -> None:
    one, listed = config(), config(f"embed=[{{model: {EMBEDDER}}}]")
    assert one == listed and one.model_dump(mode="json") == listed.model_dump(mode="json")
    assert one.model_dump(mode="json")["embed"] == {"model": EMBEDDER, "flip": False}
    recipe = Models.of(one).recipe.as_dict()
    assert "embedders" not in recipe and recipe["settings"]["embed"] == {"model": EMBEDDER, "flip": False}


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["embed=[]"], "needs an embedder"),
        ([f"embed=[{{model: {OTHER}}}, {{model: {OTHER}, flip: true}}]"], "a model of its own"),
        (["embed=[{model: a}, {modle: b}]"], "embed.modle"),
        (["embed=[{model: a}, {model: b}]", "embed.model=c"], "list"),
        (["embed=5"], "embed"),
    ],
)
def test_a_list_that_makes_no_sense_is_one_clear_error(given: list[str], word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, given)
    assert word in caught.value.message + caught.value.remedy and "\n" not in caught.value.message


def test_the_first_has_its_columns_and_the_other_files_of_its_own(runs: dict[str, Path]) -> None:
    for name in ("images", "faces"):
        first, both = table(runs["first"], name), table(runs["both"], name)
        kept = [column for column in first.column_names if column not in TIMES]
        assert both.column_names == first.column_names and both.select(kept).equals(first.select(kept))
    faces, alone = table(runs["both"], "faces"), table(runs["other"], "faces")
    beside = pq.read_table(_beside(runs["both"]))
    assert beside.schema.names == embedding_schema(DIM).names
    assert [field.nullable for field in beside.schema] == [field.nullable for field in embedding_schema(DIM)]
    for column in ("face_id", "image_id"):
        assert beside[column].equals(faces[column])
    for column in ("norm", "embedding"):
        a, b = (np.stack(each[column].to_numpy()) for each in (beside, alone))
        np.testing.assert_allclose(a, b, atol=1e-5)
    # Its vectors can be compared with those of a run that has it alone.
    for column in ("detector_hash", "embedder_hash", "preprocessing_hash"):
        assert beside[column].unique().to_pylist() == alone[column].unique().to_pylist()


def test_every_file_is_listed_and_says_whose_it_is(runs: dict[str, Path]) -> None:
    out = Folder.at(str(runs["both"]))
    names = {file.name for file in run.file_list(out)}
    assert len(names) == 9 and sum(name.startswith(f"embeddings/{OTHER}/") for name in names) == 3
    assert "embeddings" not in {path.name for path in runs["first"].iterdir()}
    own, other = (
        pq.read_schema(path / "part-000000.parquet").metadata
        for path in (_beside(runs["both"]), runs["other"] / "faces")
    )
    for key in (b"frpipe.embedder_hash", b"frpipe.preprocessing_hash"):
        assert own[key] == other[key]
    recipe = json.loads((runs["both"] / "run.json").read_text())["identity"]["recipe"]
    assert [*recipe["embedders"]] == [OTHER] and recipe["embedders"][OTHER]["dim"] == DIM
    report = json.loads((runs["both"] / "report.json").read_text())
    assert {"embedder", f"embedder {OTHER}"} <= report["models"].keys()


def test_killed_at_any_moment_it_goes_on_and_comes_out_the_same(
    home: Frozen, runs: dict[str, Path], tmp_path: Path
) -> None:
    with at_change(None, die) as changes:
        enrolled(home / "photos.csv", tmp_path / "whole", BOTH)
    for moment in range(3, changes[0] + 1, 7):
        out = tmp_path / f"killed-{moment}"
        with pytest.raises(Killed), at_change(moment, die):
            enrolled(home / "photos.csv", out, BOTH)
        enrolled(home / "photos.csv", out, BOTH)
        assert pq.read_table(_beside(out)).equals(pq.read_table(_beside(runs["both"]))), moment
        assert all(found.whole for found in Check(str(out)).run())


def test_what_an_attempt_left_without_its_mark_is_cleared_away(
    home: Frozen, runs: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(runs["both"], out)
    for name in (
        "_SUCCESS",
        "files.json",
        "report.json",
        "images/part-000001.parquet",
        "faces/part-000001.parquet",
    ):
        (out / name).unlink()
    (_beside(out) / "part-000001.parquet").write_bytes(b"of a dead attempt")
    enrolled(home / "photos.csv", out, BOTH)
    assert pq.read_table(_beside(out)).equals(pq.read_table(_beside(runs["both"])))


@pytest.mark.parametrize("how", ["changed", "gone"])
@pytest.mark.parametrize("finished", [True, False])
def test_a_damaged_file_is_found_and_done_again(
    home: Frozen, runs: dict[str, Path], tmp_path: Path, how: str, finished: bool
) -> None:
    out, name = tmp_path / "out", f"embeddings/{OTHER}/part-000001.parquet"
    shutil.copytree(runs["both"], out)
    if not finished:
        (out / "_SUCCESS").unlink()
    data = (out / name).read_bytes()
    (out / name).unlink() if how == "gone" else (out / name).write_bytes(data[:99] + b"!" + data[100:])
    found = Check(str(out)).run()[0]
    assert [problem.file for problem in found.problems] == [name]
    assert Check(str(out), mend=True).run()[0].mended
    assert not (out / "images/part-000001.parquet").exists()
    enrolled(home / "photos.csv", out, BOTH)
    assert Check(str(out)).run()[0].whole
    assert pq.read_table(_beside(out)).equals(pq.read_table(_beside(runs["both"])))


def test_a_replay_copies_and_merges_it_too(home: Frozen, tmp_path: Path) -> None:
    shutil.copytree(home / "photos", tmp_path / "photos")
    shutil.copy(home / "photos.csv", tmp_path / "photos.csv")
    out, later, fresh = (tmp_path / name for name in ("out", "later", "fresh"))
    enrolled(tmp_path / "photos.csv", out, BOTH)
    for photo in (home / "mended").iterdir():
        shutil.copy(photo, tmp_path / "photos" / photo.name)
    replayed(out, later)
    enrolled(tmp_path / "photos.csv", fresh, BOTH)
    found, wanted = pq.read_table(_beside(later)), pq.read_table(_beside(fresh))
    assert found.num_rows > pq.read_table(_beside(out)).num_rows
    assert found.schema.equals(wanted.schema) and found["face_id"].equals(table(later, "faces")["face_id"])
    assert found.equals(wanted)
    assert Check(str(later)).run()[0].whole


def test_an_erasure_takes_them_out_and_proves_it(runs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(runs["both"], out)
    before = pq.read_table(_beside(out))
    gone = [row["face_id"] for row in table(out, "faces").to_pylist() if row["subject_id"] == "anna"]
    erased = Erase(str(out), frozenset({"anna"}), frozenset()).run()
    assert gone and erased.faces == len(gone)
    after = pq.read_table(_beside(out))
    assert after["face_id"].to_pylist() == [
        each for each in before["face_id"].to_pylist() if each not in gone
    ]
    assert after["face_id"].equals(table(out, "faces")["face_id"])
    assert Check(str(out)).run()[0].whole


def test_an_erasure_finds_a_vector_of_the_other_embedder_that_is_left(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(runs["both"], out)
    vector = np.array(pq.read_table(_beside(out))["embedding"][0].as_py(), np.float32)
    (out / "kept.bin").write_bytes(b"..." + vector.tobytes())
    with pytest.raises(ErasureError, match="a vector"):
        Erase(str(out), frozenset({"anna"}), frozenset()).run()


def test_an_erasure_that_is_killed_at_any_moment_ends_the_same(runs: dict[str, Path], tmp_path: Path) -> None:
    def erase(out: Path) -> None:
        Erase(str(out), frozenset({"anna"}), frozenset()).run()

    for name in ("whole", *(f"killed-{moment}" for moment in range(3, 30, 5))):
        shutil.copytree(runs["both"], tmp_path / name)
    with at_change(None, die) as changes:
        erase(tmp_path / "whole")
    assert changes[0] > 8
    for moment in range(3, min(changes[0] + 1, 30), 5):
        out = tmp_path / f"killed-{moment}"
        with pytest.raises(Killed), at_change(moment, die):
            erase(out)
        erase(out)
        assert pq.read_table(_beside(out)).equals(pq.read_table(_beside(tmp_path / "whole"))), moment
        assert Check(str(out)).run()[0].whole


def test_readers_see_the_embedder_that_they_ask_for(runs: dict[str, Path]) -> None:
    both, other = (Folder.at(str(runs[name])) for name in ("both", "other"))
    names = ["embedding", "face_id", "norm", "subject_id", "preprocessing_hash"]
    for wanted in (names, ["embedding"], None):
        for (_, found), (_, alone) in zip(
            Features(both, OTHER).tables(["image_id"], wanted),
            Features(other).tables(["image_id"], wanted),
            strict=True,
        ):
            assert found.column_names == alone.column_names
            assert found["embedding"].type.list_size == DIM
            if wanted is not None and "face_id" in wanted:
                assert found["face_id"].equals(alone["face_id"])
    for _, faces in Features(both, OTHER).tables(["image_id"], ["face_id"]):
        assert faces.column_names == ["face_id"]


def test_a_file_of_other_faces_is_damage(runs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(runs["both"], out)
    (out / "_SUCCESS").unlink()
    shutil.copy(_beside(out) / "part-000000.parquet", _beside(out) / "part-000001.parquet")
    with pytest.raises(FileDamaged, match=OTHER):
        list(Features.at(str(out), OTHER).tables(["image_id"], ["embedding"]))


@pytest.mark.parametrize("bad", ["first", "other"])
def test_a_face_without_one_of_its_vectors_is_left_out_of_all(home: Frozen, bad: str) -> None:
    recipe = Models.of(config(BOTH)).recipe
    crops = np.zeros((3, 112, 112, 3), np.uint8)
    part = tabulate(0, plan_of(2), [located_faces(crops[:2]), located_faces(crops[2:])], [1, 1], "all")
    vectors = {"first": np.ones((3, 16), np.float32), "other": np.ones((3, DIM), np.float32)}
    vectors[bad][[0, 2], 0] = np.nan
    images, faces = finish(part, vectors["first"], 0.1, recipe, {OTHER: vectors["other"]})
    assert images["reason"].to_pylist() == [None, "non_finite_embedding"]
    assert faces["face_id"].to_pylist() == ["photo-0#1"] and len(faces[f"{OTHER}/embedding"]) == 1


def test_a_column_of_the_manifest_may_not_stand_in_the_way(home: Frozen, tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(f"image_uri,{OTHER}/norm\n{home / 'photos/anna-1.png'},5\n")
    with pytest.raises(ManifestError, match=f"{OTHER}/norm"):
        enrolled(manifest, tmp_path / "out", BOTH)
    enrolled(manifest, tmp_path / "out")


def test_a_run_with_other_embedders_is_another_run(home: Frozen, runs: dict[str, Path]) -> None:
    for others in ((), (ALONE,), (BOTH.replace(", flip: true", ""),)):
        with pytest.raises(OutputError, match="embed"):
            enrolled(home / "photos.csv", runs["both"], *others)


def test_its_command_and_its_plan_name_both(home: Frozen, runs: dict[str, Path], tmp_path: Path) -> None:
    assert OTHER in again(Folder.at(str(runs["both"])), "enroll")
    text = dry_run(home / "photos.csv", tmp_path / "out", BOTH).text()
    assert f"embeddings/{OTHER}/" in text and f"embedder  {OTHER}" in text


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches and comparisons in this process."""
    undrawn(monkeypatch)


def _content(out: Path, name: str) -> list[dict[str, object]]:
    return [
        {key: value for key, value in row.items() if key != "image_uri"}
        for row in pq.read_table(out / name).to_pylist()
    ]


def test_a_gallery_takes_the_embeddings_that_are_asked_for(runs: dict[str, Path], tmp_path: Path) -> None:
    both, other, first = (str(runs[name]) for name in ("both", "other", "first"))
    Consolidation(other, str(tmp_path / "alone")).run()
    done = Consolidation(both, str(tmp_path / "chosen"), embedder=OTHER, templates="mean").run()
    assert done.added and Gallery.open(str(tmp_path / "chosen")).spec == FeatureRun.open(other).spec
    again_ = Consolidation(both, str(tmp_path / "alone"), policy="append", embedder=OTHER).run()
    assert again_.unchanged == again_.templates and not again_.added
    with pytest.raises(GalleryMismatch):
        Consolidation(both, str(tmp_path / "alone")).run()
    Consolidation(both, str(tmp_path / "first"), embedder=EMBEDDER).run()
    assert Gallery.open(str(tmp_path / "first")).spec == FeatureRun.open(first).spec
    notes = [entry.note for entry in Gallery.open(str(tmp_path / "chosen")).log()]
    assert any(f'"embedder": "{OTHER}"' in note for note in notes)
    assert len(runs_of(Gallery.open(str(tmp_path / "alone")), [both])) == 1


def test_searches_and_comparisons_find_what_they_find_in_a_run_of_that_embedder(
    runs: dict[str, Path], tmp_path: Path, asked: None
) -> None:
    both, other = str(runs["both"]), str(runs["other"])
    Consolidation(other, str(tmp_path / "g")).run()
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("a,b\nr-01,r-02\nr-01,r-03\n")
    for name, features, embedder in (("chosen", both, OTHER), ("alone", other, None)):
        out = tmp_path / name
        Identifying(
            features, str(tmp_path / "g"), str(out / "identify"), threshold=0.9, embedder=embedder
        ).run()
        Dedup(str(out / "dedup"), features=features, threshold=0.9, embedder=embedder).run()
        PairVerification(str(pairs), features, str(out / "verify"), threshold=0.9, embedder=embedder).run()
        AllPairs(str(out / "all"), features=features, thresholds=(0.5,), embedder=embedder).run()
    for name in ("identify/probes", "dedup/pairs", "verify/pairs", "all/histograms"):
        assert _near(_content(tmp_path / "chosen", name), _content(tmp_path / "alone", name)), name
    for name, job in (
        ("dedup", lambda out: Dedup(out, features=both, threshold=0.9)),
        ("verify", lambda out: PairVerification(str(pairs), both, out, threshold=0.9)),
    ):
        with pytest.raises(OutputError, match="features"):
            job(str(tmp_path / "chosen" / name)).run()


def test_an_embedder_that_a_run_has_not_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    for name, there in (("both", OTHER), ("first", EMBEDDER)):
        with pytest.raises(OutputError) as caught:
            FeatureRun.open(str(runs[name]), "sface_2021dec")
        assert there in caught.value.remedy
    assert FeatureRun.open(str(runs["both"]), EMBEDDER) == FeatureRun.open(str(runs["both"]))
    assert FeatureRun.open(str(runs["both"]), OTHER).embedder == OTHER
    for job in (
        Dedup(str(tmp_path / "d"), gallery=str(tmp_path / "g"), embedder=OTHER),
        AllPairs(str(tmp_path / "a"), gallery=str(tmp_path / "g"), embedder=OTHER),
        Identifying(
            str(runs["both"].parent / "m.csv"), str(tmp_path / "g"), str(tmp_path / "i"), embedder=OTHER
        ),
    ):
        with pytest.raises(ConfigError):
            job.run()


def test_a_run_puts_the_embeddings_that_are_asked_for_into_a_gallery(
    home: Frozen, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery, words = (
        str(tmp_path / "g"),
        ["--manifest", str(home / "photos.csv"), "--output", str(runs["both"])],
    )
    for setting in (*settings(), "detect.not_photographs=keep", BOTH):
        words += ["--set", setting]
    assert enroll_main([*words, "--embedder", OTHER]) == 2
    assert enroll_main([*words, "--gallery", gallery, "--embedder", "sface_2021dec"]) == 2
    assert EMBEDDER in capsys.readouterr().err
    assert enroll_main([*words, "--gallery", gallery, "--embedder", OTHER]) == 0
    assert Gallery.open(gallery).spec == FeatureRun.open(str(runs["other"])).spec
    assert spec_of(config(BOTH), OTHER) == Gallery.open(gallery).spec
    assert enroll_main([*words, "--gallery", gallery]) == 10


def _near(found: object, wanted: object) -> bool:
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_near(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_near, found, wanted))
    return found == (pytest.approx(wanted, abs=1e-5) if isinstance(wanted, float) else wanted)
