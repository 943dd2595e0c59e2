"""Night after night with photos of people who were deleted: under their names, under new ones, changed."""

from __future__ import annotations

import hashlib
import random
import unicodedata
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest
from gallery_rows import content
from made_runs import Photo, made_run

from frpipe.cli.main import main
from frpipe.core.errors import ManifestError
from frpipe.core.night_config import NightConfig, ScanStep
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.spec import GallerySpec
from frpipe.gallery.suppression import Names, SuppressionEntry, Suppressions, _entry
from frpipe.io.output.parts import write_part
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.listed import in_blocks
from frpipe.jobs.consolidate.job import Consolidated, Consolidation
from frpipe.jobs.enroll.job import Enrollment
from frpipe.jobs.erase.photos import photos_of
from frpipe.jobs.nightly import searches
from frpipe.jobs.nightly.faces import enrolled, looked, scan_words, source_of
from frpipe.jobs.nightly.journal import NightJournal
from frpipe.jobs.nightly.known_photos import ObeyedEntries, read_known
from frpipe.jobs.nightly.photos import AGAIN, known_of, look, tried_again, write_again
from frpipe.jobs.nightly.tables import read_table
from frpipe.jobs.nightly.work import Work
from frpipe.jobs.obeying import suppressions
from frpipe.runtime.runtime import Runtime

ANNA = [Photo("anna/1.jpg", "anna", "a1"), Photo("anna/2.jpg", "anna", "a2")]
SPEC = GallerySpec(16, "e" * 64, "p" * 64, "d" * 64)
BOB = [Photo("bob/1.jpg", "bob", "b1")]


def _consolidated(run: Folder, gallery: Path) -> Consolidated:
    return Consolidation(run.uri, str(gallery), "append").run()


def test_a_photo_does_not_come_back_under_a_new_name(tmp_path: Path) -> None:
    gallery, first = tmp_path / "g", made_run(tmp_path / "first", [*ANNA, *BOB])
    _consolidated(first, gallery)
    assert main(["gallery", "delete", str(gallery), "anna", "--runs", first.uri]) == 0
    again = [
        Photo("zoe/9.jpg", "zoe", "a1"),
        Photo("anna/3.jpg", "anna", "new"),
        Photo("bob/2.jpg", "bob", "b2"),
    ]
    done = _consolidated(made_run(tmp_path / "second", again), gallery)
    assert (done.added, done.left_out) == (1, {"suppressed": 2})
    assert "2 suppressed" in done.text()
    assert {row[0] for row in content(Gallery.open(str(gallery)).snapshot())} == {"bob"}
    dry = Consolidation(made_run(tmp_path / "third", again).uri, str(gallery)).dry_run()
    assert dry.left_out == {"suppressed": 2}


def test_a_mean_holds_no_suppressed_photo(tmp_path: Path) -> None:
    gallery, run = tmp_path / "g", made_run(tmp_path / "run", [*ANNA, *BOB])
    lists = Gallery.ensure(str(gallery), made_spec(run)).suppressions
    lists.suppress([Names(images=frozenset({"anna/1.jpg"}))])
    Consolidation(run.uri, str(gallery), templates="mean").run()
    table = Gallery.open(str(gallery)).snapshot().show("anna", vectors=True)
    assert table["embedding"].to_pylist() == [pytest.approx(ANNA[1].vector.tolist())]


def made_spec(run: Folder) -> object:
    from frpipe.jobs.features import FeatureRun

    return FeatureRun.open(run.uri).spec


def test_a_group_photo_of_others_is_not_suppressed_by_its_file(tmp_path: Path) -> None:
    group = [Photo("anna/group.jpg", "anna", "g"), Photo("bob/group.jpg", "bob", "g")]
    known = photos_of([made_run(tmp_path / "run", [*ANNA, *group])], {"anna"})
    assert (len(known.shared), known.copies) == (1, {"bob/group.jpg"})
    names = known.by_subject["anna"]
    assert names.images == {"anna/1.jpg", "anna/2.jpg", "anna/group.jpg"}
    assert len(names.contents) == 2


