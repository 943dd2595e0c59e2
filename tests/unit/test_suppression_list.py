"""Who was deleted does not come back: by their id, by their photo under any name, by any way in."""

from __future__ import annotations

import json
import pickle
import shutil
import unicodedata
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from gallery_rows import content, files_with, ids, people, spec

from frpipe.cli.main import main
from frpipe.core.errors import GalleryDamaged, GalleryError
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.suppression import Names, Suppressions, digest
from frpipe.jobs.gallery_files import export, import_file
from frpipe.testing.kills import Killed, at_change, die

SHA = "ab" * 32


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    made = Gallery.create(str(tmp_path / "g"), spec())
    lifecycle.enroll(made, [people(ids(20))])
    return made


def _people(gallery: Gallery) -> set[str]:
    return {row[0] for row in content(gallery.snapshot())}


def _renamed(table: pa.Table, **columns: list[str]) -> pa.Table:
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
    return table


def test_who_was_deleted_is_kept_out_and_counted_by_every_way_in(gallery: Gallery, tmp_path: Path) -> None:
    export(gallery, str(tmp_path / "old"), "parquet")
    export(gallery, str(tmp_path / "old.hdf"), "lecture")
    other = Gallery.create(str(tmp_path / "other"), spec())
    lifecycle.enroll(other, [people(ids(20))])
    lifecycle.delete(gallery, ["p0001", "p0002"])
    before = content(gallery.snapshot())
    ways: list[Callable[[], lifecycle.Outcome]] = [
        lambda: lifecycle.enroll(gallery, [people(ids(20))]),
        lambda: lifecycle.enroll(gallery, [people(ids(20))], "append"),
        lambda: lifecycle.enroll(gallery, [people(ids(20))], "replace"),
        lambda: lifecycle.merge(gallery, other),
        lambda: import_file(gallery, str(tmp_path / "old")),
        lambda: import_file(gallery, str(tmp_path / "old.hdf")),
    ]
    for way in ways[:-1]:
        done = way()
        assert (done.added, done.unchanged + done.skipped, done.suppressed) == (0, 18, 2)
        assert content(gallery.snapshot()) == before
    assert ways[-1]().suppressed == 2
    assert _people(gallery) == set(ids(20)) - {"p0001", "p0002"}


def test_a_photo_does_not_come_back_as_another_person(gallery: Gallery) -> None:
    lifecycle.delete(gallery, ["p0001"])
    again = _renamed(people(["p0001"], faces=2), subject_id=["zoe", "zoe"])
    assert lifecycle.enroll(gallery, [again], "append").suppressed == 2
    assert "zoe" not in _people(gallery)


def test_a_single_photo_is_known_by_its_content(gallery: Gallery) -> None:
    photo = _renamed(people(["anna"]), face_id=[f"photo:{SHA[:20]}"])
    lifecycle.enroll(gallery, [photo])
    lifecycle.delete(gallery, ["anna"])
    again = _renamed(photo, subject_id=["zoe"])
    assert lifecycle.enroll(gallery, [again]).suppressed == 1
    assert gallery.suppressions.read().holds("contents", SHA)


def test_both_unicode_forms_of_an_id_are_one(gallery: Gallery) -> None:
    composed = "김지수"
    lifecycle.enroll(gallery, [people([composed])])
    lifecycle.delete(gallery, [composed])
    apart = unicodedata.normalize("NFD", composed)
    assert lifecycle.enroll(gallery, [_renamed(people(["x"]), subject_id=[apart])]).suppressed == 1


def test_who_is_replaced_by_suppressed_rows_alone_stays(gallery: Gallery) -> None:
    gallery.suppressions.suppress([Names(images=frozenset({"new"}))])
    given = _renamed(people(["p0003"]), face_id=["new#0"])
    assert lifecycle.enroll(gallery, [given], "replace").suppressed == 1
    assert _people(gallery) == set(ids(20))


