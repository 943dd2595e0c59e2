"""What was begun with YuNet is gone on with, with YuNet, by commands that name no detector."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from enrollment import enroll_here, job_here, write_manifest
from real_photos import people_with

from frpipe.cli.main import main
from frpipe.core.config import Config
from frpipe.models.card import Card
from frpipe.models.registry import Registry

BEFORE, NAMED = "yunet_2023mar", ("--set", "detect.model=yunet_2023mar")
NIGHT_SETTINGS = {"resources": {"part_rows": 4}}


@pytest.fixture(scope="module", autouse=True)
def weights(real_card: Callable[[str], Card]) -> None:
    for name in (BEFORE, Config().detect.model, Config().embedder.model):
        real_card(name)


@pytest.fixture(scope="module")
def people(real_photos: Path) -> list[list[Path]]:
    return people_with(3, real_photos)[:3]


@pytest.fixture(scope="module")
def manifest(people: list[list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    photos = [photo for person in people for photo in person[:2]]
    subjects = [photo.parent.name for photo in photos]
    return write_manifest(tmp_path_factory.mktemp("people") / "m.csv", photos, subject_id=subjects)


@pytest.fixture(scope="module")
def features(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return enroll_here(manifest, tmp_path_factory.mktemp("features") / "out", *NAMED)


@pytest.fixture(scope="module")
def gallery(features: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("gallery") / "G")
    assert job_here("consolidate", "--features", features, "--gallery", place).returncode == 0
    return place


def test_the_same_output_is_complete(manifest: Path, features: Path) -> None:
    done = job_here("enroll", "--manifest", manifest, "--output", features)
    assert done.returncode == 0
    assert f"with the detector of the output: {BEFORE}" in done.stderr
    assert "complete already" in done.stderr
    named = job_here(
        "enroll", "--manifest", manifest, "--output", features, "--set", f"detect.model={_default()}"
    )
    assert named.returncode != 0
    assert f'detect.model was "{BEFORE}", is "{_default()}"' in named.stderr


def test_a_new_output_for_its_gallery_is_of_its_detector(
    people: list[list[Path]], gallery: str, tmp_path: Path
) -> None:
    photos = [photo for person in people for photo in person[:2]] + [person[2] for person in people]
    manifest = write_manifest(tmp_path / "m.csv", photos, subject_id=[each.parent.name for each in photos])
    output = enroll_here(manifest, tmp_path / "out", "--gallery", gallery)
    assert _detector(output) == BEFORE
    refused = job_here(
        "enroll",
        *("--manifest", manifest, "--output", tmp_path / "other", "--gallery", gallery),
        *("--set", f"detect.model={_default()}"),
    )
    assert refused.returncode == 10
    assert "detector: the gallery's is" in refused.stderr


def test_features_of_the_default_are_refused_with_the_command_that_makes_fitting_ones(
    manifest: Path, gallery: str, tmp_path: Path
) -> None:
    other = enroll_here(manifest, tmp_path / "other")
    for words in (
        ("consolidate", "--features", other, "--gallery", gallery),
        ("consolidate", "--features", other, "--gallery", gallery, "--dry-run"),
        ("identify", "--probes", other, "--gallery", gallery, "--output", tmp_path / "found"),
    ):
        refused = job_here(*words)
        assert refused.returncode == 10
        (command,) = re.findall(r"frpipe (run enroll .*); or use another gallery", refused.stderr)
    assert main(command.replace("NEW", str(tmp_path / "fitting")).split()) == 0
    assert _detector(tmp_path / "fitting") == BEFORE
    assert job_here("consolidate", "--features", tmp_path / "fitting", "--gallery", gallery).returncode == 0


def test_features_of_one_face_a_photo_name_the_command_that_keeps_their_models(
    manifest: Path, tmp_path: Path
) -> None:
    single = enroll_here(manifest, tmp_path / "out", *NAMED, "--set", "detect.policy=largest")
    words = ("--features", single, "--gallery", tmp_path / "G", "--subject-face", "agreeing")
    refused = job_here("consolidate", *words)
    assert refused.returncode == 2
    assert f"--output NEW --set detect.model={BEFORE} --set embed.model=" in refused.stderr


def test_a_photo_is_identified_and_enrolled_with_the_gallerys_models(
    people: list[list[Path]], gallery: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = str(people[0][1])
    assert main(["identify", photo, "--gallery", gallery, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["subject_id"] == people[0][0].parent.name
    assert found["candidates"][0]["similarity"] > 0.999, "it is the vector that was enrolled"
    add = ["gallery", "enroll", gallery, "--photo", str(people[1][2]), "--id", "another"]
    assert main(add) == 0
    assert main([*add, "--set", f"detect.model={_default()}"]) == 10
    assert f"--set detect.model={BEFORE}" in capsys.readouterr().err


def test_nights_go_on_with_it(people: list[list[Path]], tmp_path: Path) -> None:
    """A night with YuNet by name, as once by default; then, the name gone, its relaunch and the next one."""
    album = tmp_path / "album"
    _copied(album, [photo for person in people for photo in person[:1]])
    assert _night(tmp_path, "2026-05-01", detector=BEFORE).returncode == 0
    assert "complete already" in _night(tmp_path, "2026-05-01").stderr
    _copied(album, [photo for person in people for photo in person[1:2]])
    assert _night(tmp_path, "2026-05-02", detector=_default()).returncode == 10
    done = _night(tmp_path, "2026-05-02")
    assert done.returncode == 0
    assert f"with the models of the gallery: {BEFORE}" in done.stderr
    assert _detector(tmp_path / "nights/2026-05-02/enroll") == BEFORE


def test_with_nothing_to_go_on_from_the_default_is_taken(manifest: Path, tmp_path: Path) -> None:
    assert _detector(enroll_here(manifest, tmp_path / "out")) == _default() != BEFORE


def _night(place: Path, date: str, detector: str | None = None) -> subprocess.CompletedProcess[str]:
    settings = {**NIGHT_SETTINGS, **({"detect": {"model": detector}} if detector else {})}
    off = {name: {"enabled": False} for name in ("dedup", "identify", "drift")}
    places = {name: str(place / name) for name in ("nights", "people.gallery", "album")}
    runs, gallery, photos = places.values()
    config = {"runs": runs, "gallery": gallery, "photos": photos, "settings": settings, **off}
    (place / "night.yaml").write_text(yaml.safe_dump(config))
    return job_here("nightly", "--config", place / "night.yaml", "--date", date)


def _copied(album: Path, photos: list[Path]) -> None:
    for photo in photos:
        (album / photo.parent.name).mkdir(parents=True, exist_ok=True)
        (album / photo.parent.name / photo.name).write_bytes(photo.read_bytes())


def _detector(output: Path) -> str:
    """The name of the card whose weights made the faces of an output."""
    hashes = set(pq.read_table(output / "faces", columns=["detector_hash"])["detector_hash"].to_pylist())
    assert len(hashes) == 1
    return next(card.name for card in Registry.default().cards().values() if card.sha256 in hashes)


def _default() -> str:
    return Config().detect.model
