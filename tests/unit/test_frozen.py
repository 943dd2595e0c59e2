"""Outputs of the code of schema version 1 and algorithm 1: all readers read them, and find them complete."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import frozen
import pytest
from frozen import HOME, NIGHTS, THRESHOLD, Frozen, holds, same_keys
from PIL import Image

from frpipe.cli.main import main
from frpipe.core.config import Config, load_config
from frpipe.core.errors import GalleryError, GalleryMismatch, OutputError
from frpipe.core.night_config import load_night
from frpipe.core.recipe import Recipe
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.dedup.job import Dedup
from frpipe.jobs.enroll.job import Enrollment, run_spec
from frpipe.jobs.features import FeatureRun, stored_settings
from frpipe.jobs.going_on import columns_of, for_gallery, going_on
from frpipe.jobs.identify.job import Identifying
from frpipe.jobs.nightly.job import Night
from frpipe.jobs.nightly.plan import night_plan
from frpipe.jobs.photo import spec_of
from frpipe.jobs.replay.source import ReplaySource
from frpipe.jobs.verify.job import PairVerification
from frpipe.models.registry import Registry

GALLERIES = ("gallery-plain", "gallery-encrypted")
RUNS = ("enroll-finished", "enroll-probes")


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    return frozen.expected()


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Frozen]:
    with frozen.copied(tmp_path / "frozen") as found:
        yield found


@pytest.fixture
def home() -> Iterator[Frozen]:
    with frozen.at_home() as found:
        yield found


def test_what_a_test_adds_to_a_card_is_laid_over_it_and_the_weights_stay(tmp_path: Path) -> None:
    amended = {frozen.DETECTOR: {"limits": "for squares", "detector": {"nms_iou": 0.4}}}
    with frozen.copied(tmp_path / "frozen", amended):
        registry = Registry.default()
        card = registry.card(frozen.DETECTOR)
        assert card.detector is not None
        assert (card.limits, card.detector.nms_iou, card.detector.score_threshold) == (
            "for squares",
            0.4,
            0.5,
        )
        assert registry.find(card) == tmp_path / f"frozen/models/{frozen.DETECTOR}.onnx"


@pytest.mark.parametrize("name", RUNS)
def test_the_rows_of_a_run_are_those_that_were_written(
    name: str, copy: Frozen, known: dict[str, Any]
) -> None:
    found = frozen.enrolled(copy / name)
    holds(found, known["runs"][name])
    same_keys(found, known["runs"][name])
    assert frozen.metadata(copy / name) == known["metadata"]


def test_the_settings_of_a_run_make_the_recipe_that_it_names(copy: Frozen, known: dict[str, Any]) -> None:
    for name in RUNS:
        run = FeatureRun.open(str(copy / name))
        assert run.spec != spec_of(frozen.config())
        assert run.spec == spec_of(for_gallery(frozen.config(), run.spec))
        assert run.spec.preprocessing_hash == known["metadata"]["frpipe.preprocessing_hash"]
        assert run.run_id == known["identity"][name]["manifest"][:12]


def test_rejects_are_counted_shown_and_listed(copy: Frozen, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rejects", str(copy / "enroll-finished"), "--no-face"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "11 photos, 2 of them rejected" in said
    assert "r-04" in said and "r-07" in said and "r-09" in said
    assert main([*words, "--manifest", str(copy / "again.csv"), "--json"]) == 0
    rows = (copy / "again.csv").read_text().splitlines()
    assert "department" in rows[0] and len(rows) == 4


def test_a_contact_sheet_is_drawn(home: Frozen) -> None:
    assert main(["sheet", str(home / "enroll-finished"), "-o", str(home / "sheet.png")]) == 0
    with Image.open(home / "sheet.png") as sheet:
        assert min(sheet.size) > 200


def test_the_rejected_rows_can_be_done_again_with_the_settings_of_the_run(copy: Frozen) -> None:
    run = str(copy / "enroll-finished")
    source = ReplaySource.open(run)

    def changes(*settings: str) -> dict[str, Any]:
        config = load_config(None, [*stored_settings(run), *settings])
        begun = source.identity["recipe"]
        spec = run_spec(going_on(config, begun), "", columns=columns_of(begun))
        return source.changes(spec.recipe)

    assert changes() == {}
    assert changes("decode.truncated=accept") == {"decode.truncated": "accept"}
    with pytest.raises(OutputError, match=r"detect\.max_side_px"):
        changes("detect.max_side_px=320")
    with pytest.raises(OutputError, match="algorithm was 1, is 2"):
        changes("detect.turns=auto")


def test_pairs_of_its_photos_are_compared(copy: Frozen, known: dict[str, Any]) -> None:
    output = copy / "verify-again"
    PairVerification(
        str(copy / "pairs.csv"), str(copy / "enroll-finished"), str(output), threshold=THRESHOLD
    ).run()
    holds(frozen.verified(output), known["verify"])


def test_people_are_erased_from_it(copy: Frozen, known: dict[str, Any]) -> None:
    run = copy / "enroll-finished"
    assert main(["erase", str(run), "--subject", "bela", "--copies", "erase"]) == 0
    left = {
        name
        for name, row in known["runs"]["enroll-finished"]["images"].items()
        if row["subject_id"] != "bela"
    }
    assert set(frozen.enrolled(run)["images"]) == left
    assert FeatureRun.open(str(run)).faces == len(known["runs"]["enroll-finished"]["faces"]) - 2


@pytest.mark.parametrize("name", RUNS)
def test_the_same_enroll_command_says_that_the_run_is_complete(name: str, home: Frozen) -> None:
    manifest = home / ("photos.csv" if name == "enroll-finished" else "probes.csv")
    before = _state(home / name)
    job = Enrollment(str(manifest), str(home / name), frozen.config(), say=(said := []).append)
    report = job.run()
    assert "photos were looked at once, and goes on so" in said[0]
    assert said[1:] == ["this run is complete already: nothing to do"]
    assert report.rows == {"enroll-finished": 11, "enroll-probes": 4}[name]
    assert _state(home / name) == before


def test_another_setting_on_the_same_output_is_refused(home: Frozen) -> None:
    other = load_config(None, [*frozen.settings(), "detect.max_side_px=320"])
    for name in ("enroll-finished", "enroll-half"):
        with pytest.raises(OutputError, match="max_side_px was 640, is 320"):
            Enrollment(str(home / "photos.csv"), str(home / name), other).run()


@pytest.mark.parametrize(
    "setting", ["detect.turns=auto", "detect.refine=auto", "detect.min_face_px=48", "detect.turns=off"]
)
def test_whoever_asks_for_turns_or_refinement_is_told_that_the_output_has_none(
    setting: str, home: Frozen
) -> None:
    other = load_config(None, [*frozen.settings(), setting])
    for name in ("enroll-finished", "enroll-half"):
        with pytest.raises(OutputError, match=r"recipe\.algorithm was 1, is 2"):
            Enrollment(str(home / "photos.csv"), str(home / name), other).run()
    with pytest.raises(GalleryMismatch, match="preprocessing"):
        Identifying(
            str(home / "probes.csv"), str(home / "gallery-plain"), str(home / "found"), config=other
        ).run()


@pytest.mark.parametrize("name", ["identify", "dedup", "verify"])
def test_the_same_command_says_that_a_search_is_complete(name: str, copy: Frozen) -> None:
    output, said = str(copy / name), []
    before = _state(copy / name)
    plain, features = str(copy / "gallery-plain"), str(copy / "enroll-finished")
    jobs: dict[str, Callable[[], object]] = {
        "identify": Identifying(
            str(copy / "enroll-probes"), plain, output, threshold=THRESHOLD, say=said.append
        ).run,
        "dedup": Dedup(output, gallery=plain, threshold=THRESHOLD, say=said.append).run,
        "verify": PairVerification(
            str(copy / "pairs.csv"), features, output, threshold=THRESHOLD, say=said.append
        ).run,
    }
    jobs[name]()
    assert said == ["this run is complete already: nothing to do"]
    assert _state(copy / name) == before


def test_what_searches_have_found_is_read(copy: Frozen, known: dict[str, Any]) -> None:
    holds(frozen.identified(copy / "identify"), known["identify"])
    holds(frozen.duplicates(copy / "dedup"), known["dedup"])
    holds(frozen.verified(copy / "verify"), known["verify"])


@pytest.mark.parametrize("name", GALLERIES)
def test_a_gallery_holds_its_people_and_versions(name: str, copy: Frozen, known: dict[str, Any]) -> None:
    found = frozen.gallery(copy / name)
    holds(found, known["galleries"][name])
    assert found["templates"].keys() == known["galleries"][name]["templates"].keys()
    gallery = Gallery.open(str(copy / name))
    assert not list(lifecycle.verify(gallery))
    before = gallery.snapshot(1)
    assert (before.subjects, before.rows) == (6, 8)


@pytest.mark.parametrize("name", GALLERIES)
def test_a_gallery_is_listed_and_shown(
    name: str, copy: Frozen, known: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    place, people = str(copy / name), known["galleries"][name]["people"]
    assert main(["gallery", "list", place, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["subject_id"]: row["templates"] for row in rows} == people
    assert main(["gallery", "show", place, "anna"]) == 0
    assert f"({people['anna']} templates, version 2)" in capsys.readouterr().out
    assert main(["gallery", "list", place, "--where", "department=Stores"]) == 0
    assert "(2 people, version 2)" in capsys.readouterr().out
    assert main(["gallery", "log", place]) == 0


@pytest.mark.parametrize("name", GALLERIES)
def test_a_photo_is_found_with_the_settings_that_the_gallery_was_made_with(
    name: str, copy: Frozen, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--gallery", str(copy / name), "--threshold", str(THRESHOLD), "--json"]
    words += [word for setting in frozen.settings() for word in ("--set", setting)]
    for photo, who in (("photos/bela-1.png", "bela"), ("later/gina/1.png", None)):
        assert main(["identify", str(copy / photo), *words]) == 0
        assert json.loads(capsys.readouterr().out)["subject_id"] == who
    assert main(["identify", str(copy / "photos/bela-1.png"), *words, "--set", "embed.flip=true"]) == 10


def test_an_encrypted_gallery_needs_its_key(copy: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FRPIPE_GALLERY_KEY_FILE")
    with pytest.raises(GalleryError, match="key"):
        list(Gallery.open(str(copy / "gallery-encrypted")).snapshot().tables())


@pytest.mark.parametrize("name", GALLERIES)
def test_features_of_the_same_recipe_come_into_a_gallery(
    name: str, copy: Frozen, known: dict[str, Any]
) -> None:
    """Into the one they are new, the other has them already."""
    done = Consolidation(str(copy / "enroll-probes"), str(copy / name), policy="append").run()
    new = 3 if name == "gallery-plain" else 0
    assert (done.added, done.unchanged) == (new, 3 - new)
    people = known["galleries"]["gallery-encrypted"]["people"]
    if name == "gallery-plain":
        people = {who: faces for who, faces in people.items() if who != "emil"}
    assert frozen.gallery(copy / name)["people"] == people
    again = Consolidation(str(copy / "enroll-finished"), str(copy / name), policy="skip").run()
    assert again.added == (1 if name == "gallery-plain" else 0)


def test_features_of_another_recipe_do_not(copy: Frozen) -> None:
    other = spec_of(load_config(None, [*frozen.settings(), "embed.flip=true"]))
    with pytest.raises(GalleryMismatch, match="preprocessing"):
        Gallery.open(str(copy / "gallery-plain")).spec.check_same(other)


def test_galleries_of_the_recipe_are_merged_and_compared(copy: Frozen) -> None:
    plain, secret = (Gallery.open(str(copy / name)) for name in GALLERIES)
    lifecycle.delete(secret, ["anna", "fred"], suppress=None)
    merged = lifecycle.merge(secret, plain)
    assert (merged.added, merged.unchanged) == (2, 5)
    apart = lifecycle.diff(plain.snapshot(), secret.snapshot())
    assert (apart.added, apart.removed, apart.changed) == (("emil",), (), ("bela",))


def test_a_gallery_is_compacted_and_still_found(copy: Frozen, known: dict[str, Any]) -> None:
    gallery = Gallery.open(str(copy / "gallery-plain"))
    lifecycle.compact(gallery)
    found = frozen.gallery(copy / "gallery-plain")
    holds(found["templates"], known["galleries"]["gallery-plain"]["templates"])
    shutil.rmtree(copy / "enroll-finished")
    assert not list(lifecycle.verify(gallery))


def test_a_finished_night_is_complete_and_one_that_was_cut_short_goes_on_where_it_stopped(
    home: Frozen, known: dict[str, Any]
) -> None:
    config = load_night(home / "night.yaml")
    holds(frozen.night(home / "nights" / NIGHTS[0]), known["nights"][NIGHTS[0]])
    planned = night_plan(config, NIGHTS[1]).text()
    assert f"compared to  the night of {NIGHTS[0]}" in planned
    assert [line.split()[0] for line in planned.splitlines() if "done already" in line] == ["scan"]
    said: list[str] = []
    report, bad = Night(config, NIGHTS[0], say=said.append).run()
    assert (report["night"], bad) == (NIGHTS[0], None)
    assert said[-1] == "this night is complete already: nothing to do"


def test_photos_keep_their_times_so_that_a_night_knows_them(home: Frozen, known: dict[str, Any]) -> None:
    found = known["nights"][NIGHTS[1]]["listing"]
    assert {row["image_id"]: row["version"] for row in found} == {
        str(path.relative_to(home / "album")): str(path.stat().st_mtime_ns)
        for path in (home / "album").rglob("*.png")
    }


def test_they_name_no_place_but_their_own(known: dict[str, Any]) -> None:
    for path in frozen.FIXTURES.rglob("*.json"):
        data = path.read_text(encoding="utf-8")
        assert not [
            word for word in data.split('"') if word.startswith("/") and not word.startswith(str(HOME))
        ]


def _recipe(config: Config) -> Recipe:
    return run_spec(config, "").recipe


def _state(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
