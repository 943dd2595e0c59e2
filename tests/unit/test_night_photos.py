"""Which photos a night has to do: new, changed, vanished, and those to be tried again."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from frpipe.core.errors import ManifestError, OutputError
from frpipe.core.night_config import ScanStep
from frpipe.io.manifest.manifest import Manifest
from frpipe.io.output.parts import write_part
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.listed import in_blocks
from frpipe.io.storage.remote_store import RemoteStore
from frpipe.jobs.nightly import known_photos, photos
from frpipe.jobs.nightly.known_photos import KnownPhotos
from frpipe.jobs.nightly.tables import read_table, write_table


def _photo(root: Path, name: str, content: str = "photo") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    root = tmp_path / "album"
    for name in ("ann/1.jpg", "ann/2.jpg", "bob/1.jpg", "bob/notes.txt"):
        _photo(root, name)
    return root


def _looked(album: Path, folder: Folder, known: KnownPhotos | None = None) -> photos.PhotoScan:
    found = photos.look(str(album), ScanStep(), known)
    found.write(folder)
    return found


def _as_before(found: photos.PhotoScan, folder: Folder, spelled: Callable[[str], str]) -> None:
    """Leave a listing as nights did before photos were known in levels."""
    rows = [
        {name: spelled(value) if name in {"image_id", "subject_id"} else value for name, value in row.items()}
        for row in found.listing.table().to_pylist()
    ]
    write_table(folder, photos.LISTING, pa.Table.from_pylist(rows))


def _counted(known: KnownPhotos | None) -> list[str]:
    """Ids of the photos that count as known."""
    assert known is not None
    return [name for t in known.tables() for name in t.filter(t["tried"])["image_id"].to_pylist()]


def _manifest(folder: Folder) -> list[str]:
    ids: list[str] = read_table(folder, photos.MANIFEST)["image_id"].to_pylist()
    return ids


def test_the_first_look_takes_all_photos_and_names_their_people(album: Path, tmp_path: Path) -> None:
    folder = Folder.at(str(tmp_path / "runs/2026-01-01/scan"))
    facts = _looked(album, folder).facts()
    assert (facts["listed"], facts["new"], facts["changed"], facts["vanished"]) == (3, 3, 0, 0)
    rows = read_table(folder, photos.MANIFEST).to_pylist()
    assert rows[0] == {"image_id": "ann/1.jpg", "image_uri": f"{album}/ann/1.jpg", "subject_id": "ann"}
    assert Manifest.open(f"{folder.uri}/{photos.MANIFEST}").rows_estimate() == 3


def test_the_next_look_takes_what_is_new_or_changed_and_notices_what_is_gone(
    album: Path, tmp_path: Path
) -> None:
    known = photos.look(str(album), ScanStep(), None).listing
    _photo(album, "cat/1.jpg")
    _photo(album, "ann/1.jpg", "another")
    os.utime(album / "ann/2.jpg", ns=(1, 1))
    (album / "bob/1.jpg").unlink()
    folder = Folder.at(str(tmp_path / "runs/2026-01-01/scan"))
    found = _looked(album, folder, known)
    facts = found.facts()
    assert _manifest(folder) == ["ann/1.jpg", "ann/2.jpg", "cat/1.jpg"]
    assert (facts["new"], facts["changed"], facts["vanished"]) == (1, 2, 1)
    assert facts["known_before"] == 3
    assert facts["people_without_photos"] == 1
    assert found.gone.table()["image_id"].to_pylist() == ["bob/1.jpg"]


def test_an_album_that_stays_as_it_is_gives_nothing_to_do(album: Path) -> None:
    known = photos.look(str(album), ScanStep(), None).listing
    found = photos.look(str(album), ScanStep(), known)
    assert (found.counts.new, found.counts.changed, found.todo.rows, found.gone.rows) == (0, 0, 0, 0)


def test_a_glob_and_the_rule_for_people_are_kept(album: Path) -> None:
    found = photos.look(str(album), ScanStep(glob="ann/*", subject_from="none"), None)
    assert found.listing.table()["image_id"].to_pylist() == ["ann/1.jpg", "ann/2.jpg"]
    assert found.listing.table()["subject_id"].null_count == 2


def test_a_stray_photo_is_nobodys_and_the_others_stay_their_peoples(album: Path, tmp_path: Path) -> None:
    known = photos.look(str(album), ScanStep(), None).listing
    _photo(album, "stray.jpg")
    _photo(album, "ann/old/3.jpg")
    _photo(album, "cid/1.jpg")
    found, folder = (
        photos.look(str(album), ScanStep(), known),
        Folder.at(str(tmp_path / "runs/2026-01-01/scan")),
    )
    subjects = dict(
        zip(*(found.todo.table()[name].to_pylist() for name in ("image_id", "subject_id")), strict=True)
    )
    assert subjects == {"stray.jpg": None, "ann/old/3.jpg": None, "cid/1.jpg": "cid"}
    assert {*found.listing.table()["subject_id"].drop_null().to_pylist()} == {"ann", "bob", "cid"}
    assert (found.facts()["strays"], found.facts()["vanished"]) == (2, 0)
    found.write(folder)
    assert photos.strays(folder) == ["ann/old/3.jpg", "stray.jpg"]
    remedied = photos.look(str(album), ScanStep(glob="*/*"), known)
    assert remedied.todo.table()["image_id"].to_pylist() == ["cid/1.jpg"]
    assert (remedied.facts()["strays"], remedied.facts()["left_out"]["not_in_glob"]) == (0, 2)
    assert not photos.look(str(album), ScanStep(), None).names_people


@pytest.mark.parametrize("how", ["folder", "auto"])
def test_a_photo_is_of_the_folder_that_it_lies_in(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    people = {
        "0.jpg": None,
        "/1.jpg": None,
        "ann//2.jpg": None,
        "ann/3.jpg": "ann",
        "all/ann/4.jpg": "ann",
        "all/a b/zoe\u0308/5.jpg": "zoë",
        "zoë/6.jpg": "zoë",
    }
    if how == "auto":
        people = {name: whom for name, whom in people.items() if name.count("/") == 1}
    monkeypatch.setattr(Folder, "walk_blocks", lambda *_: in_blocks((name, 1, "v") for name in people))
    found = photos.look("memory://album", ScanStep(subject_from=how), None)
    rows = found.listing.table()
    named = {unicodedata.normalize("NFC", name): whom for name, whom in people.items()}
    assert dict(zip(rows["image_id"].to_pylist(), rows["subject_id"].to_pylist(), strict=True)) == named


def test_where_no_folder_names_anybody_any_more_the_night_is_refused(album: Path) -> None:
    known = photos.look(str(album), ScanStep(), None).listing
    (album / "all").mkdir()
    for name in ("ann", "bob"):
        (album / name).rename(album / "all" / name)
    with pytest.raises(ManifestError, match="of 3 photos none"):
        photos.look(str(album), ScanStep(), known)


def test_a_photo_of_nobody_comes_again_once_its_folder_names_somebody(album: Path) -> None:
    _photo(album, "stray.jpg")
    known = photos.look(str(album), ScanStep(), None).listing
    (album / "stray.jpg").unlink()
    found = photos.look(str(album), ScanStep(), known)
    assert (found.counts.new, found.counts.changed, found.todo.rows) == (0, 3, 3)
    assert photos.look(str(album), ScanStep(), found.listing).todo.rows == 0


def test_what_the_rules_leave_out_since_last_night_has_not_vanished(album: Path) -> None:
    for name in ("ann/@eaDir/1.jpg/SYNOPHOTO_THUMB_XL.jpg", "#recycle/cid/1.jpg", "ann/old/1.jpg"):
        _photo(album, name)
    known = photos.look(str(album), ScanStep(system=True, subject_from="folder"), None).listing
    assert known.table().num_rows == 6
    (album / "bob/1.jpg").unlink()
    found = photos.look(str(album), ScanStep(glob="*/*", subject_from="folder"), known)
    assert found.listing.table()["image_id"].to_pylist() == ["ann/1.jpg", "ann/2.jpg"]
    assert found.gone.table()["image_id"].to_pylist() == ["bob/1.jpg"]
    facts = found.facts()
    assert (facts["no_longer_taken"], facts["known_before"]) == (3, 6)
    assert facts["left_out"] == {"system": 2, "not_in_glob": 1, "sidecar": 1}


def test_a_name_that_no_manifest_takes_costs_its_own_photo_alone(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann/two\nlines.jpg", "ann/a::b.jpg", "ann/# ?%.jpg"):
        _photo(album, name)
    folder = Folder.at(str(tmp_path / "runs/2026-01-01/scan"))
    facts = _looked(album, folder).facts()
    assert (facts["listed"], facts["unreadable_names"]) == (5, 1)
    names = ["ann/1.jpg", "ann/a::b.jpg", "ann/../b.jpg", "ann//c.jpg"]
    monkeypatch.setattr(Folder, "walk_blocks", lambda *_: in_blocks((name, 1, "v") for name in names))
    found = photos.look("memory://album", ScanStep(), None)
    assert found.listing.table()["image_id"].to_pylist() == ["ann//c.jpg", "ann/1.jpg"]
    assert (found.counts.unreadable, found.left_out.hidden) == (1, 1)
    assert photos.look("memory://album", ScanStep(system=True), None).counts.unreadable == 2


def test_links_out_of_the_album_are_not_followed_and_said_and_links_inside_are_once(
    album: Path, tmp_path: Path
) -> None:
    known = photos.look(str(album), ScanStep(), None).listing
    _photo(tmp_path, "secret/1.jpg")
    _photo(album, ".store/5.jpg")
    (album / "bob").rename(tmp_path / "moved")
    (album / "bob").symlink_to(tmp_path / "moved")
    (album / "ann/3.jpg").symlink_to("../../secret/1.jpg")
    (album / "ann/4.jpg").symlink_to("1.jpg")
    (album / "ann/5.jpg").symlink_to("../.store/5.jpg")
    found = photos.look(str(album), ScanStep(), known)
    facts = found.facts()
    assert found.listing.table()["image_id"].to_pylist() == ["ann/1.jpg", "ann/2.jpg", "ann/5.jpg"]
    assert (facts["vanished"], facts["vanished_behind_links"]) == (1, 1)
    counts = {name: count for name, count in facts.items() if name.startswith("links_")}
    assert counts == {"links_followed": 1, "links_outside": 2, "links_repeated": 1, "links_broken": 0}
    assert "2 links not followed: lead out of the folder (storage.roots" in "\n".join(
        found.links.lines("storage.roots", named=False)
    )
    allowed = photos.look(str(album), ScanStep(), known, roots=(str(tmp_path / "moved"),))
    assert (allowed.counts.new, allowed.facts()["vanished"], allowed.facts()["links_outside"]) == (1, 0, 1)


def test_a_photo_that_a_store_lists_twice_is_one_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["ann/1.jpg", "ann/2.jpg", "ann/1.jpg"]
    monkeypatch.setattr(Folder, "walk_blocks", lambda *_: in_blocks((name, 1, "v") for name in names))
    found = photos.look("memory://album", ScanStep(), None)
    assert found.todo.table()["image_id"].to_pylist() == ["ann/1.jpg", "ann/2.jpg"]


def test_a_store_is_listed_from_known_photos_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, asked = [f"ann/{number:02d}.jpg" for number in range(12)], []

    def listed(_: Folder, guesses: list[str] | None) -> Iterator[pa.Table]:
        asked.append(guesses)
        return in_blocks((name, 1, "v") for name in names)

    monkeypatch.setattr(Folder, "walk_blocks", listed)
    monkeypatch.setattr(known_photos, "BLOCK_ROWS", 2)
    monkeypatch.setattr(photos, "STRETCH_KEYS", 4)
    folder = Folder.at(str(tmp_path / "runs/2026-01-01/scan"))
    photos.look("memory://album", ScanStep(), None).write(folder)
    known = photos.listing_of(folder)
    assert photos.look("memory://album", ScanStep(), known).todo.rows == 0
    assert asked == [None, ["ann/04.jpg", "ann/08.jpg"]]
    # From a damaged part no photo is taken, and comparing with it ends the night.
    (part,) = (tmp_path / "runs/_known").rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-9])
    assert known.spread(4) == []
    with pytest.raises(OutputError, match="damaged or gone"):
        photos.look("memory://album", ScanStep(), known)


def test_a_store_that_loses_photos_where_it_is_read_ahead_is_listed_again_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, asked = [f"ann/{number:02d}.jpg" for number in range(90)], []
    there = {*names}

    def listed(_: Folder, guesses: list[str] | None) -> Iterator[pa.Table]:
        asked.append(guesses)
        return in_blocks(
            (name, 1, "v") for name in names if name in there and (not guesses or name < "ann/40")
        )

    monkeypatch.setattr(Folder, "walk_blocks", listed)
    monkeypatch.setattr(RemoteStore, "exists", lambda _, name: name in there)
    monkeypatch.setattr(known_photos, "BLOCK_ROWS", 2)
    monkeypatch.setattr(photos, "STRETCH_KEYS", 4)
    folder = Folder.at(str(tmp_path / "runs/2026-01-01/scan"))
    photos.look("memory://album", ScanStep(), None).write(folder)
    known = photos.listing_of(folder)
    there -= {"ann/07.jpg", "ann/50.jpg"}
    found = photos.look("memory://album", ScanStep(), known)
    assert found.gone.table()["image_id"].to_pylist() == ["ann/07.jpg", "ann/50.jpg"]
    assert (len(asked), asked[-1], found.counts.listed) == (3, [], 88)
    # What has really gone is asked for, and listed once.
    there = {*names[:40]}
    assert photos.look("memory://album", ScanStep(), known).counts.vanished == 50
    assert len(asked) == 4


NFC, NFD = "김지수", unicodedata.normalize("NFD", "김지수")


def test_a_folder_in_another_unicode_form_is_the_same_person_and_its_photos_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    album, folder = tmp_path / "album", Folder.at(str(tmp_path / "runs/2026-01-01/scan"))
    _photo(album, f"{NFD}/1.jpg")
    _photo(album, f"{NFC}/2.jpg")
    found = _looked(album, folder)
    assert {*found.listing.table()["subject_id"].to_pylist()} == {NFC}
    rows = read_table(folder, photos.MANIFEST).to_pylist()
    assert {row["image_id"] for row in rows} == {f"{NFC}/1.jpg", f"{NFC}/2.jpg"}
    assert all(Path(row["image_uri"]).read_text() == "photo" for row in rows)


def test_of_two_photos_that_look_the_same_one_stays_and_the_other_is_counted(tmp_path: Path) -> None:
    album = tmp_path / "album"
    for person in (NFD, NFC, "ann"):
        _photo(album, f"{person}/1.jpg")
    found = photos.look(str(album), ScanStep(), None)
    assert found.listing.table()["image_id"].to_pylist() == ["ann/1.jpg", f"{NFC}/1.jpg"]
    assert found.todo.table()["image_uri"].to_pylist() == [f"{album}/ann/1.jpg", f"{album}/{NFC}/1.jpg"]
    assert found.counts.unreadable == 1


def test_what_an_older_night_knew_in_another_unicode_form_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    album, folder = tmp_path / "album", Folder.at(str(tmp_path / "runs/2026-01-01/scan"))
    _photo(album, f"{NFD}/1.jpg")
    _as_before(
        photos.look(str(album), ScanStep(), None), folder, lambda text: unicodedata.normalize("NFD", text)
    )
    assert read_table(folder, photos.LISTING)["subject_id"].to_pylist() == [NFD]
    photos.write_table(folder, photos.AGAIN, pa.table({"image_id": pa.array([], pa.string())}))
    known = photos.known_of(folder)
    found = photos.look(str(album), ScanStep(), known)
    assert (found.todo.rows, found.gone.rows) == (0, 0)
    photos.write_table(folder, photos.AGAIN, pa.table({"image_id": [f"{NFC}/1.jpg"]}))
    assert photos.look(str(album), ScanStep(), photos.known_of(folder)).todo.rows == 1


def test_photos_that_storage_or_workers_failed_are_tried_again(album: Path, tmp_path: Path) -> None:
    folder, enrolled = (
        Folder.at(str(tmp_path / "runs/2026-01-01/scan")),
        Folder.at(str(tmp_path / "runs/2026-01-01/enroll")),
    )
    _looked(album, folder)
    reasons = [None, "fetch_failed", "truncated"]
    images = pa.table(
        {
            "image_id": ["ann/1.jpg", "ann/2.jpg", "bob/1.jpg"],
            "reason": pa.array(reasons, pa.string()),
            "content_sha256": pa.array([None, None, "ab" * 32]),
        }
    )
    write_part(enrolled, 0, images, images.select(["image_id"]).slice(0, 1), {})
    assert photos.write_again(folder, enrolled) == 1
    known = photos.known_of(folder)
    assert known is not None
    assert photos.look(str(album), ScanStep(), known).todo.table()["image_id"].to_pylist() == ["ann/2.jpg"]


def test_a_night_from_before_contents_were_looked_at_says_what_is_tried_again(
    album: Path, tmp_path: Path
) -> None:
    folder = Folder.at(str(tmp_path / "runs/2026-01-01/scan"))
    _looked(album, folder)
    write_table(folder, photos.AGAIN, pa.table({"image_id": ["ann/2.jpg"]}))
    known = photos.known_of(folder)
    assert known is not None and _counted(known) == ["ann/1.jpg", "bob/1.jpg"]
    assert photos.tried_again(folder) == 1


def test_photos_that_were_not_enrolled_are_not_known(album: Path, tmp_path: Path) -> None:
    folder = Folder.at(str(tmp_path / "runs/2026-01-01/scan"))
    _looked(album, folder)
    assert photos.write_again(folder, None) == 3
    assert photos.look(str(album), ScanStep(), photos.known_of(folder)).counts.new == 3


def test_what_was_known_stays_known_over_a_night_without_a_look(album: Path, tmp_path: Path) -> None:
    before, tonight = (Folder.at(str(tmp_path / f"runs/{n}/scan")) for n in "12")
    _looked(album, before)
    photos.carry_known(before, tonight)
    assert photos.known_of(tonight) is None
    photos.write_again(before, None)
    photos.carry_known(before, tonight)
    known = photos.known_of(tonight)
    assert known is not None
    assert _counted(known) == []
    photos.carry_known(None, tonight)
    assert _counted(photos.known_of(tonight)) == []