def test_ten_nights_in_which_the_deleted_come_back_every_night(tmp_path: Path) -> None:
    photos, gallery = tmp_path / "photos", tmp_path / "g"
    contents: dict[str, str] = {}

    def put(image_id: str, what: str) -> None:
        path = photos / image_id
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(what)
        contents[image_id] = what

    def night(number: int) -> dict[str, int]:
        last = Folder.at(str(tmp_path / f"runs/n{number - 1}/scan")) if number else None
        place = Folder.at(str(tmp_path / f"runs/n{number}/scan"))
        found = look(str(photos), ScanStep(), known_of(last), suppressions(str(gallery)))
        found.write(place)
        rows = found.todo.table().to_pylist()
        if rows:
            made = [Photo(r["image_id"], r["subject_id"], contents[r["image_id"]]) for r in rows]
            run = made_run(tmp_path / f"runs/n{number}/enroll", made)
            _consolidated(run, gallery)
        write_again(place, Folder.at(str(tmp_path / f"runs/n{number}/enroll")) if rows else None)
        return found.facts()

    for photo in (*ANNA, *BOB):
        put(photo.image_id, photo.content)
    night(0)
    lifecycle.delete(
        Gallery.open(str(gallery)),
        ["anna"],
        suppress=lifecycle.Suppressing(
            photos=photos_of([Folder.at(str(tmp_path / "runs/n0/enroll"))], ["anna"]).by_subject
        ),
    )
    for number in range(1, 10):
        put("anna/1.jpg", f"changed {number}")
        put(f"anna/new-{number}.jpg", f"new {number}")
        put(f"stranger-{number}/x.jpg", "a2")
        put(f"person-{number}/1.jpg", f"p{number}")
        facts = night(number)
        assert facts["suppressed"] == 2 + number
        assert f"{2 + number} suppressed" in scan_words(facts)
        assert facts["vanished"] == 0
    shown = {row[0] for row in content(Gallery.open(str(gallery)).snapshot())}
    assert shown == {"bob", *(f"person-{number}" for number in range(1, 10))}
    scratch = tmp_path / "scratch"
    kept = [Photo(name, name.split("/")[0], what) for name, what in sorted(contents.items())]
    kept = [p for p in kept if p.subject_id != "anna" and p.content != "a2"]
    _consolidated(made_run(tmp_path / "whole", kept), scratch)
    # The runs of this test lie in folders of their own, and so do their relative photos.
    made, grown = (
        [row[:3] for row in content(Gallery.open(str(each)).snapshot())] for each in (scratch, gallery)
    )
    assert made == grown
    Gallery.open(str(gallery)).suppressions.allow(Names(frozenset({"anna"})))
    assert night(10)["new"] == 11


def _name(*contents: str) -> Names:
    return Names(contents=frozenset(hashlib.sha256(each.encode()).hexdigest() for each in contents))


def test_a_copy_that_was_suppressed_is_looked_at_once_and_again_when_it_is_allowed(tmp_path: Path) -> None:
    photos, gallery = tmp_path / "photos", str(tmp_path / "g")
    rows = {"ann/1.jpg": None, "zoe/9.jpg": "copy", "eva/1.jpg": "by id", "kim/1.jpg": "other copy"}
    for name in rows:
        (photos / name).parent.mkdir(parents=True)
        (photos / name).write_text("x")
    lists = Gallery.ensure(gallery, SPEC).suppressions
    lists.suppress([_name("copy"), _name("other copy")])
    places: list[Folder] = []

    def night(*, enrolls: bool = True) -> list[str]:
        """Ids that it has to do. Its enroll job rejects what it is given as `rows` say."""
        place, before = Folder.at(str(tmp_path / f"runs/n{len(places)}/scan")), places[-1] if places else None
        places.append(place)
        found = look(str(photos), ScanStep(), known_of(before, lists.read()), lists.read())
        found.write(place)
        names: list[str] = found.todo.table()["image_id"].to_pylist()
        out = Folder.at(str(tmp_path / f"runs/n{len(places)}/enroll"))
        reasons = [rows.get(name) and "suppressed" for name in names]
        digests = [
            hashlib.sha256(str(what).encode()).hexdigest() if (what := rows.get(name)) != "by id" else None
            for name in names
        ]
        columns = {"reason": pa.array(reasons, pa.string()), "content_sha256": pa.array(digests, pa.string())}
        images = pa.table({"image_id": pa.array(names, pa.string()), **columns})
        write_part(out, 0, images, images.select(["image_id"]).slice(0, 0), {})
        write_again(place, out if names and enrolls else None, before)
        return names

    assert night() == ["ann/1.jpg", "eva/1.jpg", "kim/1.jpg", "zoe/9.jpg"]
    assert tried_again(places[-1]) == 1
    # Who was on the list by id, and is not any more, is tried again; copies are known, night after night.
    assert night() == ["eva/1.jpg"]
    rows["eva/1.jpg"] = None
    assert [night(), night(), night(enrolls=False)] == [["eva/1.jpg"], [], []]
    (photos / "kim/1.jpg").write_text("changed")
    rows["kim/1.jpg"] = None
    assert [night(), night()] == [["kim/1.jpg"], []]
    lists.allow(_name("copy"))
    rows["zoe/9.jpg"] = None
    assert night() == ["zoe/9.jpg"]
    assert [night(), read_table(places[-1], AGAIN).num_rows] == [[], 0]


