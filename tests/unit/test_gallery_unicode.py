"""Ids and attributes in several Unicode forms: what looks the same is one person."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from gallery_rows import content, people, spec

from frpipe.cli.main import main
from frpipe.core.errors import GalleryError
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.look_alikes import StoredForms, stored_forms
from frpipe.gallery.persons import persons
from frpipe.gallery.photos import RunPhotos
from frpipe.gallery.policy import Policy
from frpipe.gallery.search_view import SearchView
from frpipe.jobs.doctor.job import examine

NFC = "김지수"
NFD = unicodedata.normalize("NFD", NFC)


@pytest.fixture
def empty(tmp_path: Path) -> Gallery:
    return Gallery.create(str(tmp_path / "g"), spec())


@pytest.fixture
def old(empty: Gallery) -> Gallery:
    """A gallery whose writer took texts as they came: one person in both forms, in two shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frpipe.gallery.schema.canonical_column", lambda column: column)
        patch.setattr("frpipe.gallery.schema.canonical_text", lambda text: text)
        patch.setattr("frpipe.gallery.shard.canonical_column", lambda column: column)
        patch.setattr("frpipe.gallery.shard.canonical_text", lambda text: text)
        lifecycle.enroll(
            empty, [people([NFD, "ann"], seed=1, **{unicodedata.normalize("NFD", "팀"): [NFD, None]})]
        )
        lifecycle.enroll(empty, [people([NFC, "bob"], seed=2, **{"팀": [NFC, "x"]})])
    return empty


def test_two_forms_of_one_id_are_enrolled_as_one_person(empty: Gallery) -> None:
    table = people([NFC, NFD], faces=2, 팀=["가", unicodedata.normalize("NFD", "가")] * 2)
    done = lifecycle.enroll(empty, [table])
    assert done.added == 2
    snapshot = empty.snapshot()
    assert snapshot.subjects == 1
    rows = snapshot.show(NFD)
    assert {*rows["subject_id"].to_pylist()} == {NFC}
    assert {*rows["팀"].to_pylist()} == {"가"}
    # A path leads to a file: it stays as it was written.
    assert {*rows["image_uri"].to_pylist()} <= {f"{NFC}.jpg", f"{NFD}.jpg"}
    assert lifecycle.enroll(empty, [table], "append").version == done.version


def test_either_form_is_found(empty: Gallery) -> None:
    lifecycle.enroll(empty, [people([NFD], 팀=[NFD])])
    snapshot = empty.snapshot()
    team = unicodedata.normalize("NFD", "팀")
    for form in (NFC, NFD):
        assert snapshot.show(form).num_rows == 1
        assert persons(snapshot, {team: form})["subject_id"].to_pylist() == [NFC]
        assert SearchView(snapshot, {team: form}).rows == 1
    assert lifecycle.delete(empty, [NFD, NFC]).subjects == 1


def test_an_old_gallery_shows_both_forms_as_one_person(old: Gallery) -> None:
    snapshot = old.snapshot()
    assert (snapshot.rows, snapshot.subjects) == (4, 3)
    assert snapshot.attributes == ["팀"]
    assert persons(snapshot).select(["subject_id", "templates"]).to_pylist() == [
        {"subject_id": "ann", "templates": 1},
        {"subject_id": "bob", "templates": 1},
        {"subject_id": NFC, "templates": 2},
    ]
    assert snapshot.show(NFC)["팀"].to_pylist() == [NFC, NFC]
    assert SearchView(snapshot, {"팀": NFD}).subjects == 1
    ids = np.concatenate([ids.to_pylist() for ids, _ in snapshot.vectors()])
    assert sorted(ids) == sorted(["ann", "bob", NFC, NFC])


def test_the_doctor_lists_people_who_look_twice(old: Gallery) -> None:
    found = {each.name: each for each in examine(old, []).findings}["looks_twice"]
    assert (found.count, found.mend) == (2, False)
    assert {row["subject_id"] for row in found.shown} == {NFC}


@pytest.mark.parametrize("form", [NFC, NFD])
def test_to_delete_one_form_deletes_what_looks_the_same(old: Gallery, form: str) -> None:
    done = lifecycle.delete(old, [form])
    assert (done.subjects, done.deleted, done.unknown) == (1, 2, 0)
    assert old.snapshot().subjects == 2
    assert not stored_forms(old.snapshot())


def test_what_is_given_anew_replaces_both_forms(old: Gallery) -> None:
    done = lifecycle.enroll(old, [people([NFC], seed=3)], "replace")
    assert (done.replaced, done.deleted) == (1, 2)
    assert old.snapshot().show(NFC).num_rows == 1


def test_pairs_that_look_the_same_are_found(old: Gallery) -> None:
    found = stored_forms(old.snapshot())
    assert found == [StoredForms(NFC, (NFD, NFC) if NFD < NFC else (NFC, NFD), (1, 1), (f"{NFC}#0",))]
    assert found[0].looks_twice
    assert stored_forms(old.snapshot(0)) == []


def test_an_old_gallery_verifies_and_compacts(old: Gallery) -> None:
    before = content(old.snapshot())
    assert not lifecycle.verify(old)
    lifecycle.delete(old, ["ann"])
    lifecycle.compact(old)
    assert not lifecycle.verify(old)
    assert [row for row in before if row[0] != "ann"] == content(old.snapshot())


def test_a_merge_and_a_copy_of_an_old_gallery_hold_one_form(old: Gallery, tmp_path: Path) -> None:
    new = Gallery.create(str(tmp_path / "new"), spec())
    # Both templates of the pair have one key: one of them stays.
    assert lifecycle.merge(new, old).added == 3
    assert not stored_forms(new.snapshot())
    assert not lifecycle.verify(new)


def test_two_columns_of_one_name_are_refused(empty: Gallery) -> None:
    table = people(["ann"], 팀=["x"]).append_column(unicodedata.normalize("NFD", "팀"), pa.array(["y"]))
    with pytest.raises(GalleryError, match="names of the columns"):
        lifecycle.enroll(empty, [table])


def test_the_commands_take_either_form(empty: Gallery, capsys: pytest.CaptureFixture[str]) -> None:
    lifecycle.enroll(empty, [people([NFC], Name=[NFC])])
    assert main(["gallery", "list", empty.uri, "--where", f"Name={NFD}", "--json"]) == 0
    assert NFC in capsys.readouterr().out
    assert main(["gallery", "show", empty.uri, NFD]) == 0
    assert main(["gallery", "delete", empty.uri, NFD]) == 0
    assert "1 person deleted" in capsys.readouterr().out


@pytest.mark.parametrize("policy", ["append", "skip"])
def test_a_template_that_is_stored_in_both_forms_is_replaced_whole(old: Gallery, policy: Policy) -> None:
    """Else the older of the two would stay beside the new one, under the same key."""
    assert old.snapshot().show(NFC).num_rows == 2
    run = RunPhotos()
    run.add(pa.array(["nobody"] if policy == "append" else [NFC]), pa.nulls(1, pa.string()))
    done = lifecycle.enroll(old, [people([NFC], seed=7)], policy, photos=run)
    assert (done.replaced, done.deleted) == (1, 2)
    assert old.snapshot().show(NFC).num_rows == 1
    assert not any(each.looks_twice for each in stored_forms(old.snapshot()))
