"""A photo has one outcome in a gallery: what a run says of it is what the gallery has of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from album_runs import Shot, enrolled, face

from frpipe.core.errors import GalleryError
from frpipe.flows.consolidate.job import Consolidated, Consolidation
from frpipe.gallery.gallery import Gallery

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
    assert "superseded 1 older templates: their photos have become something else" in done.text()


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
    assert "unread     1 photos this time" in done.text()


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
    with pytest.raises(GalleryError, match="1 templates are of photos that lay at another place") as refused:
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
