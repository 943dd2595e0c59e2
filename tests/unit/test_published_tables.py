"""Tables over nights: the same rows as made at once, whatever was killed, repeated, raced or taken out."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import deltalake
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from lake_nights import Place, files, rows, tiny_models
from s3server import S3, s3  # noqa: F401 - a fixture
from table_oracle import by_definition
from table_oracle import published as held

from frpipe.core.errors import OutputError
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.lifecycle import Suppressing
from frpipe.gallery.suppression import Names
from frpipe.io.storage.folder import Folder
from frpipe.jobs.erase.everywhere import EraseEverywhere
from frpipe.jobs.nightly import history
from frpipe.jobs.nightly.published import nights_at, publishing
from frpipe.jobs.publish import schema
from frpipe.jobs.publish.job import Publishing
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.sources import result_at
from frpipe.testing.kills import Killed, at_change

LAYOUTS = ("delta", "parquet")
FIRST = date(2026, 3, 1)
NIGHTS = int(os.environ.get("FRPIPE_LAKE_NIGHTS", "3"))
KILLS = int(os.environ.get("FRPIPE_LAKE_KILLS", "2"))
RIVALS = int(os.environ.get("FRPIPE_LAKE_RIVALS", "3"))
AGAIN = (0, NIGHTS // 2)
"""Nights whose output is processed again after all of them."""


def _dates(count: int) -> list[str]:
    return [(FIRST + timedelta(days=number)).isoformat() for number in range(count)]


def _album(place: Place, number: int) -> None:
    """New people, a second photo, one that changes, vanishes, or comes back, a copy, and rejects."""
    for person in (3 * number + 1, 3 * number + 2, 3 * number + 3):
        place.draw(f"p{person}/a.png", person, 1)
    place.draw(f"p{3 * number + 1}/black.png")
    for name in ("broken", "late"):
        place.spoil(f"p{3 * number + 2}/{name}.png")
    if number:
        # What was spoilt last night is whole by now: a night takes it as changed.
        place.draw(f"p{3 * number - 1}/late.png", 3 * number - 1, 4)
        before = 3 * number - 2
        place.draw(f"p{before}/b.png", before, 2)
        place.draw(f"p{before + 1}/a.png", before + 1, 3)
        (place.root / f"album/p{before + 2}/a.png").unlink()
        place.draw(f"twin{number}/a.png", before, 1)
    if number > 1:
        place.draw(f"p{3 * number - 3}/a.png", 3 * number - 3, 1)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Nights that nobody has published."""
    root = tmp_path_factory.mktemp("lake")
    with tiny_models(root):
        place = Place(root)
        for number, night in enumerate(_dates(NIGHTS)):
            _album(place, number)
            place.night(night)
        for number in AGAIN:
            # Whole since the last night: no night has seen that.
            place.draw(f"p{3 * number + 2}/broken.png", 3 * number + 2, 5)
            place.replay(_dates(NIGHTS)[number])
        yield place


@dataclass(frozen=True)
class Whole:
    """A publication of everything at once: all rows, and how often it changed a file."""

    rows: dict[str, list[str]]
    changes: int


@pytest.fixture(scope="module")
def published(nights: Place) -> dict[str, Whole]:
    """By layout."""
    found = {}
    for layout in LAYOUTS:
        uri = str(nights.root / f"whole-{layout}")
        with at_change(None) as changes:
            nights.publish(uri, layout=layout)
        found[layout] = Whole(rows(uri, times=True), changes[0])
    return found


@pytest.fixture(scope="module")
def whole(published: dict[str, Whole]) -> dict[str, dict[str, list[str]]]:
    """All rows, published at once."""
    return {layout: found.rows for layout, found in published.items()}


def _told(uri: str, table: str) -> pd.DataFrame:
    root = Root.opened(uri)
    assert root is not None
    spec = next(each for each in schema.TABLES if each.name == table)
    found: pd.DataFrame = root.table(spec).rows().to_pandas()
    return found


