"""A photo has one outcome in a gallery: what a run says of it is what the gallery has of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from album_runs import Shot, enrolled, face
from gallery_rows import people, spec

from frpipe.cli.main import main
from frpipe.core.config import Config
from frpipe.core.errors import GalleryError
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.outcome import Outcome
from frpipe.jobs import gallery_photo
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.consolidate.result import Consolidated
from frpipe.jobs.gallery_files import export, import_file
from frpipe.jobs.photo import PhotoFace

ANNA, BERT, STRANGER = face(1), face(2), face(3)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class Place:
    """A folder with runs and one gallery."""

    def __init__(self, root: Path) -> None:
        self.root, self._day = root, 0

    def put(self, shots: Mapping[str, Shot], run: dict[str, Any] | None = None, **how: Any) -> Consolidated:
        """Enroll photos and put them into the gallery."""
        self._day += 1
        out = enrolled(self.root / f"run-{self._day}", shots, day=self._day, **(run or {}))
        return self.again(out, **how)

    def again(self, out: str, **how: Any) -> Consolidated:
        how = {"policy": "append", "threshold": 0.5, **how}
        return Consolidation(out, str(self.root / "g"), **how).run()

    @property
    def last(self) -> str:
        return str(self.root / f"run-{self._day}")

    def rows(self) -> list[tuple[str, str]]:
        """Subject and face id of all templates."""
        tables = Gallery.open(str(self.root / "g")).snapshot().tables(vectors=False)
        return sorted((r["subject_id"], r["face_id"]) for t in tables for r in t.to_pylist())


BEFORE = {"anna/1.jpg": Shot("anna", [STRANGER, face(9)]), "anna/2.jpg": Shot("anna", [ANNA])}


@pytest.mark.parametrize("policy", ["skip", "append", "replace"])
@pytest.mark.parametrize(
    ("now", "left"),
    [
        (Shot("anna", [ANNA]), [("anna", "anna/1.jpg#0")]),
        (Shot.empty("anna"), []),
        (Shot.rejected("anna"), []),
        (Shot.empty(None), []),
        (Shot("bert", [BERT]), [("bert", "anna/1.jpg#0")]),
    ],
    ids=["another face", "no face", "rejected", "no face, of nobody", "another person"],
)
def test_what_a_photo_was_before_is_gone(
    place: Place, policy: str, now: Shot, left: list[tuple[str, str]]
) -> None:
    place.put(BEFORE, policy="skip")
    done = place.put({"anna/1.jpg": now, "anna/2.jpg": BEFORE["anna/2.jpg"]}, policy=policy)
    assert place.rows() == sorted([*left, ("anna", "anna/2.jpg#0")])
    assert done.superseded == (0 if left == [("anna", "anna/1.jpg#0")] else 1)
    assert (done.unchanged, done.replaced + done.added) == (1, len(left))
    entry = Gallery.open(str(place.root / "g")).log()[-1]
    assert entry.counts["deleted"] == 1
    assert entry.counts.get("superseded", 0) == done.superseded
    assert len(entry.subjects) == 1


def test_a_photo_of_which_no_template_is_left_takes_its_person_away_and_that_is_said(place: Place) -> None:
    place.put({"anna/1.jpg": Shot("anna", [ANNA])})
    done = place.put({"anna/1.jpg": Shot.empty("anna")})
    assert place.rows() == []
    assert "superseded 1 older templates of photos, which are not so any more" in done.text()


def test_skip_leaves_known_people_alone_but_for_the_photos_that_the_gallery_has(place: Place) -> None:
    place.put({"anna/1.jpg": Shot("anna", [STRANGER])})
    done = place.put({"anna/1.jpg": Shot("anna", [ANNA]), "anna/3.jpg": Shot("anna", [ANNA])}, policy="skip")
    assert (done.replaced, done.skipped, done.superseded) == (1, 1, 0)
    assert place.rows() == [("anna", "anna/1.jpg#0")]


def test_another_faces_policy_leaves_no_template_of_the_first(place: Place) -> None:
    place.put({"anna/1.jpg": Shot("anna", [ANNA, BERT], size={1: 1.4})})
    assert place.rows() == [("anna", "anna/1.jpg#0")]
    done = place.again(place.last, faces="largest")
    assert place.rows() == [("anna", "anna/1.jpg#1")]
    assert (done.added, done.superseded) == (1, 1)


@pytest.mark.parametrize("mode", ["mean", "quality-mean", "medoid"])
@pytest.mark.parametrize("policy", ["skip", "append", "replace"])
def test_another_template_mode_leaves_no_template_of_the_first(place: Place, mode: str, policy: str) -> None:
    shots = {f"anna/{n}.jpg": Shot("anna", [face(n, near=1)]) for n in range(2, 6)}
    whole = [("anna", f"anna/{n}.jpg#0") for n in range(2, 6)]
    place.put(shots)
    assert place.rows() == whole
    for _ in range(2):
        place.again(place.last, templates=mode, policy=policy)
        assert len(place.rows()) == 1
    again = place.again(place.last, templates=mode, policy=policy)
    assert (again.unchanged, again.version) == (1, 2)
    if (mode, policy) != ("medoid", "skip"):  # the other photos of the person are new to the gallery
        place.again(place.last, policy=policy)
        assert place.rows() == whole


def test_a_derived_template_goes_with_any_of_its_photos_and_what_else_it_was_made_of_is_said(
    place: Place,
) -> None:
    shots = {f"anna/{n}.jpg": Shot("anna", [face(n, near=1)]) for n in range(2, 5)}
    place.put({**shots, "bert/1.jpg": Shot("bert", [BERT])}, templates="mean")
    kept = [row for row in place.rows() if row[0] == "bert"]
    done = place.put({"anna/2.jpg": Shot.empty("anna")}, templates="mean")
    assert place.rows() == kept
    assert (done.superseded, done.incomplete) == (1, 1)
    assert "derived from other photos too" in done.text()
    place.put(shots | {"anna/2.jpg": Shot.empty("anna")}, templates="mean")
    assert [row[0] for row in place.rows()] == ["anna", "bert"]


@pytest.mark.parametrize("reason", ["not_found", "access_denied", "fetch_failed", "hung_worker"])
def test_a_photo_that_could_not_be_read_this_time_keeps_its_template(place: Place, reason: str) -> None:
    place.put({"anna/1.jpg": Shot("anna", [ANNA])})
    done = place.put({"anna/1.jpg": Shot.rejected("anna", reason)})
    assert place.rows() == [("anna", "anna/1.jpg#0")]
    assert (done.superseded, done.unread) == (0, 1)
    assert "unread     1 photo this time" in done.text()


def test_a_run_that_names_nobody_says_nothing_of_whose_a_face_is(place: Place) -> None:
    place.put({"anna/1.jpg": Shot("anna", [ANNA])})
    done = place.put({"anna/1.jpg": Shot(None, [ANNA])})
    assert place.rows() == [("anna", "anna/1.jpg#0")]
    assert (done.unnamed, done.superseded) == (1, 0)


@pytest.mark.parametrize("policy", ["skip", "append", "replace"])
@pytest.mark.parametrize("mode", ["all", "mean", "medoid"])
def test_the_same_run_twice_changes_nothing(place: Place, policy: str, mode: str) -> None:
    first = place.put(BEFORE, templates=mode)
    again = place.again(place.last, templates=mode, policy=policy)
    assert (again.version, again.unchanged) == (first.version, first.templates)


ONE, OTHER = {"root": "/a"}, {"root": "/b"}


@pytest.mark.parametrize("policy", ["skip", "append", "replace"])
@pytest.mark.parametrize("mode", ["all", "mean"])
@pytest.mark.parametrize("now", [Shot("p1", [BERT]), Shot.empty("p1")], ids=["a face", "no face"])
def test_other_photos_with_the_same_ids_are_refused_before_anything_is_written(
    place: Place, policy: str, mode: str, now: Shot
) -> None:
    place.put({"p1/1.jpg": Shot("p1", [ANNA])}, ONE, templates=mode)
    before, files = place.rows(), len(list((place.root / "g").rglob("*")))
    with pytest.raises(GalleryError, match="1 template is of photos that lay at another place") as refused:
        place.put({"p1/1.jpg": now}, OTHER, templates=mode, policy=policy)
    assert "--source" in refused.value.remedy and "--same-photos" in refused.value.remedy
    if mode == "all":
        assert "/a" in str(refused.value) and "/b" in str(refused.value)
    assert (place.rows(), len(list((place.root / "g").rglob("*")))) == (before, files)


def test_other_photos_live_beside_them_under_the_name_of_their_source(place: Place) -> None:
    place.put({"p1/1.jpg": Shot("p1", [ANNA])}, ONE)
    place.put({"p1/1.jpg": Shot("p1", [BERT])}, OTHER, source="hall")
    assert place.rows() == [("p1", "hall/p1/1.jpg#0"), ("p1", "p1/1.jpg#0")]
    place.put({"p1/1.jpg": Shot.empty("p1")}, OTHER, source="hall")
    assert place.rows() == [("p1", "p1/1.jpg#0")]


def test_photos_that_were_moved_are_the_same_if_their_faces_are_or_if_one_says_so(place: Place) -> None:
    place.put({"p1/1.jpg": Shot("p1", [ANNA]), "p1/2.jpg": Shot("p1", [ANNA])}, ONE)
    done = place.put({"p1/1.jpg": Shot("p1", [ANNA])}, OTHER)
    assert (done.replaced, done.added) == (1, 0)
    place.put({"p1/1.jpg": Shot("p1", [BERT]), "p1/2.jpg": Shot.empty("p1")}, ONE, same_photos=True)
    assert place.rows() == [("p1", "p1/1.jpg#0")]


def test_photos_below_two_manifests_are_told_apart_and_older_rows_know_no_place(place: Place) -> None:
    at = {"relative": True}
    first = enrolled(place.root / "a/out", {"p1/1.jpg": Shot("p1", [ANNA])}, **at)
    second = enrolled(place.root / "b/out", {"p1/1.jpg": Shot("p1", [BERT])}, **at)
    place.again(first)
    with pytest.raises(GalleryError, match="another place"):
        place.again(second)
    assert place.again(first).unchanged == 1


def test_photos_without_a_place_are_taken_for_the_same(place: Place) -> None:
    place.put({"1": Shot("p1", [ANNA])}, {"root": None})
    assert place.put({"1": Shot("p1", [BERT])}, {"root": None}).replaced == 1


def test_a_merge_and_an_import_do_not_replace_other_photos_either(place: Place, tmp_path: Path) -> None:
    place.put({"p1/1.jpg": Shot("p1", [ANNA])}, ONE)
    gallery = Gallery.open(str(place.root / "g"))
    out = enrolled(tmp_path / "other", {"p1/1.jpg": Shot("p1", [BERT])}, **OTHER)
    Consolidation(out, str(tmp_path / "h")).run()
    other, target = Gallery.open(str(tmp_path / "h")), str(tmp_path / "exported")
    export(other, target, "parquet")
    for bring in (partial(lifecycle.merge, gallery, other), partial(import_file, gallery, target)):
        with pytest.raises(GalleryError, match="another place"):
            bring()
    assert gallery.snapshot().number == 1
    assert lifecycle.merge(gallery, other, source="h").added == 1
    assert import_file(gallery, target, source_name="h").unchanged == 1
    assert lifecycle.merge(gallery, other, same_photos=True).replaced == 1
    assert place.rows() == [("p1", "h/p1/1.jpg#0"), ("p1", "p1/1.jpg#0")]


def test_what_a_derived_template_was_made_of_travels_and_is_not_shown(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shots = {f"anna/{n}.jpg": Shot("anna", [face(n, near=1)]) for n in range(2, 5)}
    place.put(shots, templates="mean")
    gallery, target = Gallery.open(str(place.root / "g")), str(tmp_path / "exported")
    export(gallery, target, "parquet")
    assert import_file(gallery, target).unchanged == 1
    copy = Gallery.create(str(tmp_path / "copy"), gallery.spec)
    assert (import_file(copy, target).added, lifecycle.merge(copy, gallery).unchanged) == (1, 1)
    for words in (["list", copy.uri], ["show", copy.uri, "anna"], ["list", copy.uri, "--json"]):
        assert main(["gallery", *words]) == 0
        assert "made_of" not in capsys.readouterr().out
    out = enrolled(tmp_path / "later", {"anna/3.jpg": Shot.empty("anna")}, day=9)
    assert Consolidation(out, copy.uri).run().superseded == 1


@pytest.fixture
def camera(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, np.ndarray]]:
    """By path the content of a photo and the face on it; no model looks at it."""
    shows: dict[str, tuple[str, np.ndarray]] = {}

    def face_of(photo: str, *_: object) -> PhotoFace:
        content, vector = shows[photo]
        return PhotoFace(vector, 0.9, (0.0, 0.0, 1.0, 1.0), 1, content * 64)

    monkeypatch.setattr(gallery_photo, "face_of", face_of)
    monkeypatch.setattr(gallery_photo, "check_config", lambda *_: None)
    monkeypatch.setattr(gallery_photo, "for_gallery", lambda config, _: config)
    return shows


def test_one_photo_is_known_by_its_content_and_its_face_is_of_one_person(
    tmp_path: Path, camera: dict[str, tuple[str, np.ndarray]]
) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec())

    def put(photo: str, subject: str) -> Outcome:
        return gallery_photo.enroll_photos(gallery, [photo], subject, {}, Config())

    camera["snap.jpg"] = "a", ANNA
    assert put("snap.jpg", "anna").added == 1
    assert put("snap.jpg", "anna").unchanged == 1
    camera["snap.jpg"] = "b", BERT  # the same file, another picture: another photo
    assert (put("snap.jpg", "bert").added, gallery.snapshot().rows) == (1, 2)
    moved = put("snap.jpg", "carl")  # it was not bert
    assert (moved.added, moved.superseded, gallery.snapshot().show("bert").num_rows) == (1, 1, 0)
    camera["snap.jpg"] = "b", STRANGER  # another face of a photo of two
    assert (put("snap.jpg", "dora").superseded, gallery.snapshot().rows) == (0, 3)
    assert gallery.snapshot().show("anna")["image_uri"].to_pylist() == [str(Path("snap.jpg").absolute())]


def test_skip_takes_a_new_photo_of_whom_nothing_else_is_left(place: Place) -> None:
    """Else the person would be gone, though the run has a photo of theirs, and back with the same command."""
    place.put({"anna/1.jpg": Shot("anna", [ANNA])}, policy="skip")
    now = {"anna/1.jpg": Shot.rejected("anna"), "anna/2.jpg": Shot("anna", [face(4, near=1)])}
    done = place.put(now, policy="skip")
    assert (done.added, done.skipped, done.superseded) == (1, 0, 1)
    assert place.rows() == [("anna", "anna/2.jpg#0")]
    assert place.again(place.last, policy="skip").version == done.version


def test_skip_follows_a_medoid_to_another_photo(place: Place) -> None:
    first = {f"anna/{n}.jpg": Shot("anna", [face(n, near=1)]) for n in (2, 3)}
    place.put(first, templates="medoid", policy="skip")
    (old,) = place.rows()
    changed = {
        **first,
        old[1].removesuffix("#0"): Shot("anna", [STRANGER]),
        "anna/9.jpg": Shot("anna", [ANNA]),
    }
    place.put(changed, templates="medoid", policy="skip")
    assert len(place.rows()) == 1 and place.rows() != [old]


def test_skip_does_not_refuse_what_it_leaves_alone(tmp_path: Path) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec())
    first, second = (
        people(["anna"], seed=seed).set_column(2, "image_uri", pa.array([f"/{seed}/anna.jpg"]))
        for seed in (1, 2)
    )
    lifecycle.enroll(gallery, [first])
    assert lifecycle.enroll(gallery, [second], "skip").skipped == 1
    with pytest.raises(GalleryError, match="another place"):
        lifecycle.enroll(gallery, [second], "append")
