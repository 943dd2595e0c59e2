"""Several photos in one call of identify, by command and from Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from real_photos import people_with

import frpipe
from frpipe.cli.main import main
from frpipe.core.errors import FaceError

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def photos(real_photos: Path, real_card: Callable[[str], object]) -> list[Path]:
    """Two people in the gallery, each on another photo, and somebody else."""
    for name in ("yunet_2023mar", "sface_2021dec"):
        real_card(name)
    (_, anna), (_, bela), (stranger, _) = people_with(2, real_photos)[:3]
    return [anna, bela, stranger]


@pytest.fixture(scope="module")
def gallery(photos: list[Path], real_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    made = frpipe.Gallery.create(str(tmp_path_factory.mktemp("several") / "G"))
    for name, (first, _) in zip(("anna", "bela"), people_with(2, real_photos), strict=False):
        made.enroll(first, name, faces="centre-largest")
    return made.uri


@pytest.fixture
def broken(tmp_path: Path) -> str:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no photo")
    return str(path)


@pytest.fixture
def say(gallery: str, capsys: pytest.CaptureFixture[str]) -> Say:
    def run(*words: object) -> tuple[int, str, str]:
        code = main(["identify", "--gallery", gallery, *map(str, words)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_each_photo_has_a_section_in_the_order_given(photos: list[Path], say: Say) -> None:
    code, out, _ = say("--photo", photos[1], photos[0], "--photo", photos[2])
    assert code == 0
    lines = out.splitlines()
    heads = [line for line in lines if line in {str(photo) for photo in photos}]
    assert heads == [str(photos[n]) for n in (1, 0, 2)]
    said = [lines[lines.index(head) + 1].strip().partition(":")[0] for head in heads]
    assert said == ["bela", "anna", "stranger"]
    assert out.count("threshold: similarity") == 1


def test_as_json_they_are_a_list_and_the_answers_are_those_of_single_photos(
    photos: list[Path], say: Say
) -> None:
    code, out, _ = say(*photos, "--json")
    several = json.loads(out)
    assert (code, [one.pop("photo") for one in several]) == (0, [str(photo) for photo in photos])
    for photo, one in zip(photos, several, strict=True):
        alone = json.loads(say(photo, "--json")[1])
        near = [pytest.approx(each.pop("similarity"), abs=1e-5) for each in alone["candidates"]]
        assert [each.pop("similarity") for each in one["candidates"]] == near
        for each in (*alone["candidates"], *one["candidates"]):
            del each["distance"]
        assert one == alone


def test_a_photo_that_fails_is_told_and_stops_no_other(photos: list[Path], broken: str, say: Say) -> None:
    code, out, err = say(photos[0], broken, "missing.jpg", photos[1])
    assert code == FaceError.exit_code
    assert "anna:" in out and "bela:" in out
    assert "error [face]: the photo gives no face: unknown_format" in out and "not_found" in out
    assert "2 of 4 photos without an answer" in err
    code, out, _ = say(photos[0], broken, "--json")
    first, second = json.loads(out)
    assert (code, first["subject_id"], second["photo"]) == (8, "anna", broken)
    assert second["error"]["code"] == "face" and "unknown_format" in second["error"]["message"]


def test_exit_codes_of_several(photos: list[Path], broken: str, say: Say) -> None:
    assert say(*photos[:2], "--check")[0] == 0
    assert say(*photos, "--check")[0] == 12
    assert say(*photos, broken, "--check")[0] == 8
    assert say(broken, broken)[0] == 8
    assert say(broken)[1] == ""
    code, _, err = say()
    assert code == 2 and "no photo is given" in err


def test_from_python_a_list_has_a_list_of_answers(photos: list[Path], gallery: str, broken: str) -> None:
    anna, nothing, stranger = frpipe.identify([str(photos[0]), broken, str(photos[2])], gallery)
    assert not isinstance(anna, FaceError) and not isinstance(stranger, FaceError)
    assert (anna.subject_id, stranger.subject_id) == ("anna", None)
    assert isinstance(nothing, FaceError)
    opened = frpipe.Gallery(gallery)
    assert opened.identify([]) == []
    assert [each["subject_id"] for each in opened.identify((photos[1],), top=1)] == ["bela"]  # type: ignore[index]
    assert frpipe.identify(photos[0], gallery).subject_id == "anna"
    with pytest.raises(FaceError, match="unknown_format"):
        frpipe.identify(broken, gallery)