def test_photos_are_suppressed_by_the_ids_that_the_gallery_has_of_them(tmp_path: Path) -> None:
    (tmp_path / "photos/ann").mkdir(parents=True)
    (tmp_path / "photos/ann/1.jpg").write_text("x")
    gallery = Gallery.ensure(str(tmp_path / "g"), SPEC)
    config = NightConfig.model_validate(
        {
            "runs": "r",
            "gallery": str(tmp_path / "g"),
            "photos": str(tmp_path / "photos"),
            "consolidate": {"source": "site"},
        }
    )
    gallery.suppressions.suppress([Names(images=frozenset({"ann/1.jpg"}))])
    assert (looked(config, None).counts.suppressed, looked(config, None).counts.new) == (0, 1)
    gallery.suppressions.suppress([Names(images=frozenset({"site/ann/1.jpg"}))])
    with pytest.raises(ManifestError, match="no photos"):
        looked(config, None)


@pytest.mark.parametrize("seed", range(4))
def test_entries_that_were_obeyed_before_are_obeyed_as_if_they_were_new(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    album = {f"{who}/{number}.jpg": "v" for who in ("ann", "bob", "zoë") for number in range(4)}
    rows = lambda: in_blocks((name, 1, version) for name, version in sorted(album.items()))  # noqa: E731
    monkeypatch.setattr(Folder, "walk_blocks", lambda *_: rows())
    entries: list[SuppressionEntry] = []
    before: Folder | None = None
    for night in range(12):
        for name in chance.sample(sorted(album), 2):
            album[name] = chance.choice("vw")
        if chance.random() < 0.5:
            who = Names(frozenset({chance.choice(["ann", "bob", "zoë"])}))
            what = Names(images=frozenset({chance.choice(["", "site/"]) + chance.choice(sorted(album))}))
            entries.append(_entry(f"{night:064x}", chance.choice([who, what]), "", ""))
        if entries and chance.random() < 0.4:
            entries.remove(chance.choice(entries))
        source, known = chance.choice(["", "", "site"]), known_of(before)
        barred = Suppressions(entries)
        found = look("memory://album", ScanStep(subject_from="folder"), known, barred, source=source)
        asked = known and replace(known, obeyed=ObeyedEntries())
        fresh = look("memory://album", ScanStep(subject_from="folder"), asked, barred, source=source)
        assert found.counts == fresh.counts
        for name in ("todo", "gone", "fresh"):
            assert getattr(found, name).table().equals(getattr(fresh, name).table()), name
        before = Folder.at(str(tmp_path / f"runs/2026-01-{night + 1:02d}/scan"))
        found.write(before)
        write_again(before, _tried(before))
    assert read_known(before).obeyed.entries == {entry.digest for entry in entries}


def _tried(folder: Folder) -> Folder:
    """An enroll output without any photo, so that all are known."""
    out, none = folder.child("out"), pa.array([], pa.string())
    images = pa.table({"image_id": none, "reason": none, "content_sha256": none})
    write_part(out, 0, images, images.select(["image_id"]), {})
    return out


def test_a_listing_does_not_name_who_is_suppressed(tmp_path: Path) -> None:
    for name in ("anna/1.jpg", "bob/1.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        (tmp_path / "photos" / name).write_text("x")
    config = NightConfig(runs="r", gallery=str(tmp_path / "g"), photos=str(tmp_path / "photos"))
    known = look(str(config.photos), config.scan, None).listing
    barred = Suppressions([_entry("11" * 32, Names(frozenset({"anna"})), "", "")])
    found = look(str(config.photos), config.scan, known, barred)
    assert (found.counts.suppressed, found.counts.new, found.gone.rows) == (1, 0, 0)
    assert found.listing.table()["image_id"].to_pylist() == ["bob/1.jpg"]
    (tmp_path / "photos/anna/1.jpg").unlink()
    assert look(str(config.photos), config.scan, known, barred).gone.rows == 0


def test_tonights_photos_and_probes_are_enrolled_without_whom_the_list_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("photos/ann/1.jpg", "probes/ann/2.jpg", "probes/bob/3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    config = NightConfig.model_validate(
        {
            "runs": "r",
            "gallery": str(tmp_path / "g"),
            "photos": str(tmp_path / "photos"),
            "consolidate": {"source": "site"},
            "identify": {"probes": str(tmp_path / "probes")},
        }
    )
    Gallery.ensure(config.gallery, SPEC).suppressions.suppress([Names(frozenset({"ann"}))])
    asked: list[Enrollment] = []

    def remembered(job: Enrollment) -> None:
        asked.append(job)

    monkeypatch.setattr(Enrollment, "run", remembered)
    monkeypatch.setattr(searches.photos, "write_again", lambda *_: 0)
    pins: dict[str, Any] = {}
    night = Folder.at(str(tmp_path / "night"))
    journal = SimpleNamespace(folder=night, record={"pins": pins}, pin=pins.__setitem__)
    work = Work(config, cast("NightJournal", journal), [], None, Runtime(), lambda _: None)
    enrolled(work, night.child("scan"), night.child("enroll"), str(config.photos), source_of(config))
    assert searches._probes(work) is not None
    assert [each.obeyed.source for each in asked] == ["site", ""]
    assert all(each.obeyed.suppressions().holds("subjects", "ann") for each in asked)
    assert pins["probes"]["suppressed"] == 1
    assert read_table(night, "probes/manifest.parquet")["image_id"].to_pylist() == ["bob/3.jpg"]


@pytest.mark.parametrize(("written", "asked"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_photos_of_a_person_are_found_in_either_unicode_form(
    tmp_path: Path, written: str, asked: str
) -> None:
    """A list of ids from a mac, or a run of before ids were brought to NFC."""
    theirs, named = (unicodedata.normalize(form, "김지수") for form in (written, asked))
    gallery, run = tmp_path / "g", made_run(tmp_path / "run", [Photo("1.jpg", theirs, "k"), *BOB])
    _consolidated(run, gallery)
    (tmp_path / "ids.txt").write_text(f"{named}\n")
    options = ["--from", str(tmp_path / "ids.txt"), "--runs", run.uri]
    assert main(["gallery", "delete", str(gallery), *options]) == 0
    again = made_run(tmp_path / "again", [Photo("zoe/9.jpg", "zoe", "k")])
    assert _consolidated(again, gallery).left_out == {"suppressed": 1}


def test_photos_of_a_run_with_a_source_are_not_those_of_another_folder(tmp_path: Path) -> None:
    gallery, run = tmp_path / "g", made_run(tmp_path / "run", [Photo("1.jpg", "dana", "d")])
    other = made_run(tmp_path / "other", [Photo("1.jpg", "bob", "b")])
    Consolidation(run.uri, str(gallery), source="north").run()
    _consolidated(other, gallery)
    assert main(["gallery", "delete", str(gallery), "dana", "--runs", run.uri]) == 0
    assert _consolidated(other, gallery).unchanged == 1
    now = Gallery.open(str(gallery)).suppressions.read()
    assert (now.holds("images", "north/1.jpg"), now.holds("images", "1.jpg")) == (True, False)


def test_a_night_with_a_source_compares_the_ids_that_the_gallery_has(tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_text(name)
    gallery = Gallery.ensure(str(tmp_path / "g"), made_spec(made_run(tmp_path / "run", BOB)))
    gallery.suppressions.suppress([Names(images=frozenset({"1.jpg", "north/2.jpg"}))])
    photos, barred = str(tmp_path / "photos"), gallery.suppressions.read()
    for source, left in (("", ["2.jpg"]), ("north", ["1.jpg"])):
        known = look(photos, ScanStep(), None).listing
        found = look(photos, ScanStep(), known, barred, source=source)
        assert (found.listing.table()["image_id"].to_pylist(), found.counts.suppressed) == (left, 1)
        assert found.gone.rows == 0