def test_both_layouts_hold_the_same_rows_and_those_that_are_reckoned_by_hand(
    nights: Place, whole: dict[str, dict[str, list[str]]]
) -> None:
    assert whole["delta"] == whole["parquet"]
    found = nights_at(nights.config().runs, None)[0]
    found += [result_at(str(path), None) for path in nights.replays()]
    for layout in LAYOUTS:
        assert held(str(nights.root / f"whole-{layout}")) == by_definition(found)
    photos = _told(str(nights.root / "whole-delta"), "photos")
    assert {*photos[photos.processed_at > photos.as_of].night.astype(str)} == {
        _dates(NIGHTS)[n] for n in AGAIN
    }
    assert photos.vanished.notna().any()
    faces = _told(str(nights.root / "whole-delta"), "faces")
    assert sorted(faces.image_id) == sorted(photos[photos.status == "ok"].image_id)
    assert faces.face_id.is_unique
    assert len(faces.merge(photos, on=["source", "image_id", "run_id"])) == len(faces)
    assert set(_told(str(nights.root / "whole-delta"), "rejects").reason) == {"unknown_format"}
    people = _told(str(nights.root / "whole-delta"), "people")
    there = photos[photos.vanished.isna()]
    assert dict(zip(people.subject_id, people.photos, strict=True)) == dict(there.subject_id.value_counts())
    matches = _told(str(nights.root / "whole-delta"), "matches")
    known = set(zip(photos.image_id, photos.run_id, strict=True))
    assert set(zip(matches.image_id, matches.photo_run_id, strict=True)) <= known
    members = _told(str(nights.root / "whole-delta"), "duplicate_members")
    assert {"twin1", "p1"} <= set(members.subject_id)
    assert len(_told(str(nights.root / "whole-delta"), "runs")) == NIGHTS + len(AGAIN)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_night_by_night_or_at_once_and_again_give_the_same(
    nights: Place, whole: dict[str, dict[str, list[str]]], tmp_path: Path, layout: str
) -> None:
    uri = str(tmp_path / "tables")
    for count in range(1, NIGHTS + 1):
        shown = _some_nights(nights, tmp_path, count)
        done = shown.publish(uri, layout=layout)
        assert (done.nights, done.known) == (1, count - 1)
    assert nights.publish(uri).runs == len(AGAIN)
    assert rows(uri, times=True) == whole[layout]
    before = files(uri)
    again = nights.publish(uri)
    assert (again.nights, again.known, again.written) == (0, NIGHTS + len(AGAIN), {})
    assert files(uri) == before


def _some_nights(place: Place, at: Path, count: int) -> Place:
    """A place that has only the first nights."""
    root = at / f"first-{count}"
    shutil.copytree(place.root / "nights", root / "nights")
    for night in _dates(NIGHTS)[count:]:
        shutil.rmtree(root / "nights" / night)
        (root / "nights/_nights" / night).unlink()
    for name in ("album", "people"):
        (root / name).symlink_to(place.root / name)
    return _At(root, place.root)


class _At(Place):
    """Nights of a copy whose photos and gallery lie elsewhere."""

    def __init__(self, root: Path, others: Path) -> None:
        super().__init__(root)
        object.__setattr__(self, "others", others)

    def config(self, tables: str | None = None, **sections: Any) -> Any:
        found = super().config(tables, **sections)
        others: Path = self.others  # type: ignore[attr-defined]
        return found.model_copy(update={"photos": str(others / "album"), "gallery": str(others / "people")})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed_at_any_change_the_same_command_ends_alike(
    nights: Place, published: dict[str, Whole], tmp_path: Path, layout: str
) -> None:
    for moment in random.Random(5).sample(range(1, published[layout].changes + 1), KILLS):
        uri = str(tmp_path / f"killed-{moment}")
        for later in (0, 9):
            with at_change(moment + later), pytest.raises(Killed):
                nights.publish(uri, layout=layout)
                raise Killed
        nights.publish(uri, layout=layout)
        assert rows(uri, times=True) == published[layout].rows, moment
        if layout == "parquet":
            assert _globbed(uri) == _listed(uri), moment


def _globbed(uri: str) -> dict[str, int]:
    """Rows that a reader counts who knows of no lists."""
    found = {}
    for spec in schema.TABLES:
        if (Path(uri) / spec.name).exists():
            paths = sorted((Path(uri) / spec.name).rglob("*.parquet"))
            found[spec.name] = sum(pq.read_metadata(path).num_rows for path in paths)
    return found


def _listed(uri: str) -> dict[str, int]:
    return {name: len(found) for name, found in rows(uri).items() if (Path(uri) / name).exists()}


def _raced(nights: Place, uri: str, layout: str, publishers: int) -> None:
    """The first night, published by several at once."""
    config = nights.config(uri)

    def publish(_: int) -> None:
        first = nights_at(config.runs, None)[0][:1]
        Publishing(uri, lambda _: (first, ()), layout=layout).run()  # type: ignore[arg-type]

    with ThreadPoolExecutor(publishers) as threads:
        assert list(threads.map(publish, range(publishers))) == [None] * publishers


