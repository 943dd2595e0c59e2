"""Galleries of real photos: consolidated by the job, changed and searched on the command line."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pyarrow as pa
import pytest
from cluster import Cluster
from enrollment import ROOT, enroll, enroll_here, job_here, write_manifest
from real_photos import people_with

from frpipe.cli.main import main
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery

KEYS = [("subject_id", "ascending"), ("face_id", "ascending")]
Frpipe = Callable[..., tuple[int, str, str]]
PEOPLE = 6
TEMPLATES = 2 * PEOPLE


@pytest.fixture(scope="module")
def people(real_photos: Path) -> dict[str, list[Path]]:
    """People with three photos each: of the first, two are enrolled, and the third is a probe."""
    return {photos[0].parent.name: photos for photos in people_with(3, real_photos)[: PEOPLE + 10]}


@pytest.fixture(scope="module")
def enrolled(people: dict[str, list[Path]]) -> list[str]:
    return list(people)[:PEOPLE]


@pytest.fixture(scope="module")
def manifest(
    people: dict[str, list[Path]], enrolled: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Two photos of each, two photos of nobody, and a file that is none. Everybody has the same name."""
    folder = tmp_path_factory.mktemp("people")
    photos = [photo for person in enrolled for photo in people[person][:2]]
    subjects = [photo.parent.name for photo in photos]
    nobody = [people[person][0] for person in list(people)[PEOPLE : PEOPLE + 2]]
    broken = folder / "broken.jpg"
    broken.write_bytes(photos[0].read_bytes()[:2000])
    files = [*photos, *nobody, broken]
    return write_manifest(
        folder / "m.csv",
        files,
        subject_id=[*subjects, "", "", subjects[0]],
        Name=["김지수"] * len(files),
        Department=["Sales" if n % 4 < 2 else "R&D/Lab 3" for n in range(len(files))],
        quality=["manifest's own"] * len(files),
    )