def test_a_rollback_does_not_show_who_was_deleted(gallery: Gallery) -> None:
    lifecycle.delete(gallery, ["p0001"])
    lifecycle.enroll(gallery, [people(["new"])])
    done = lifecycle.rollback(gallery, 1)
    assert done.suppressed == 1
    assert _people(gallery) == set(ids(20)) - {"p0001"}
    assert gallery.log()[-1].counts["suppressed"] == 1
    version = done.version
    assert lifecycle.rollback(gallery, version).version == version


def test_without_suppression_an_enrolment_brings_back(gallery: Gallery) -> None:
    lifecycle.delete(gallery, ["p0001"], suppress=None)
    assert lifecycle.enroll(gallery, [people(["p0001"])]).added == 1
    lifecycle.clear(gallery)
    assert not gallery.suppressions.read()
    lifecycle.enroll(gallery, [people(["p0001"])])
    lifecycle.clear(gallery, suppress=lifecycle.Suppressing("closed"))
    assert lifecycle.enroll(gallery, [people(["p0001"])]).suppressed == 1


def test_allowed_means_all_that_was_suppressed_with_a_person(gallery: Gallery) -> None:
    table = people(["p0001"], faces=2)
    lifecycle.delete(gallery, ["p0001", "p0002"], suppress=lifecycle.Suppressing("request", "desk"))
    entries = gallery.suppressions.read().entries
    assert [(e.reason, e.by, len(e.subjects), len(e.images)) for e in entries] == [
        ("request", "desk", 1, 1)
    ] * 2
    assert gallery.suppressions.allow(Names(frozenset({"p0001"})), "mistake") == 2
    assert lifecycle.enroll(gallery, [table], "append").added == 2
    assert lifecycle.enroll(gallery, [people(["p0002"])]).suppressed == 1
    lifecycle.delete(gallery, ["p0001"])
    assert lifecycle.enroll(gallery, [table], "append").suppressed == 2


def test_a_shared_photo_stays_suppressed_with_the_other_person(gallery: Gallery) -> None:
    one, two = (Names(frozenset({who}), frozenset({"group.jpg"})) for who in ("a", "b"))
    gallery.suppressions.suppress([one, two])
    gallery.suppressions.allow(Names(frozenset({"a"})))
    now = gallery.suppressions.read()
    assert not now.holds("subjects", "a")
    assert now.holds("images", "group.jpg")
    gallery.suppressions.allow(Names(images=frozenset({"group.jpg"})))
    assert not gallery.suppressions.read().holds("images", "group.jpg")


def test_who_is_on_a_photo_with_a_deleted_person_stays(gallery: Gallery) -> None:
    group = _renamed(people(["dana", "eve"]), face_id=["group.jpg#0", "group.jpg#1"])
    lifecycle.enroll(gallery, [group])
    lifecycle.delete(gallery, ["dana"])
    assert lifecycle.obey(gallery).deleted == 0
    assert "eve" in _people(gallery)
    lifecycle.delete(gallery, ["eve"])
    assert gallery.suppressions.read().holds("images", "group.jpg")


def test_to_suppress_again_adds_nothing(gallery: Gallery) -> None:
    names = [Names(frozenset({"a"}), frozenset({"1.jpg"}))]
    assert [gallery.suppressions.suppress(names) for _ in range(3)] == [1, 0, 0]
    assert gallery.suppressions.read().documents == 1