@pytest.mark.parametrize("layout", LAYOUTS)
def test_of_publishers_at_once_each_ends_and_the_rows_are_there_once(
    nights: Place, whole: dict[str, dict[str, list[str]]], tmp_path: Path, layout: str
) -> None:
    uri = str(tmp_path / "tables")
    _raced(nights, uri, layout, 10)
    if layout == "parquet":
        assert _globbed(uri) == _listed(uri)
    nights.publish(uri)
    assert rows(uri, times=True) == whole[layout]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_publishers_race_in_a_store(nights: Place, s3: S3, layout: str) -> None:  # noqa: F811
    uri = f"{s3.uri}/tables"
    _raced(nights, uri, layout, RIVALS)
    alone = f"{s3.uri}/alone"
    _raced(nights, alone, layout, 1)
    found = rows(uri, times=True)
    assert found == rows(alone, times=True)
    if layout == "delta":
        options = {"allow_http": "true", "endpoint_url": s3.endpoint}
        table = deltalake.DeltaTable(f"{uri}/photos", storage_options=options)
        assert table.to_pyarrow_table().num_rows == len(found["photos"])


def test_readers_of_delta_lake_see_the_same_rows_with_checkpoints_too(
    nights: Place, whole: dict[str, dict[str, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frpipe.io.tables.delta._CHECKPOINT_EVERY", 2)
    uri = str(tmp_path / "tables")
    nights.publish(uri)
    assert list((tmp_path / "tables/photos/_delta_log").glob("*.checkpoint.parquet"))
    for log in (tmp_path / "tables").glob("*/_delta_log"):
        found = [int(path.name[:20]) for path in log.glob("*.checkpoint.parquet")]
        for path in log.glob("*.json"):
            if int(path.name[:20]) <= max(found, default=-1):
                path.unlink()
    assert rows(uri, times=True) == whole["delta"]
    for name, wanted in whole["delta"].items():
        found = deltalake.DeltaTable(f"{uri}/{name}").to_pyarrow_table()
        assert found.num_rows == len(wanted), name
    nights.publish(uri, compact=True)
    assert rows(uri, times=True) == whole["delta"]


def test_a_file_of_faces_is_sorted_with_statistics_of_ids_and_none_of_vectors(
    nights: Place, whole: dict[str, dict[str, list[str]]], tmp_path: Path
) -> None:
    uri = str(tmp_path / "tables")
    nights.publish(uri, layout="parquet", compact=True)
    (path,) = (tmp_path / "tables/faces").rglob("*.parquet")
    file = pq.ParquetFile(path)
    field = file.schema_arrow.field("embedding")
    assert str(field.type) == "list<element: float not null>"
    assert not field.nullable
    table = file.read()
    assert table["subject_id"].to_pylist() == sorted(table["subject_id"].to_pylist())
    group = file.metadata.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert columns["subject_id"].statistics.has_min_max
    assert columns["embedding.list.element"].statistics is None
    assert columns["embedding.list.element"].compression == "UNCOMPRESSED"
    frame = pd.read_parquet(tmp_path / "tables/faces")
    assert len(frame) == len(whole["parquet"]["faces"])
    assert set(frame.month.astype(str)) == {"2026-03"}
    hive = ds.dataset(tmp_path / "tables/photos", partitioning="hive").to_table()
    assert hive.num_rows == len(whole["parquet"]["photos"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_small_files_become_large_ones_and_the_rows_stay(
    nights: Place, whole: dict[str, dict[str, list[str]]], tmp_path: Path, layout: str
) -> None:
    uri = str(tmp_path / "tables")
    nights.publish(uri, layout=layout, target_bytes=4000)
    before = _told_files(uri)
    done = nights.publish(uri, compact=True, keep_hours=0)
    assert _told_files(uri)["faces"] == 1 < before["faces"]
    assert done.tables["faces"]["files"] == 1
    assert rows(uri, times=True) == whole[layout]
    assert sum(1 for _ in Path(uri, "faces").rglob("*.parquet")) == 1


def _told_files(uri: str) -> dict[str, int]:
    root = Root.opened(uri)
    assert root is not None
    return {spec.name: len(root.table(spec).head().files) for spec in schema.TABLES}


@pytest.fixture
def mine(nights: Place, tmp_path: Path) -> Place:
    """A copy of the nights, with their gallery, to take people out of."""
    for name in ("nights", "people", "album", "replays"):
        shutil.copytree(nights.root / name, tmp_path / name)
    return _Copy(tmp_path, nights.root)


class _Copy(_At):
    """Nights that say another folder of photos than where the copy lies."""

    def config(self, tables: str | None = None, **sections: Any) -> Any:
        found = Place.config(self, tables, **sections)
        return found.model_copy(update={"photos": str(self.others / "album")})  # type: ignore[attr-defined]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_who_is_erased_is_in_no_file_of_the_tables_and_comes_back_with_no_publication(
    mine: Place, tmp_path: Path, layout: str
) -> None:
    uri, who = str(tmp_path / "tables"), "p2"
    mine.publish(uri, layout=layout, keep_hours=99)
    faces = _told(uri, "faces")
    vectors = [bytes(vector.astype("<f4").tobytes()) for vector in faces[faces.subject_id == who].embedding]
    others = sum(len(found) for found in rows(uri).values())
    assert vectors
    held = [name for name, data in files(uri).items() if any(vector in data for vector in vectors)]
    assert held
    done = EraseEverywhere(mine.config(uri), frozenset({who}), copies="keep").run()
    assert done.tables > 0
    for name, data in files(uri).items():
        assert not any(vector in data for vector in vectors), name
        assert b"p2/a.png" not in data, name
        if name.endswith(".parquet"):
            assert who not in _texts(data), name
    assert sum(len(found) for found in rows(uri).values()) < others
    mine.publish(uri)
    fresh = str(tmp_path / "fresh")
    mine.publish(fresh, layout=layout)
    assert rows(uri, times=True) == rows(fresh, times=True)
    assert who not in set(_told(uri, "people").subject_id)


def _texts(data: bytes) -> set[str]:
    import pyarrow as pa

    found: set[str] = set()
    for column in pq.read_table(pa.BufferReader(data)).columns:
        if pa.types.is_string(column.type):
            found.update(column.to_pylist())
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_who_is_suppressed_goes_from_the_tables_with_the_next_publication(
    mine: Place, tmp_path: Path, layout: str
) -> None:
    uri, who = str(tmp_path / "tables"), "p4"
    mine.publish(uri, layout=layout)
    assert who in set(_told(uri, "faces").subject_id)
    gallery = Gallery.open(str(tmp_path / "people"))
    lifecycle.delete(gallery, [who], suppress=Suppressing())
    done = mine.publish(uri)
    assert done.suppressed > 0
    for name in ("photos", "faces", "rejects", "duplicate_members", "people"):
        assert who not in set(_told(uri, name).subject_id), name
    assert who not in repr(rows(uri)["matches"])
    fresh = str(tmp_path / "fresh")
    mine.publish(fresh, layout=layout)
    assert rows(uri, times=True) == rows(fresh, times=True)


def test_a_night_publishes_itself_once_it_has_ended_and_reports_what_that_cost(
    nights: Place, tmp_path: Path
) -> None:
    place, tables = Place(tmp_path), str(tmp_path / "tables")
    place.draw("anna/1.png", 1, 1)
    night = _dates(1)[0]
    # Nothing of a night is in the tables before it has ended.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frpipe.jobs.nightly.job.write_report", _dies)
        with pytest.raises(Killed):
            place.night(night, tables=tables)
    with pytest.raises(OutputError, match="no photos to begin them with"):
        place.publish(tables)
    assert not (tmp_path / "tables").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frpipe.jobs.publish.job.merge_dependent", _dies)
        with pytest.raises(Killed):
            place.night(night, tables=tables)
    assert (tmp_path / "nights" / night / "_SUCCESS").exists()
    report = place.night(night, tables=tables)
    told = report["steps"]["publish"]
    assert told["rows"] > 0 < told["bytes"]
    assert told["files"] > 0 <= told["seconds"]
    assert [each["count"] for each in report["throughput"] if each["step"] == "publish"] == [told["rows"]]
    assert "published " in (tmp_path / "nights" / night / "report.md").read_text()
    before = files(tables)
    assert place.night(night, tables=tables)["steps"]["publish"] == told
    assert files(tables) == before
    assert len(_told(tables, "faces")) == len(_told(tables, "photos")) == 1
    # What somebody takes away to save space stays in the tables.
    shutil.rmtree(tmp_path / "nights" / night / "enroll")
    assert (place.publish(tables).nights, len(_told(tables, "faces"))) == (0, 1)


def _dies(*_: object, **__: object) -> None:
    raise Killed


def test_copies_that_only_the_tables_know_are_asked_about_before_anything_is_changed(
    mine: Place, tmp_path: Path
) -> None:
    """A night that retention has removed had the same photo under another id."""
    uri = str(tmp_path / "tables")
    mine.publish(uri)
    for night in _dates(NIGHTS)[1:]:
        shutil.rmtree(tmp_path / "nights" / night)
        (tmp_path / "nights/_nights" / night).unlink()
    before = files(uri)
    with pytest.raises(OutputError, match="the same as some that would go"):
        EraseEverywhere(mine.config(uri), frozenset({"p1"})).run()
    assert files(uri) == before


def test_whom_the_list_names_goes_out_of_nights_that_named_their_photos_otherwise(tmp_path: Path) -> None:
    with tiny_models(tmp_path):
        place, uri = Place(tmp_path), str(tmp_path / "tables")
        place.draw("p1/a.png", 1, 1)
        place.draw("p2/a.png", 2, 1)
        place.night("2026-03-01")
        place.draw("p1/a.png", 1, 2)
        album = f"{tmp_path}/album/"
        place.night("2026-03-02", photos=album)
        publishing(place.config(uri, photos=album), lambda _: None).run()
        photos = _told(uri, "photos")
        assert sorted(photos.image_id) == ["p1/a.png", "p2/a.png"], "one folder, however it is written"
        Gallery.open(str(tmp_path / "people")).suppressions.suppress([Names(frozenset({"p2"}))])
        publishing(place.config(uri, consolidate={"source": "cam"}), lambda _: None).run()
        assert list(_told(uri, "photos").image_id) == ["p1/a.png"]
        assert "p2" not in repr(rows(uri))


def _without_record(place: Place, date: str) -> None:
    """A night as an older frpipe has written it."""
    path = place.root / "nights" / date / "run.json"
    facts = json.loads(path.read_text())
    for name in ("source", "sources"):
        facts["base"].pop(name, None)
    path.write_text(json.dumps(facts))


@pytest.mark.parametrize("older", [False, True])
def test_whom_the_list_names_goes_out_of_sources_that_only_removed_nights_had(
    tmp_path: Path, older: bool
) -> None:
    with tiny_models(tmp_path):
        place, uri = Place(tmp_path), str(tmp_path / "tables")
        place.draw("p1/a.png", 1, 1)
        place.draw("p2/a.png", 2, 1)
        place.draw("../asked/p2/b.png", 2, 2)
        retention = {"nights": 1}
        probes = {"probes": f"{tmp_path}/asked", "gallery": {"threshold": 0.97}}
        place.night("2026-03-01", tables=uri, identify=probes, retention=retention)
        place.night("2026-03-02", tables=uri, consolidate={"source": "site"}, retention=retention)
        if older:
            _without_record(place, "2026-03-02")
        now = {"consolidate": {"source": "cam"}, "retention": retention}
        place.night("2026-03-03", tables=uri, **now)
        assert [each.date for each in history.nights(Folder.at(f"{tmp_path}/nights"))] == ["2026-03-03"]
        assert "p2" in repr(rows(uri)["photos"]) and "p2" in repr(rows(uri)["matches"])
        if not older:
            # The record lies with the nights: it goes with them to another place.
            (tmp_path / "nights").rename(tmp_path / "moved")
            now["runs"] = f"{tmp_path}/moved"
        gallery = Gallery.open(str(tmp_path / "people"))
        gallery.suppressions.suppress([Names(frozenset({"p2"}))])
        publishing(place.config(uri, **now), lambda _: None).run()
        assert "p2" not in repr(rows(uri))
        assert list(_told(uri, "photos").image_id) == ["p1/a.png"]


def test_photos_keep_their_source_where_their_folder_moves_or_becomes_a_table(tmp_path: Path) -> None:
    with tiny_models(tmp_path):
        place, uri = Place(tmp_path), str(tmp_path / "tables")
        for person in (1, 2):
            place.draw(f"p{person}/a.png", person, 1)
        place.night("2026-03-01", tables=uri)
        (tmp_path / "album").rename(tmp_path / "moved")
        (tmp_path / "moved/p2/a.png").unlink()
        place.night("2026-03-02", tables=uri, photos=f"{tmp_path}/moved")
        place.draw("../moved/p1/b.png", 1, 2)
        listed = [f"p1/{name}.png" for name in "ab"]
        uris = [f"{tmp_path}/moved/{name}" for name in listed]
        manifest = pa.table({"image_id": listed, "image_uri": uris, "subject_id": ["p1", "p1"]})
        pq.write_table(manifest, tmp_path / "photos.parquet")
        table = {"photos": {"manifest": f"{tmp_path}/photos.parquet"}}
        report = place.night("2026-03-03", tables=uri, **table)
        assert report["steps"]["scan"]["new"] == 1
        photos = _told(uri, "photos")
        assert sorted(photos.image_id) == ["p1/a.png", "p1/b.png", "p2/a.png"]
        assert set(photos.source) == {f"{tmp_path}/album"}
        gone = photos[photos.image_id == "p2/a.png"].iloc[0]
        assert str(gone.vanished) == "2026-03-02"