@pytest.fixture(scope="module")
def features(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return enroll_here(
        manifest, tmp_path_factory.mktemp("features") / "out", "--set", "resources.part_rows=8"
    )


@pytest.fixture(scope="module")
def whole(features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery that tests may read and copy, and not change."""
    gallery = tmp_path_factory.mktemp("whole") / "G"
    words = [sys.executable, "jobs/consolidate.py", "--features", features, "--gallery", gallery]
    subprocess.run(words, cwd=ROOT, timeout=120, check=True)
    return gallery


@pytest.fixture(scope="module")
def group(people: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of several people."""
    photo = tmp_path_factory.mktemp("group") / "group.jpg"
    cv2.imwrite(str(photo), cv2.hconcat([cv2.imread(str(photos[0])) for photos in list(people.values())[:3]]))
    return photo


@pytest.fixture
def gallery(whole: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(whole, tmp_path / "G"))


@pytest.fixture
def frpipe(capsys: pytest.CaptureFixture[str]) -> Frpipe:
    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def _job(features: Path, gallery: Path, *arguments: str) -> tuple[int, str, str]:
    done = job_here("consolidate", "--features", features, "--gallery", gallery, *arguments)
    return done.returncode, done.stdout, done.stderr


def _rows(gallery: Path, *, vectors: bool = True) -> pa.Table:
    tables = list(Gallery.open(str(gallery)).snapshot().tables(vectors=vectors))
    return pa.concat_tables(tables).sort_by(KEYS).combine_chunks()


def _jsonl(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


# consolidate


def test_every_face_is_used_or_left_out_for_a_reason(features: Path, tmp_path: Path) -> None:
    code, out, err = _job(features, tmp_path / "G", "--json")
    assert code == 0, err
    done = json.loads(out)
    assert (done["photos"], done["photos_without_face"]) == (TEMPLATES + 3, 1)
    assert done["faces"] == done["used"] + sum(done["left_out"].values())
    assert (done["used"], done["added"], done["version"]) == (TEMPLATES, TEMPLATES, 1)
    assert done["left_out"]["no_subject"] >= 2
    assert json.loads((features / "report.json").read_text())["faces"] == done["faces"]


@pytest.mark.parametrize("policy", ["skip", "replace", "append"])
@pytest.mark.parametrize("templates", ["all", "mean"])
def test_the_same_run_twice_changes_nothing(
    features: Path, tmp_path: Path, policy: str, templates: str
) -> None:
    words = ["--policy", policy, "--templates", templates, "--json"]
    first, second = (json.loads(_job(features, tmp_path / "G", *words)[1]) for _ in range(2))
    assert first["templates"] == (TEMPLATES if templates == "all" else PEOPLE)
    assert second["version"] == first["version"] == 1
    assert second["added"] == second["replaced"] == 0


def test_the_manifests_columns_are_attributes(whole: Path) -> None:
    row = _rows(whole, vectors=False).to_pylist()[0]
    assert (row["Name"], row["Department"], row["manifest_quality"]) == ("김지수", "Sales", "manifest's own")
    assert 0.3 < row["quality"] <= 1
    assert row["face_id"] == "id-0000#0"


def test_templates_carry_the_time_of_the_run(features: Path, tmp_path: Path) -> None:
    for name in ("G", "H"):
        _job(features, tmp_path / name)
    assert _rows(tmp_path / "G").equals(_rows(tmp_path / "H"))


def test_a_dry_run_counts_and_writes_nothing(features: Path, tmp_path: Path) -> None:
    code, out, err = _job(features, tmp_path / "G", "--dry-run")
    assert code == 0, err
    assert f"{TEMPLATES} used" in out
    assert not (tmp_path / "G").exists()


def test_a_run_that_has_not_ended_is_refused(features: Path, tmp_path: Path) -> None:
    shutil.copytree(features, tmp_path / "out")
    (tmp_path / "out/_SUCCESS").unlink()
    code, _, err = _job(tmp_path / "out", tmp_path / "G")
    assert code == 6
    assert "not the output of a finished enroll run" in err
    assert not (tmp_path / "G").exists()


def test_features_of_another_recipe_are_refused_with_both_hashes(
    features: Path, tmp_path: Path, frpipe: Frpipe
) -> None:
    frpipe("gallery", "create", tmp_path / "G", "--set", "decode.scaled=false")
    code, _, err = _job(features, tmp_path / "G")
    spec = Gallery.open(str(tmp_path / "G")).spec
    assert code == 10
    assert spec.preprocessing_hash in err
    assert len(set(re.findall(r"\b[0-9a-f]{64}\b", err))) == 2
    assert "enroll the manifest again" in err


def test_enroll_can_go_on_into_a_gallery(manifest: Path, features: Path, whole: Path, tmp_path: Path) -> None:
    words = ("--set", "resources.part_rows=8", "--gallery", tmp_path / "G")
    done = job_here("enroll", "--manifest", manifest, "--output", features, *words)
    assert done.returncode == 0, done.stderr
    assert _rows(tmp_path / "G").equals(_rows(whole))


def test_enroll_refuses_a_gallery_of_another_recipe_before_the_work(
    manifest: Path, tmp_path: Path, frpipe: Frpipe
) -> None:
    frpipe("gallery", "create", tmp_path / "G", "--set", "embed.flip=true")
    refused = enroll(manifest, tmp_path / "out", "--gallery", str(tmp_path / "G"))
    assert refused.returncode == 10
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_submitted_to_a_cluster_it_does_the_same(
    features: Path, whole: Path, job_server: Cluster, tmp_path: Path
) -> None:
    words = ("python", "jobs/consolidate.py", "--features", features, "--gallery", tmp_path / "G")
    job = job_server.submit(ROOT, *words)
    assert job.returncode == 0, job.stdout[-3000:] + job.stderr[-3000:]
    assert _rows(tmp_path / "G").equals(_rows(whole))


# who is in it


def test_list_pages_through_people_in_order(whole: Path, frpipe: Frpipe, enrolled: list[str]) -> None:
    first = _jsonl(frpipe("gallery", "list", whole, "--limit", 4, "--json")[1])
    rest = _jsonl(
        frpipe("gallery", "list", whole, "--after", first[-1]["subject_id"], "--limit", 0, "--json")[1]
    )
    assert [row["subject_id"] for row in (*first, *rest)] == sorted(enrolled)
    assert {row["templates"] for row in first} == {2}
    assert first[0]["attributes"]["Name"] == "김지수"  # type: ignore[index]


def test_list_filters_by_attribute(whole: Path, frpipe: Frpipe, enrolled: list[str]) -> None:
    _, out, _ = frpipe("gallery", "list", whole, "--where", "Department=R&D/Lab 3", "--json")
    assert [row["subject_id"] for row in _jsonl(out)] == sorted(enrolled[1::2])
    _, out, _ = frpipe("gallery", "list", whole, "--limit", 3)
    assert f"more: --after {sorted(enrolled)[2]}" in out


def test_show_never_prints_vectors_unasked(whole: Path, frpipe: Frpipe, enrolled: list[str]) -> None:
    rows = _jsonl(frpipe("gallery", "show", whole, enrolled[0], "--json")[1])
    assert [row["face_id"] for row in rows] == ["id-0000#0", "id-0001#0"]
    assert "embedding" not in rows[0]
    asked = _jsonl(frpipe("gallery", "show", whole, enrolled[0], "--json", "--vectors")[1])
    assert len(asked[0]["embedding"]) == 128  # type: ignore[arg-type]
    assert frpipe("gallery", "show", whole, enrolled[0], "--vectors")[0] == 2
    assert frpipe("gallery", "show", whole, "nobody")[0] == 10


# changes


def test_delete_compact_rollback(gallery: Path, frpipe: Frpipe, enrolled: list[str], tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text(f"{enrolled[1]}\nnobody\n")
    words = (gallery, enrolled[0], "--from", tmp_path / "ids.txt", "--no-suppress", "--json")
    code, out, _ = frpipe("gallery", "delete", *words)
    outcome = json.loads(out)
    assert code == 10
    assert (outcome["subjects"], outcome["deleted"], outcome["unknown"]) == (2, 4, 1)
    assert frpipe("gallery", "show", gallery, enrolled[0])[0] == 10
    diff = json.loads(frpipe("gallery", "diff", gallery, "--json")[1])
    assert diff["removed"] == sorted(enrolled[:2])
    frpipe("gallery", "rollback", gallery, 1)
    assert frpipe("gallery", "show", gallery, enrolled[0])[0] == 0
    frpipe("gallery", "delete", gallery, enrolled[0])
    assert frpipe("gallery", "compact", gallery)[0] == 0
    assert frpipe("gallery", "rollback", gallery, 1)[0] == 10
    assert frpipe("gallery", "verify", gallery)[0] == 0
    actions = [
        entry["action"] for entry in json.loads(frpipe("gallery", "log", gallery, "--json")[1])["entries"]
    ]
    assert actions == ["create", "enroll", "delete", "rollback", "delete", "compact"]
    assert not any(name in frpipe("gallery", "log", gallery)[1] for name in enrolled)


def test_clear_asks_first_and_leaves_a_valid_gallery(gallery: Path, frpipe: Frpipe) -> None:
    assert frpipe("gallery", "clear", gallery)[0] == 2
    assert frpipe("gallery", "clear", gallery, "--yes")[0] == 0
    assert frpipe("gallery", "list", gallery, "--json")[1] == ""
    assert frpipe("gallery", "verify", gallery)[0] == 0


def test_a_flipped_byte_is_found(gallery: Path, frpipe: Frpipe) -> None:
    shard = next((gallery / "shards").glob("*.h5"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.chmod(0o600)
    shard.write_bytes(data)
    code, out, _ = frpipe("gallery", "verify", gallery, "--json")
    assert code == 10
    assert shard.stem in json.loads(out)["problems"][0]["file"]


def test_two_halves_merged_are_the_whole(
    whole: Path, people: dict[str, list[Path]], enrolled: list[str], tmp_path: Path, frpipe: Frpipe
) -> None:
    rows, spec = _rows(whole), Gallery.open(str(whole)).spec
    for name, part in (("A", rows.slice(0, 5)), ("B", rows.slice(5))):
        lifecycle.enroll(Gallery.create(str(tmp_path / name), spec), [part])
    assert frpipe("gallery", "merge", tmp_path / "A", tmp_path / "B")[0] == 0
    assert _rows(tmp_path / "A").equals(rows)
    for person in enrolled[::2]:
        probe = people[person][2]
        answers = [
            json.loads(frpipe("identify", probe, "--gallery", where, "--json")[1])["candidates"]
            for where in (whole, tmp_path / "A")
        ]
        assert answers[0] == answers[1]


def test_a_gallery_goes_through_the_lectures_file(whole: Path, tmp_path: Path, frpipe: Frpipe) -> None:
    assert frpipe("gallery", "export", whole, "-o", tmp_path / "gallery.hdf")[0] == 0
    frpipe("gallery", "create", tmp_path / "G")
    assert frpipe("gallery", "import", tmp_path / "G", tmp_path / "gallery.hdf")[0] == 0
    assert _rows(tmp_path / "G").equals(_rows(whole))


def test_outliers_find_a_photo_under_the_wrong_id(gallery: Path, frpipe: Frpipe, enrolled: list[str]) -> None:
    rows = (
        _rows(gallery).slice(2, 1).drop_columns(["subject_id"]).append_column("subject_id", [[enrolled[0]]])
    )
    lifecycle.enroll(Gallery.open(str(gallery)), [rows], "append")
    found = json.loads(frpipe("gallery", "outliers", gallery, "--json")[1])
    worst = found["photos"][0]
    assert (worst["subject_id"], worst["face_id"]) == (enrolled[0], "id-0002#0")
    assert worst["nearest_id"] == enrolled[1]
    assert found["spreads"][0]["subject_id"] == enrolled[0]


# single photos


def test_another_photo_of_somebody_is_identified(
    whole: Path, people: dict[str, list[Path]], enrolled: list[str], frpipe: Frpipe
) -> None:
    answers = {
        person: json.loads(frpipe("identify", people[person][2], "--gallery", whole, "--json")[1])
        for person in enrolled
    }
    right = [person for person, answer in answers.items() if answer["subject_id"] == person]
    assert len(right) >= PEOPLE - 1
    first = answers[right[0]]
    assert first["threshold"]["similarity"] == pytest.approx(1 - first["threshold"]["distance"])
    assert first["expected_fpir"] == pytest.approx(1 - (1 - first["threshold"]["fmr"]) ** TEMPLATES)


def test_somebody_who_is_not_enrolled_is_a_stranger(
    whole: Path, people: dict[str, list[Path]], frpipe: Frpipe
) -> None:
    others = [people[person][2] for person in list(people)[PEOPLE:]]
    results = [frpipe("identify", photo, "--gallery", whole, "--check") for photo in others]
    assert sum(code == 12 and out.startswith("stranger") for code, out, _ in results) >= len(others) - 1
    text = results[0][1]
    assert "similarity" in text
    assert "distance" in text
    assert "1 - (1 - FMR)^templates" in text


def test_the_threshold_is_a_similarity_and_equality_accepts(
    whole: Path, people: dict[str, list[Path]], enrolled: list[str], frpipe: Frpipe
) -> None:
    probe = people[enrolled[0]][2]
    best = json.loads(frpipe("identify", probe, "--gallery", whole, "--json")[1])["candidates"][0][
        "similarity"
    ]
    for threshold, stranger in ((best, False), (best + 1e-9, True)):
        _, out, _ = frpipe("identify", probe, "--gallery", whole, "--threshold", repr(threshold), "--json")
        assert json.loads(out)["stranger"] is stranger


def test_another_model_is_refused_with_both_hashes(
    whole: Path, people: dict[str, list[Path]], enrolled: list[str], frpipe: Frpipe
) -> None:
    words = ("identify", people[enrolled[0]][2], "--gallery", whole, "--set", "embed.model=mobilefacenet_npm")
    code, _, err = frpipe(*words)
    assert code == 10
    assert Gallery.open(str(whole)).spec.embedder_hash in err
    assert len(set(re.findall(r"\b[0-9a-f]{64}\b", err))) == 4
    assert "--set embed.model=sface_2021dec" in err


def test_which_faces_a_run_keeps_makes_no_other_model(
    whole: Path, people: dict[str, list[Path]], enrolled: list[str], frpipe: Frpipe
) -> None:
    words = ("identify", people[enrolled[0]][2], "--gallery", whole, "--set", "detect.policy=largest")
    assert frpipe(*words)[0] == 0


def test_one_photo_is_enrolled_once(tmp_path: Path, people: dict[str, list[Path]], frpipe: Frpipe) -> None:
    gallery, photos = tmp_path / "G", people[next(iter(people))]
    frpipe("gallery", "create", gallery)
    words = (
        "--id",
        "0",
        "--set-attribute",
        "Name=김지수",
        "Department=black pink",
        "--faces",
        "centre-largest",
    )
    for expected in (1, 0):
        _, out, _ = frpipe("gallery", "enroll", gallery, "--photo", photos[0], *words, "--json")
        assert json.loads(out)["added"] == expected
    frpipe("gallery", "enroll", gallery, "--photo", photos[1], *words)
    again = ("--id", "0", "--set-attribute", "Department=Sales", "--faces", "centre-largest")
    frpipe("gallery", "enroll", gallery, "--photo", photos[1], *again)
    shown = _jsonl(frpipe("gallery", "show", gallery, "0", "--json")[1])
    assert [one["attributes"]["Name"] for one in shown] == ["김지수"] * 2  # type: ignore[index]
    assert sorted(one["attributes"]["Department"] for one in shown) == ["Sales", "black pink"]  # type: ignore[index]
    frpipe("gallery", "enroll", gallery, "--photo", photos[1], *words)
    row = _jsonl(frpipe("gallery", "list", gallery, "--json")[1])[0]
    assert (row["subject_id"], row["templates"]) == ("0", 2)
    assert row["attributes"] == {"Department": "black pink", "Name": "김지수"}


def test_a_photo_of_several_or_of_nobody_is_refused(tmp_path: Path, group: Path, frpipe: Frpipe) -> None:
    gallery = tmp_path / "G"
    (tmp_path / "none.jpg").write_bytes(b"no photo")
    frpipe("gallery", "create", gallery)
    code, _, err = frpipe("gallery", "enroll", gallery, "--photo", group, "--id", "0")
    assert code == 8
    assert "--faces" in err
    assert frpipe("gallery", "enroll", gallery, "--photo", tmp_path / "none.jpg", "--id", "0")[0] == 8
    assert frpipe("gallery", "enroll", gallery, "--photo", group, "--id", "0", "--faces", "largest")[0] == 0


# the documentation


def test_the_walkthrough_runs_as_it_is_written(
    tmp_path: Path,
    group: Path,
    people: dict[str, list[Path]],
    frpipe: Frpipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FRPIPE_GALLERY_KEY_FILE", str(tmp_path / ".frpipe/gallery.key"))
    _lay_out(tmp_path, people, group)
    commands = list(_commands((ROOT / "docs/gallery.md").read_text(encoding="utf-8")))
    assert len(commands) > 20
    for command in commands:
        words = shlex.split(command)
        if words[0] == "frpipe":
            code, _, err = frpipe(*words[1:])
        elif words[0] == "python" and words[1].startswith("jobs/"):
            done = job_here(Path(words[1]).stem, *words[2:])
            code, err = done.returncode, done.stderr
        else:
            line = command.replace("~", str(tmp_path))
            done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=300, check=False)
            code, err = done.returncode, done.stderr
        assert code == 0, f"{command}\n{err}"


def _commands(page: str) -> Iterator[str]:
    for block in re.findall(r"```console\n(.*?)```", page, flags=re.DOTALL):
        commands = re.findall(r"^\$ (.*)$", block.replace("\\\n", " "), flags=re.MULTILINE)
        # What the page says of a gallery of many runs needs these: tests/docs has them, and drawn people.
        yield from (command for command in commands if "--runs" not in command)


def _lay_out(folder: Path, people: dict[str, list[Path]], group: Path) -> None:
    """People under the names of the demo's photos."""
    (folder / "photos").mkdir()
    one, other = ([*people[name]] for name in list(people)[:2])
    names = ["president-1.jpg", "president-2.jpg", "president-3.jpg"]
    for name, source in [*zip(names, one, strict=True), ("vice-president.jpg", other[0])]:
        shutil.copy(source, folder / "photos" / name)
    shutil.copy(group, folder / "photos/six-strangers.jpg")
    rows = [f"{name},photos/{name},barack-obama,President" for name in names]
    rows.append("vice-president.jpg,photos/vice-president.jpg,joe-biden,Vice President")
    (folder / "manifest.csv").write_text("\n".join(["image_id,image_uri,subject_id,office", *rows]))
