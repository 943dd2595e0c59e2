"""Runs in published tables: sources, columns that come later, recipes, replays, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import deltalake
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_runs import Photo, made_run

from frpipe.cli.main import main
from frpipe.core.errors import FrpipeError, OutputError
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.spec import GallerySpec
from frpipe.gallery.suppression import Names
from frpipe.io.output import run
from frpipe.io.output.parts import part_file, to_parquet
from frpipe.io.storage.folder import Folder
from frpipe.io.tables.table import Change, PublishedTable, conformed, edited
from frpipe.jobs.nightly.photo_sources import published_sources
from frpipe.jobs.nightly.tables import write_table
from frpipe.jobs.nightly.vanished_photos import VanishedPhotos
from frpipe.jobs.publish.job import Published, Publishing
from frpipe.jobs.publish.merge import Barred, replace_rows
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.schema import FACES, MEMBERS, PHOTOS, TABLES
from frpipe.jobs.publish.sources import Publication, result_at
from frpipe.testing.kills import Killed, at_change

PHOTOS_A = [Photo("1.jpg", "anna", "a1"), Photo("2.jpg", "anna", "a2"), Photo("3.jpg", "bob", "b3")]


def _vanished(scan: Path, *images: str) -> VanishedPhotos | None:
    write_table(Folder.at(str(scan)), "vanished.parquet", pa.table({"image_id": [*images]}))
    return VanishedPhotos.of(Folder.at(str(scan)))


def _publish(root: Path, *outputs: Folder, source: str | None = None, **options: Any) -> Published:
    return _published(root, *(result_at(out.uri, source) for out in outputs), **options)


def _published(root: Path, *found: Publication, **options: Any) -> Published:
    return Publishing(str(root), lambda _: (found, ()), **options).run()


def _rows(root: Path, name: str) -> pd.DataFrame:
    tables = Root.opened(str(root))
    assert tables is not None
    spec = next(each for each in TABLES if each.name == name)
    found: pd.DataFrame = tables.table(spec).rows().to_pandas()
    return found


def _begun(out: Folder, **facts: Any) -> Folder:
    """The same output with other facts in its run.json."""
    out.write(run.RUN, json.dumps({**json.loads(out.read(run.RUN)), **facts}).encode())
    return out


def _with_column(out: Folder, name: str, values: pa.Array) -> Folder:
    """The same output with a column of its manifest."""
    for sub in ("images", "faces"):
        _rewritten(out, f"{sub}/part-000000.parquet", name, values)
    out.write(run.FILES, json.dumps({"files": _listed(out)}).encode())
    run._records.pop(out.uri, None)
    return out


def _rewritten(out: Folder, path: str, name: str, values: pa.Array) -> None:
    table = pq.read_table(pa.BufferReader(out.read(path)))
    out.write(path, to_parquet(table.append_column(name, values), {}))


def _listed(out: Folder) -> list[dict[str, Any]]:
    names = [f"{sub}/part-000000.parquet" for sub in ("images", "faces")]
    return [asdict(part_file(name, out.read(name))) for name in names]


def test_a_call_that_is_killed_before_people_are_counted_leaves_them_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = made_run(tmp_path / "run", PHOTOS_A)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("frpipe.jobs.publish.job.make_people", Mock(side_effect=KeyboardInterrupt))
        _publish(tmp_path / "tables", out)
    assert len(_rows(tmp_path / "tables", "people")) == 0
    _publish(tmp_path / "tables", out)
    assert sorted(_rows(tmp_path / "tables", "people").subject_id) == ["anna", "bob"]


def test_photos_of_two_sources_never_meet_and_of_one_they_replace_each_other(tmp_path: Path) -> None:
    first, second = made_run(tmp_path / "first", PHOTOS_A), made_run(tmp_path / "second", PHOTOS_A[:1])
    _publish(tmp_path / "apart", first, second)
    assert len(_rows(tmp_path / "apart", "faces")) == 4
    assert len(_rows(tmp_path / "apart", "people")) == 3
    _begun(second, created="2026-05-02T00:00:00+00:00")
    _publish(tmp_path / "one", first, second, source="album")
    photos = _rows(tmp_path / "one", "photos")
    assert photos.set_index("image_id").as_of.dt.day.to_dict() == {"1.jpg": 2, "2.jpg": 1, "3.jpg": 1}
    assert len(_rows(tmp_path / "one", "faces")) == 3


def test_a_list_that_is_obeyed_knows_photos_by_the_ids_that_the_gallery_has(tmp_path: Path) -> None:
    lists = Gallery.create(
        str(tmp_path / "gallery"), GallerySpec(16, "e" * 64, "p" * 64, "d" * 64)
    ).suppressions
    lists.suppress([Names(images=frozenset({"cam/1.jpg", "3.jpg"}))])
    out = made_run(tmp_path / "out", PHOTOS_A)
    for source, left in (("cam", ["2.jpg"]), ("site", ["1.jpg", "2.jpg"])):
        _publish(tmp_path / source, out, source=source, barred=Barred(lists.read()))
        assert sorted(_rows(tmp_path / source, "photos").image_id) == left


def test_a_list_that_is_obeyed_holds_for_nights_whatever_source_they_are_published_as(tmp_path: Path) -> None:
    lists = Gallery.create(
        str(tmp_path / "gallery"), GallerySpec(16, "e" * 64, "p" * 64, "d" * 64)
    ).suppressions
    lists.suppress([Names(images=frozenset({"cam/1.jpg"}))])
    _publish(tmp_path / "lake", made_run(tmp_path / "out", PHOTOS_A), source="lake")
    identity = {"job": "night", "date": "2026-05-01", "photos": "/album", "consolidate": {"source": "cam"}}
    nights = Folder.at(str(tmp_path / "nights"))
    nights.write("_nights/2026-05-01", b"")
    nights.write("2026-05-01/run.json", json.dumps({"identity": identity, "base": {}}).encode())
    given = {"tables": "lake", "nights": "nights", "obey": "gallery"}
    paths = [text for name, place in given.items() for text in (f"--{name}", str(tmp_path / place))]
    assert main(["run", "publish", *paths, "--source", "lake"]) == 0
    assert sorted(_rows(tmp_path / "lake", "photos").image_id) == ["2.jpg", "3.jpg"]


@pytest.mark.parametrize("layout", ["delta", "parquet"])
def test_the_order_of_publication_does_not_matter(tmp_path: Path, layout: Any) -> None:
    old = made_run(tmp_path / "old", PHOTOS_A)
    new = _begun(made_run(tmp_path / "new", PHOTOS_A[:2]), created="2026-06-01T00:00:00+00:00")
    for place, order in (("there", (old, new)), ("back", (new, old))):
        for out in order:
            _publish(tmp_path / place, out, source="album", layout=layout)
    for name in ("photos", "faces", "rejects"):
        there, back = (_rows(tmp_path / each, name).to_dict("records") for each in ("there", "back"))
        assert sorted(map(repr, there)) == sorted(map(repr, back)), name
    assert set(_rows(tmp_path / "back", "faces").month) == {"2026-05", "2026-06"}


def test_a_photo_that_came_back_in_the_second_in_which_it_was_missed_has_not_vanished(tmp_path: Path) -> None:
    first, back = (
        replace(result_at(made_run(tmp_path / name, PHOTOS_A).uri, "album"), night=date(2026, 5, day))
        for name, day in (("first", 1), ("back", 3))
    )
    same = {name: getattr(first, name) for name in ("source", "as_of", "processed_at")}
    gone_then = _vanished(tmp_path / "scan", "1.jpg")
    missed = Publication("missed", "night", "ab" * 32, night=date(2026, 5, 2), vanished=gone_then, **same)
    assert back.as_of == missed.as_of == first.as_of
    for number, order in enumerate(([first, missed, back], [first, back, missed], [back, missed, first])):
        for each in order:
            _published(tmp_path / str(number), each)
        for name in ("photos", "faces"):
            rows = _rows(tmp_path / str(number), name)
            assert set(rows.night.astype(str)) == {"2026-05-03"}
            assert rows.vanished.isna().all(), (name, order)
    _published(tmp_path / "gone", first, missed)
    gone = _rows(tmp_path / "gone", "photos").set_index("image_id").vanished
    assert gone.notna().to_dict() == {"1.jpg": True, "2.jpg": False, "3.jpg": False}


def test_a_replay_stands_in_the_place_of_its_run_and_not_of_a_later_one(tmp_path: Path) -> None:
    first = made_run(tmp_path / "first", PHOTOS_A)
    later = _begun(made_run(tmp_path / "later", PHOTOS_A[:1]), created="2026-05-05T00:00:00+00:00")
    replay = _begun(
        made_run(tmp_path / "replay", PHOTOS_A), replayed="2026-05-09T00:00:00+00:00", replay_of=first.uri
    )
    for out in (first, later, replay):
        _publish(tmp_path / "tables", out, source="album")
    photos = _rows(tmp_path / "tables", "photos").set_index("image_id")
    assert photos.processed_at.dt.day.to_dict() == {"1.jpg": 5, "2.jpg": 9, "3.jpg": 9}
    assert photos.as_of.dt.day.to_dict() == {"1.jpg": 5, "2.jpg": 1, "3.jpg": 1}
    assert list(_rows(tmp_path / "tables", "runs").replay_of.dropna()) == [first.uri]


def test_a_run_whose_content_has_changed_since_replaces_its_own_rows(tmp_path: Path) -> None:
    out = made_run(tmp_path / "out", PHOTOS_A)
    _publish(tmp_path / "tables", out)
    claim = json.loads(out.read(run.RUN))[run.CLAIM]
    shutil.rmtree(tmp_path / "out")
    out = _begun(made_run(tmp_path / "out", PHOTOS_A[1:]), claim=claim)
    _publish(tmp_path / "tables", out)
    assert sorted(_rows(tmp_path / "tables", "photos").image_id) == ["2.jpg", "3.jpg"]
    assert sorted(_rows(tmp_path / "tables", "faces").image_id) == ["2.jpg", "3.jpg"]
    assert len(_rows(tmp_path / "tables", "runs")) == 1


def test_columns_of_later_manifests_are_added_and_older_rows_lack_them(tmp_path: Path) -> None:
    first = made_run(tmp_path / "first", PHOTOS_A)
    second = _with_column(
        made_run(tmp_path / "second", PHOTOS_A), "shop no", pa.array([1, 2, 3], pa.uint16())
    )
    third = _with_column(made_run(tmp_path / "third", PHOTOS_A), "night", pa.array(["x", "y", "z"]))
    for out in (first, second, third):
        _publish(tmp_path / "tables", out)
    faces = _rows(tmp_path / "tables", "faces")
    assert sorted(faces.shop_no.dropna()) == [1, 2, 3]
    assert sorted(faces.manifest_night.dropna()) == ["x", "y", "z"]
    assert list(faces.columns[: len(FACES.columns)]) == [column.name for column in FACES.columns]
    table = deltalake.DeltaTable(str(tmp_path / "tables/faces")).to_pyarrow_table()
    assert table.num_rows == 9
    assert table["shop_no"].null_count == 6


def test_values_that_do_not_fit_a_column_are_refused_by_name_and_may_be_left_out(tmp_path: Path) -> None:
    first = _with_column(made_run(tmp_path / "first", PHOTOS_A), "age", pa.array([1, 2, 3]))
    second = _with_column(made_run(tmp_path / "second", PHOTOS_A), "age", pa.array(["old", "x", "y"]))
    _publish(tmp_path / "tables", first)
    with pytest.raises(OutputError, match="age is int64 in the tables"):
        _publish(tmp_path / "tables", second)
    assert len(_rows(tmp_path / "tables", "photos")) == 3
    _publish(tmp_path / "tables", second, without=frozenset({"age"}))
    assert _rows(tmp_path / "tables", "photos").age.isna().sum() == 3


def test_another_recipe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made_run(tmp_path / "first", PHOTOS_A)
    _publish(tmp_path / "tables", first)
    monkeypatch.setattr(
        "made_runs.METADATA",
        {f"frpipe.{n}_hash": "f" * 64 for n in ("embedder", "detector", "preprocessing")},
    )
    other = made_run(tmp_path / "other", PHOTOS_A)
    with pytest.raises(OutputError, match="of another recipe than the tables"):
        _publish(tmp_path / "tables", other)
    assert len(_rows(tmp_path / "tables", "photos")) == 3


def test_without_embeddings_and_what_is_settled_once(tmp_path: Path) -> None:
    out = made_run(tmp_path / "out", PHOTOS_A)
    _publish(tmp_path / "tables", out, embeddings=False, layout="parquet")
    assert "embedding" not in _rows(tmp_path / "tables", "faces").columns
    for asked in ({"embeddings": True}, {"layout": "delta"}):
        with pytest.raises(OutputError, match="settled by their first publication"):
            _publish(tmp_path / "tables", out, **asked)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, tables = made_run(tmp_path / "out", PHOTOS_A), str(tmp_path / "tables")
    words = ["run", "publish", "--results", out.uri, "--tables", tables]
    assert main([*words, "--dry-run"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert not (tmp_path / "tables").exists()
    assert main([*words, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["runs"], done["tables"]["faces"]["rows"]) == (1, 3)
    assert main(words) == 0
    assert "1 published before" in capsys.readouterr().out
    (tmp_path / "out/_SUCCESS").unlink()
    assert main(words) == 6
    assert main(["run", "publish", "--tables", tables]) == 2
    assert main(["run", "publish", "--nights", out.uri, "--tables", tables]) == 6
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").write_text("x")
    assert main(["run", "publish", "--tables", str(tmp_path / "other"), "--compact"]) == 6
    assert "Traceback" not in capsys.readouterr().err


def test_people_are_erased_from_tables_with_their_run_or_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = [*PHOTOS_A, Photo("copy.jpg", "bob", "a1")]
    out, tables = made_run(tmp_path / "out", photos), str(tmp_path / "tables")
    _publish(tmp_path / "tables", out)
    words = ["erase", "--tables", tables, "--subject", "anna"]
    assert main(words) == 6
    assert "same as some that would go" in capsys.readouterr().err
    assert len(_rows(tmp_path / "tables", "photos")) == 4
    assert main([*words, "--copies", "erase", "--dry-run"]) == 0
    assert "3 photos would be erased" in capsys.readouterr().out
    assert main([*words, "--copies", "erase"]) == 0
    assert list(_rows(tmp_path / "tables", "faces").image_id) == ["3.jpg"]
    assert list(_rows(tmp_path / "tables", "people").subject_id) == ["bob"]
    vector = PHOTOS_A[0].vector.tobytes()
    assert not [path for path in Path(tables).rglob("*") if path.is_file() and vector in path.read_bytes()]
    assert main(words) == 0


def test_no_log_names_an_id(tmp_path: Path) -> None:
    photos = [Photo("a-person-of-note/1.jpg", "a-person-of-note", "a1"), *PHOTOS_A]
    for layout in ("delta", "parquet"):
        root = tmp_path / layout
        _publish(root, made_run(tmp_path / f"out-{layout}", photos), layout=layout, source="album")
        logs = [path.read_bytes() for path in root.rglob("*") if path.is_file() and path.suffix != ".parquet"]
        assert len(logs) > 4
        assert not [text for text in logs if b"a-person-of-note" in text]


def test_a_table_that_another_program_has_changed_beyond_us_is_left_alone(tmp_path: Path) -> None:
    out = made_run(tmp_path / "out", PHOTOS_A)
    _publish(tmp_path / "tables", out)
    log = tmp_path / "tables/photos/_delta_log"
    newer = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"]}
    (log / f"{1:020d}.json").write_text(json.dumps({"protocol": newer}) + "\n")
    before = sorted(log.iterdir())
    with pytest.raises(OutputError, match="not one that this version of frpipe can write to"):
        _publish(tmp_path / "tables", made_run(tmp_path / "other", PHOTOS_A))
    assert sorted(log.iterdir()) == before


def test_deltalake_may_compact_between_our_publications(tmp_path: Path) -> None:
    first, second = made_run(tmp_path / "first", PHOTOS_A), made_run(tmp_path / "second", PHOTOS_A)
    _publish(tmp_path / "tables", first)
    _publish(tmp_path / "tables", second)
    table = deltalake.DeltaTable(str(tmp_path / "tables/faces"))
    assert table.optimize.compact()["numFilesRemoved"] == 2
    table.create_checkpoint()
    third = _begun(made_run(tmp_path / "third", PHOTOS_A[:1]), created="2026-07-01T00:00:00+00:00")
    _publish(tmp_path / "tables", third, source=str(tmp_path / "first.csv"))
    faces = _rows(tmp_path / "tables", "faces")
    assert len(faces) == 6
    assert len(deltalake.DeltaTable(str(tmp_path / "tables/faces")).to_pyarrow_table()) == 6
    assert np.stack(faces.embedding).shape == (6, 16)


def test_a_writer_whose_files_were_removed_begins_again(tmp_path: Path) -> None:
    """A barrier: what somebody had read before people were taken out cannot be committed after."""
    _publish(tmp_path / "tables", made_run(tmp_path / "out", PHOTOS_A), layout="parquet")
    root = Root.opened(str(tmp_path / "tables"))
    assert root is not None
    table: PublishedTable = root.table(PHOTOS)
    bases: list[int] = []

    def change(base: Any) -> Any:
        bases.append(base.version)
        (file,) = base.files.values()
        fresh = table.write(base.schema, [table.read(base, file)])
        if len(bases) == 1:
            assert table.vacuum(barrier=True) == 1  # the file that was just written
        return Change(edited(base, [file.path], fresh))

    table.transact(change)
    assert len(bases) == 2
    assert len(_rows(tmp_path / "tables", "photos")) == 3


def test_times_are_those_of_the_run(tmp_path: Path) -> None:
    _publish(tmp_path / "tables", made_run(tmp_path / "out", PHOTOS_A))
    (row,) = _rows(tmp_path / "tables", "runs").to_dict("records")
    assert row["as_of"] == datetime(2026, 5, 1, tzinfo=UTC)
    assert row["photos"] == row["ok"] == row["faces"] == 3


def test_rows_that_replace_others_are_made_anew_where_somebody_was_erased_meanwhile(tmp_path: Path) -> None:
    out = made_run(tmp_path / "out", PHOTOS_A)
    _publish(tmp_path / "tables", out)
    root = Root.opened(str(tmp_path / "tables"))
    assert root is not None
    table, there = root.table(MEMBERS), ["anna", "bob"]

    def made() -> pa.Table:
        known = {"scope": "g", "cluster_id": "c", "run_id": "r"}
        found = [{**known, "subject_id": name} for name in there]
        if "anna" in there:
            there.remove("anna")
            # As an erasure commits, whoever is in the table.
            table.transact(lambda base: Change(edited(base)))
        rows = pa.Table.from_pylist(found)
        times = {name: pa.array([datetime.now(UTC)] * len(rows)) for name in ("as_of", "processed_at")}
        return conformed(
            pa.table({**dict(zip(rows.column_names, rows.columns, strict=True)), **times}), table.schema
        )

    replace_rows(table, "scope", "g", made, result_at(out.uri, None))
    assert list(_rows(tmp_path / "tables", "duplicate_members").subject_id) == ["bob"]


def _two_sources(place: Path) -> tuple[Publication, Publication, Publication]:
    """Photos of a folder, some of them again after it had moved, and one that was not found then."""
    first = made_run(place / "first", [*PHOTOS_A, Photo("4.jpg", "cleo", "c4"), Photo("5.jpg", "bob", "b5")])
    again = [PHOTOS_A[0], Photo("2.jpg", "anna", "a2 changed"), Photo("6.jpg", "dora", "d6")]
    second = _begun(made_run(place / "second", again), created="2026-06-01T00:00:00+00:00")
    when = datetime(2026, 6, 2, tzinfo=UTC)
    gone = _vanished(place / "scan", "4.jpg", "6.jpg")
    missed = Publication("missed", "night", "ab" * 32, "", date(2026, 6, 2), when, when, vanished=gone)
    return result_at(first.uri, None), result_at(second.uri, None), missed


def _of(source: str, *found: Publication) -> list[Publication]:
    return [replace(each, source=source) for each in found]


@pytest.mark.parametrize("layout", ["delta", "parquet"])
def test_photos_of_a_source_that_is_moved_stand_as_if_they_had_always_been_of_the_other(
    tmp_path: Path, layout: Any
) -> None:
    first, second, missed = _two_sources(tmp_path)
    for number, order in enumerate(((first, second, missed), (second, first, missed))):
        place = tmp_path / str(number)
        for each in order:
            _published(place / "one", *_of("new", each), layout=layout)
            mine = "old" if each is first else "new"
            _published(place / "two", *_of(mine, each), layout=layout)
        _published(place / "two", move=("old", "new"))
        expected = {table.name: _texts(place / "one", table.name) for table in TABLES}
        # That it was not found was said of the other source: the photo had no row there.
        gone = {"photos", "faces", "people"}
        for name, rows in expected.items():
            if name not in gone:
                assert _texts(place / "two", name) == rows, name
        photos = _rows(place / "two", "photos").set_index("image_id")
        assert set(photos.source) == {"new"}
        assert photos.as_of.dt.month.to_dict() == {
            f"{n}.jpg": 6 if n in {1, 2, 6} else 5 for n in range(1, 7)
        }
        assert photos.vanished.dropna().astype(str).to_dict() == {"6.jpg": "2026-06-02"}
        faces = _rows(place / "two", "faces")
        assert faces.face_id.is_unique
        assert len(faces.merge(photos.reset_index(), on=["source", "image_id", "run_id"])) == len(faces) == 6


def _texts(root: Path, name: str) -> list[str]:
    return sorted(map(repr, _rows(root, name).to_dict("records")))


@pytest.mark.slow
def test_a_move_that_was_killed_is_ended_by_any_publication(tmp_path: Path) -> None:
    first, second, _ = _two_sources(tmp_path)
    for source, each in (("old", first), ("new", second)):
        _published(tmp_path / "whole", *_of(source, each))
    shutil.copytree(tmp_path / "whole", tmp_path / "before")
    with at_change(None) as changes:
        _published(tmp_path / "whole", move=("old", "new"))
    expected = {table.name: _texts(tmp_path / "whole", table.name) for table in TABLES}
    for moment in range(2, changes[0] + 1):
        root = Path(shutil.copytree(tmp_path / "before", tmp_path / f"killed-{moment}"))
        with at_change(moment), pytest.raises(Killed):
            _published(root, move=("old", "new"))
        _published(root, **({"move": ("old", "new")} if moment % 2 else {}))
        assert {table.name: _texts(root, table.name) for table in TABLES} == expected, moment
        # Whatever is published of the old source from now on is of the new one.
        _published(root, *_of("old", replace(first, content="0" * 64)))
        assert set(_rows(root, "photos").source) == {"new"}
        assert len(_rows(root, "photos")) == 6


def test_a_list_that_is_obeyed_knows_photos_that_were_moved_by_the_ids_that_the_gallery_has(
    tmp_path: Path,
) -> None:
    lists = Gallery.create(
        str(tmp_path / "gallery"), GallerySpec(16, "e" * 64, "p" * 64, "d" * 64)
    ).suppressions
    lists.suppress([Names(images=frozenset({"cam/1.jpg"}))])
    for number, sources in enumerate((None, {"cam": ["cam"], "site": [""]})):
        root = tmp_path / str(number)
        _publish(root, made_run(tmp_path / f"out{number}", PHOTOS_A), source="cam")
        _published(root, move=("cam", "site"))
        assert len(_rows(root, "photos")) == 3
        _published(root, barred=Barred(lists.read(), sources))
        assert sorted(_rows(root, "photos").image_id) == ["2.jpg", "3.jpg"]


def test_photos_that_stand_under_two_sources_are_told_and_those_of_the_same_names_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = [Photo("1.jpg", "zoe", "z1"), Photo("9.jpg", "zoe", "z9")]
    first, other_run, second = (
        made_run(tmp_path / name, photos)
        for name, photos in (("first", PHOTOS_A), ("other", other), ("second", PHOTOS_A[:2]))
    )
    _begun(second, created="2026-06-01T00:00:00+00:00")
    words = ["run", "publish", "--tables", str(tmp_path / "tables")]
    told = []
    for out, source in ((first, "old"), (other_run, "other"), (second, "new")):
        assert main([*words, "--results", out.uri, "--source", source]) == 0
        told.append(capsys.readouterr().err.count("warning"))
        assert main([*words, "--results", out.uri, "--dry-run"]) == 0
        told.append(capsys.readouterr().out.count("warning"))
    assert told == [0, 0, 0, 0, 1, 1]
    assert main([*words, "--results", second.uri, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "2 photos of new stand under old, too" in text
    assert "--move-source old new\n" in text
    assert main([*words, "--move-source", "old", "new", "--dry-run"]) == 0
    assert "photos of old to new" in capsys.readouterr().out
    assert main([*words, "--move-source", "old", "new"]) == 0
    assert sorted(_rows(tmp_path / "tables", "photos").source) == ["new"] * 3 + ["other"] * 2
    capsys.readouterr()
    assert main([*words, "--results", second.uri, "--dry-run"]) == 0
    assert "warning" not in capsys.readouterr().out
    refused = {
        ("new", "new"): "one source",
        ("other", "old"): "was moved to new",
        ("old", "other"): "was moved to new",
        ("o", "new"): "is of the source o",
    }
    for asked, message in refused.items():
        for dry in ([], ["--dry-run"]):
            assert main([*words, "--move-source", *asked, *dry]) == 6, (asked, dry)
            assert message in capsys.readouterr().err
    assert main([*words, "--move-source", "new", "old"]) == 0
    assert sorted(_rows(tmp_path / "tables", "photos").source) == ["old"] * 3 + ["other"] * 2


@pytest.mark.parametrize("recorded", [True, False])
def test_of_a_night_that_is_gone_the_tables_know_what_its_gallery_has_before_ids(
    tmp_path: Path, recorded: bool
) -> None:
    runs = Folder.at(str(tmp_path / "nights"))
    facts = {"output": f"{runs.uri}/2026-05-01", **({"gallery_prefix": "cam"} if recorded else {})}
    found = result_at(made_run(tmp_path / "out", PHOTOS_A).uri, "lake")
    _published(tmp_path / "tables", replace(found, kind="night", night=date(2026, 5, 1), facts=facts))
    root = Root.opened(str(tmp_path / "tables"))
    assert root is not None
    # An older frpipe has not recorded it: then all are tried that its nights are known to have had.
    known = published_sources(root, runs, ["", "cam"])
    assert known == {"lake": ["cam"] if recorded else ["", "lake", "cam"]}
    moved = Root.opened(str(shutil.copytree(tmp_path / "tables", tmp_path / "moved")))
    assert moved is not None
    _published(tmp_path / "moved", move=("lake", "sea"))
    assert published_sources(moved, runs) == {"sea": ["cam"] if recorded else ["", "lake", "sea"]}
    lists = Gallery.create(
        str(tmp_path / "gallery"), GallerySpec(16, "e" * 64, "p" * 64, "d" * 64)
    ).suppressions
    lists.suppress([Names(images=frozenset({"cam/1.jpg"}))])
    _published(tmp_path / "tables", barred=Barred(lists.read(), known))
    assert sorted(_rows(tmp_path / "tables", "photos").image_id) == ["2.jpg", "3.jpg"]


def test_files_that_cannot_hold_the_photos_of_a_publication_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What their pages hold does not matter: here it is none of Parquet's."""
    old, new = (
        _begun(
            made_run(tmp_path / month, [Photo(f"{month}/{n}.jpg", "anna", f"{month}{n}") for n in range(3)]),
            created=f"2026-{month}-01T00:00:00+00:00",
        )
        for month in ("05", "06")
    )
    _publish(tmp_path / "tables", old, source="album")
    (path,) = (tmp_path / "tables/faces").rglob("*.parquet")
    data = path.read_bytes()
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    path.write_bytes(data[:4] + bytes(start - 4) + data[start:])
    _publish(tmp_path / "tables", new, source="album")
    path.write_bytes(data)
    assert len(_rows(tmp_path / "tables", "faces")) == 6
    path.write_bytes(data[:4] + bytes(start - 4) + data[start:])
    again = _begun(made_run(tmp_path / "again", [Photo("05/1x.jpg", "anna", "x")]), created="2026-07-01")
    with pytest.raises(FrpipeError):
        _publish(tmp_path / "tables", again, source="album")