def test_many_go_into_several_documents(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frpipe.gallery.suppression._MOST_DIGESTS", 10)
    gallery.suppressions.suppress([Names(frozenset({each})) for each in ids(95)])
    found = Gallery.open(gallery.uri).suppressions.read()
    assert (len(found), found.documents) == (95, 10)
    assert all(found.holds("subjects", each) for each in ids(95))


def test_the_list_travels_with_a_copy_and_with_exports(gallery: Gallery, tmp_path: Path) -> None:
    lifecycle.delete(gallery, ["p0001"])
    shutil.copytree(gallery.uri, tmp_path / "copy")
    assert lifecycle.enroll(Gallery.open(str(tmp_path / "copy")), [people(["p0001"])]).suppressed == 1
    for layout, name in (("parquet", "folder"), ("lecture", "file.hdf")):
        target, made = str(tmp_path / name), Gallery.create(str(tmp_path / f"from-{name}"), spec())
        export(gallery, target, layout)  # type: ignore[arg-type]
        assert import_file(made, target).added == 19
        assert lifecycle.enroll(made, [people(["p0001"])]).suppressed == 1
        before = content(gallery.snapshot()), gallery.suppressions.read().documents
        import_file(gallery, target)
        assert (content(gallery.snapshot()), gallery.suppressions.read().documents) == before


def test_a_list_that_comes_from_elsewhere_does_not_touch_who_is_here(
    gallery: Gallery, tmp_path: Path
) -> None:
    other = Gallery.create(str(tmp_path / "other"), spec())
    lifecycle.enroll(other, [people(["p0001", "elsewhere"])])
    lifecycle.delete(other, ["p0001", "elsewhere"])
    lifecycle.merge(gallery, other)
    now = gallery.suppressions.read()
    assert (now.holds("subjects", "p0001"), now.holds("subjects", "elsewhere")) == (False, True)
    gallery.suppressions.allow(Names(frozenset({"elsewhere"})))
    lifecycle.merge(gallery, other)
    assert not gallery.suppressions.read().holds("subjects", "elsewhere")


def test_a_restored_backup_takes_the_newer_list_over_and_obeys(gallery: Gallery, tmp_path: Path) -> None:
    shutil.copytree(gallery.uri, tmp_path / "backup")
    lifecycle.delete(gallery, ["p0001"])
    assert main(["gallery", "suppress", str(tmp_path / "backup"), "--like", gallery.uri]) == 0
    assert _people(Gallery.open(str(tmp_path / "backup"))) == set(ids(20)) - {"p0001"}


def test_the_files_hold_no_id_and_the_key_is_a_secret_of_an_encrypted_gallery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRPIPE_GALLERY_KEY", b64encode(b"k" * 32).decode())
    keys = {}
    for name, made in (("plain", spec()), ("secret", spec(encryption="aes-256-gcm"))):
        gallery = Gallery.create(str(tmp_path / name), made)
        lifecycle.enroll(gallery, [people(["a-person-of-note"])])
        lifecycle.delete(gallery, ["a-person-of-note"])
        lifecycle.compact(gallery)
        assert files_with(tmp_path / name, b"a-person-of-note") == []
        (entry,) = gallery.suppressions.read().entries
        assert digest(entry.key, "subjects", "a-person-of-note") in entry.subjects
        keys[name] = files_with(tmp_path / name, entry.key.encode())
        assert pickle.loads(pickle.dumps(gallery)).suppressions.read().holds("subjects", "a-person-of-note")
    assert keys == {"plain": ["000000001.json"], "secret": []}
    monkeypatch.delenv("FRPIPE_GALLERY_KEY")
    with pytest.raises(GalleryError, match="no key is given"):
        Gallery.open(str(tmp_path / "secret")).suppressions.read()


def test_a_damaged_list_lets_nobody_in(gallery: Gallery) -> None:
    lifecycle.delete(gallery, ["p0001"])
    lifecycle.delete(gallery, ["p0002"])
    first = Path(gallery.uri) / "suppressed/000000001.json"
    whole = first.read_bytes()
    last = Path(gallery.uri) / "suppressed/000000002.json"
    kept = last.read_bytes()
    last.unlink()
    with pytest.raises(GalleryDamaged, match="missing"):
        lifecycle.enroll(Gallery.open(gallery.uri), [people(["new"])])
    last.write_bytes(kept)
    for damage in (lambda: first.write_bytes(whole.replace(b"suppress", b"allow   ")), first.unlink):
        damage()
        with pytest.raises(GalleryDamaged):
            lifecycle.enroll(Gallery.open(gallery.uri), [people(["new"])])
        assert [p.file for p in lifecycle.verify(Gallery.open(gallery.uri))] == ["suppressed"]


def test_a_delete_that_is_killed_at_any_write_ends_alike(gallery: Gallery, tmp_path: Path) -> None:
    wanted = ["p0001", "p0002"]

    def deleted(place: Path) -> lifecycle.Outcome:
        return lifecycle.delete(Gallery.open(str(place)), wanted)

    shutil.copytree(gallery.uri, tmp_path / "count")
    with at_change(None, lambda: None) as count:
        deleted(tmp_path / "count")
    assert count[0] == 3
    for moment in range(1, count[0] + 1):
        place = tmp_path / str(moment)
        shutil.copytree(gallery.uri, place)
        with at_change(moment, die), pytest.raises(Killed):
            deleted(place)
        deleted(place)
        found = Gallery.open(str(place))
        assert _people(found) == set(ids(20)) - set(wanted)
        assert len(found.suppressions.read()) == 2
        assert lifecycle.enroll(found, [people(wanted)]).suppressed == 2


def test_who_is_deleted_while_an_enrolment_runs_does_not_slip_in(gallery: Gallery) -> None:
    """Between any two writes of the enrolment: it commits first and is cleaned up, or loses and obeys."""
    moment, done = 0, False
    while not done:
        moment += 1
        lifecycle.enroll(gallery, [people([f"q{moment}"])])
        with at_change(moment, lambda n=moment: lifecycle.delete(gallery, [f"q{n}"])) as count:
            lifecycle.enroll(gallery, [people([f"q{moment}", f"r{moment}"], faces=2)], "append")
        done = count[0] < moment
        assert done or f"q{moment}" not in _people(gallery), moment
        assert f"r{moment}" in _people(gallery)


def test_rivals_that_suppress_at_once_both_stand(gallery: Gallery) -> None:
    for moment in (1, 2):
        one, two = (Names(frozenset({f"{who}{moment}"})) for who in "ab")
        rival = Gallery.open(gallery.uri)
        with at_change(moment, lambda r=rival, n=two: r.suppressions.suppress([n])):
            gallery.suppressions.suppress([one])
        if moment == 2:
            rival.suppressions.suppress([two])
        now = Gallery.open(gallery.uri).suppressions.read()
        assert now.holds("subjects", f"a{moment}")
        assert now.holds("subjects", f"b{moment}")


def test_mask_looks_at_the_columns_that_are_there() -> None:
    key = "00" * 32
    table = pa.table({"image_id": ["a", None, "b"], "content_sha256": [None, SHA, "cd" * 32]})
    from frpipe.gallery.suppression import SuppressionEntry

    entry = SuppressionEntry(
        key,
        "",
        images=frozenset({digest(key, "images", "b")}),
        contents=frozenset({digest(key, "contents", SHA.upper())}),
    )
    assert Suppressions([entry]).mask(table).tolist() == [False, True, True]
    assert Suppressions(()).mask(table).tolist() == [False] * 3


def _said(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str]:
    code = main([str(each) for each in arguments])
    return code, capsys.readouterr().out


def test_the_commands(gallery: Gallery, capsys: pytest.CaptureFixture[str]) -> None:
    uri = gallery.uri
    code, out = _said(capsys, "gallery", "delete", uri, "p0001", "--reason", "request 14", "--by", "desk")
    assert code == 0
    assert "suppressed" in out
    code, out = _said(capsys, "gallery", "suppressed", uri)
    assert code == 0
    assert "request 14" in out
    assert "p0001" not in out
    code, out = _said(capsys, "gallery", "suppressed", uri, "--id", "p0001", "p0002", "--json")
    assert (code, json.loads(out)["suppressed"]) == (12, {"p0001": True, "p0002": False})
    code, out = _said(capsys, "gallery", "suppress", uri, "p0002", "--image", "p0003")
    assert (code, "2 templates in sight deleted" in out) == (0, True)
    assert _said(capsys, "gallery", "allow", uri, "p0002")[0] == 0
    assert _said(capsys, "gallery", "allow", uri, "p0002")[0] == 12
    assert _said(capsys, "gallery", "delete", uri, "p0004", "--no-suppress")[0] == 0
    assert lifecycle.enroll(gallery, [people(["p0002", "p0003", "p0004"])]).added == 2


def test_a_photo_whose_id_ends_like_a_face_id_is_one_photo(gallery: Gallery) -> None:
    both = _renamed(people(["dana", "bea"]), face_id=["shot#1#0", "shot#0"])
    lifecycle.enroll(gallery, [both])
    lifecycle.delete(gallery, ["dana"])
    again = _renamed(people(["zoe"]), face_id=["shot#1#0"])
    assert lifecycle.enroll(gallery, [again], "append").suppressed == 1
    assert lifecycle.obey(gallery).deleted == 0
    now = gallery.suppressions.read()
    assert (now.holds("images", "shot#1"), now.holds("images", "shot")) == (True, False)


def test_a_single_photo_does_not_come_back_by_a_merge_with_a_source(gallery: Gallery, tmp_path: Path) -> None:
    photo = _renamed(people(["dana"]), face_id=[f"photo:{SHA[:20]}"])
    other = Gallery.create(str(tmp_path / "h"), spec())
    lifecycle.enroll(other, [_renamed(photo, subject_id=["zoe"])])
    lifecycle.enroll(gallery, [photo])
    lifecycle.delete(gallery, ["dana"])
    assert lifecycle.merge(gallery, other, source="site").suppressed == 1
    # Nor one that was deleted as such.
    lifecycle.merge(third := Gallery.create(str(tmp_path / "i"), spec()), other, source="site")
    lifecycle.delete(third, ["zoe"])
    assert third.suppressions.read().holds("contents", SHA)


@pytest.mark.parametrize("source", ["", "site"])
def test_a_list_from_elsewhere_does_not_bar_the_photos_that_are_here(
    gallery: Gallery, tmp_path: Path, source: str
) -> None:
    """Relative ids are of other photos there: `1.jpg` of dana, who is not here."""
    other = Gallery.create(str(tmp_path / "h"), spec())
    lifecycle.enroll(other, [_renamed(people(["dana", "hugo"]), face_id=["1.jpg#0", "2.jpg#0"])])
    lifecycle.delete(other, ["dana"])
    anna = _renamed(people(["anna"]), face_id=["1.jpg#0"])
    lifecycle.enroll(gallery, [anna])
    lifecycle.merge(gallery, other, source=source)
    now = gallery.suppressions.read()
    assert (now.holds("subjects", "dana"), now.holds("images", "1.jpg")) == (True, False)
    assert lifecycle.enroll(gallery, [anna], "append").unchanged == 1


def test_who_is_suppressed_by_command_does_not_return_under_another_id(gallery: Gallery) -> None:
    assert main(["gallery", "suppress", gallery.uri, "p0001", "nobody"]) == 0
    again = _renamed(people(["p0001", "nobody"]), subject_id=["zoe", "ines"])
    assert lifecycle.enroll(gallery, [again], "append").suppressed == 1
    assert {len(each.images) for each in gallery.suppressions.read().entries} == {0, 1}


def test_a_list_of_people_who_are_not_there_is_missed_too(gallery: Gallery) -> None:
    for _ in range(2):
        assert main(["gallery", "suppress", gallery.uri, "dana"]) == 0
    assert gallery.snapshot().number == 2
    (Path(gallery.uri) / "suppressed/000000001.json").unlink()
    with pytest.raises(GalleryDamaged, match="missing"):
        lifecycle.enroll(Gallery.open(gallery.uri), [people(["dana"])])
    assert [p.file for p in lifecycle.verify(Gallery.open(gallery.uri))] == ["suppressed"]
