"""Photos of a night from a manifest or a table: only what has come since last night is taken."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frpipe.core.errors import ConfigError, ManifestError, OutputError
from frpipe.core.night_config import NightConfig, load_night
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.spec import GallerySpec
from frpipe.gallery.suppression import Names
from frpipe.io.manifest import id_order
from frpipe.io.manifest.manifest import Manifest
from frpipe.io.output.parts import write_part
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly import photos
from frpipe.jobs.nightly.faces import looked
from frpipe.jobs.nightly.history import Past
from frpipe.jobs.nightly.photos import PhotoScan
from frpipe.jobs.nightly.tables import read_table

SPEC = GallerySpec(16, "e" * 64, "p" * 64, "d" * 64)


@dataclass
class Nights:
    """Nights over one table, or over the folder `album`, without models: enroll outputs are made up.

    how: settings of the table; None: photos are those of the folder.
    """

    root: Path
    how: dict[str, Any] | None
    last: Past | None = None
    count: int = 0
    found: PhotoScan | None = None
    source: str | None = None

    @property
    def config(self) -> NightConfig:
        places = {"runs": str(self.root / "runs"), "gallery": str(self.root / "gallery")}
        table = None if self.how is None else {"manifest": str(self.root / "table"), **self.how}
        photos = table or str(self.root / "album")
        return NightConfig.model_validate(
            {**places, "photos": photos, "consolidate": {"source": self.source}}
        )

    def next(
        self, *, failed: tuple[str, ...] = (), suppressed: tuple[str, ...] = (), ends: bool = True
    ) -> list[str]:
        """Ids that a night takes; it ends unless told otherwise."""
        self.count += 1
        folder = Folder.at(str(self.root / f"runs/2026-01-{self.count:02d}"))
        found = self.found = looked(self.config, self.last)
        place = folder.child("scan")
        found.write(place)
        names: list[str] = read_table(place, photos.MANIFEST)["image_id"].to_pylist()
        out = folder.child("enroll")
        reasons = [
            "fetch_failed" if n in failed else "suppressed" if n in suppressed else None for n in names
        ]
        contents = ["ab" * 32 if name in suppressed else None for name in names]
        columns = {
            "reason": pa.array(reasons, pa.string()),
            "content_sha256": pa.array(contents, pa.string()),
        }
        images = pa.table({"image_id": pa.array(names, pa.string()), **columns})
        write_part(out, 0, images, images.select(["image_id"]).slice(0, 0), {})
        before = self.last.folder.child("scan") if self.last else None
        photos.write_again(place, out if names else None, before)
        if ends:
            self.last = Past(folder.uri[-10:], folder, self.config.identity(), {}, True, {})
        return names


def _write(root: Path, name: str, ids: list[str], **columns: list[Any]) -> None:
    path = root / "table" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {"image_id": ids, "image_uri": [f"photos/{each}.jpg" for each in ids]}
    pq.write_table(pa.table({**rows, "subject_id": [each[0] for each in ids], **columns}), path)


def test_rows_that_were_not_seen_before_are_taken(tmp_path: Path) -> None:
    nights = Nights(tmp_path, {})
    _write(tmp_path, "a.parquet", ["a1", "b1"])
    assert nights.next() == ["a1", "b1"]
    assert nights.next() == []
    _write(tmp_path, "a.parquet", ["b1", "c1"])
    _write(tmp_path, "b.parquet", ["a2"])
    assert nights.next() == ["a2", "c1"]
    assert nights.found is not None
    facts = nights.found.facts()
    assert (facts["new"], facts["vanished"], facts["files"], facts["rows"]) == (2, 0, 2, 3)
    manifest = Manifest.open(f"{tmp_path}/runs/2026-01-03/scan/{photos.MANIFEST}")
    (batch,) = manifest.batches()
    assert batch.text("image_uri").to_pylist() == [f"{tmp_path}/table/photos/{n}.jpg" for n in ("a2", "c1")]
    assert batch.text("subject_id").to_pylist() == ["a", "c"]


def test_new_partitions_of_a_table_are_read_and_old_ones_are_not(tmp_path: Path) -> None:
    nights = Nights(tmp_path, {"new": "files"})
    _write(tmp_path, "day=2026-01-01/part.parquet", ["a1", "b1"], site=["x", "y"])
    assert nights.next() == ["a1", "b1"]
    _write(tmp_path, "day=2026-01-02/part.parquet", ["c1"], site=["z"])
    # Of an old partition nothing is read: a file that could not be read does no harm.
    old = tmp_path / "table/day=2026-01-01/part.parquet"
    facts = old.stat()
    old.write_bytes(b"x" * facts.st_size)
    os.utime(old, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert nights.next(ends=False) == ["c1"]
    assert nights.next() == ["c1"], "a night that did not end has read nothing"
    assert nights.found is not None and nights.found.facts()["files_read"] == 1
    rows = read_table(Folder.at(f"{tmp_path}/runs/2026-01-03/scan"), photos.MANIFEST)
    assert rows.select(["site", "day"]).to_pylist() == [{"site": "z", "day": "2026-01-02"}]
    assert nights.next() == []


@pytest.mark.parametrize("keyed", [False, True])
def test_what_has_arrived_since_last_night_is_taken(tmp_path: Path, keyed: bool) -> None:
    def write(day: int, ids: list[str]) -> None:
        if keyed:
            _write(tmp_path, f"day=2026-01-{day:02d}/p.parquet", ids)
        else:
            _write(tmp_path, f"{day}.parquet", ids, day=[day] * len(ids))

    nights = Nights(tmp_path, {"new": "arrived", "arrived": "day"})
    write(9, ["a1", "b1"])
    assert nights.next() == ["a1", "b1"]
    write(8, ["z1"])
    assert nights.next() == [], "it arrived before what was read"
    write(10, ["a1", "c1"])
    (tmp_path / "table" / ("day=2026-01-09/p.parquet" if keyed else "9.parquet")).unlink()
    assert nights.next() == ["a1", "c1"]
    assert nights.found is not None
    facts = nights.found.facts()
    assert (facts["new"], facts["changed"]) == (1, 1), "a photo that arrives anew has changed"
    assert nights.next() == []
    assert nights.found.facts()["files_read"] == 0


@pytest.mark.parametrize("keyed", [False, True])
def test_a_row_that_comes_late_with_the_newest_arrival_is_taken(tmp_path: Path, keyed: bool) -> None:
    def write(name: str, day: str, ids: list[str]) -> None:
        if keyed:
            _write(tmp_path, f"day={day}/{name}.parquet", ids)
        else:
            _write(tmp_path, f"{name}.parquet", ids, day=[int(day)] * len(ids))

    nights = Nights(tmp_path, {"new": "arrived", "arrived": "day"})
    write("old", "8", ["a1", "a2"])
    assert nights.next() == ["a1", "a2"]
    write("1", "9", ["b1", "b2"])
    assert nights.next(failed=("b2",)) == ["b1", "b2"]
    write("2", "9", ["c1", "b1"])
    assert nights.next(ends=False) == ["b2", "c1"], "b1 has come with this arrival before"
    assert nights.next() == ["b2", "c1"], "a night that did not end has read nothing"
    write("3", "9", ["a1"])
    assert nights.next() == ["a1"], "a known photo that arrived anew has changed"
    write("late", "8", ["z1"])
    assert nights.next() == [], "it arrived before what was read"
    write("1", "9", ["b1", "b2", "d1"])
    assert nights.next() == ["d1"]
    assert nights.next() == []
    assert nights.found is not None and nights.found.facts()["files_read"] == 0
    write("new", "10", ["e1"])
    assert nights.next() == ["e1"]
    assert nights.found.facts()["files_read"] == 1


@pytest.mark.parametrize("before", [{}, {"new": "files"}], ids=["unseen", "files"])
def test_photos_that_are_known_are_left_alone_when_their_arrival_is_first_read(
    tmp_path: Path, before: dict[str, str]
) -> None:
    nights = Nights(tmp_path, before)
    _write(tmp_path, "1.parquet", ["a1", "b1"], day=[9, 9])
    assert nights.next() == ["a1", "b1"]
    nights.how = {"new": "arrived", "arrived": "day"}
    assert nights.next() == []
    _write(tmp_path, "2.parquet", ["b1", "c1"], day=[9, 9], subject_id=[None, "c"])
    assert nights.next() == ["c1"]
    _write(tmp_path, "3.parquet", ["a1"], day=[10])
    assert nights.next() == ["a1"]


def test_a_newest_arrival_of_another_type_is_the_same_arrival(tmp_path: Path) -> None:
    nights = Nights(tmp_path, {"new": "arrived", "arrived": "day"})
    _write(tmp_path, "1.parquet", ["a1"], day=[date(2026, 1, 9)])
    assert nights.next() == ["a1"]
    _write(tmp_path, "1.parquet", ["a1", "b1"], day=[datetime(2026, 1, 9)] * 2)
    assert nights.next() == ["b1"]


def test_known_photos_without_an_arrival_are_left_alone_where_an_older_frpipe_has_read_them(
    tmp_path: Path,
) -> None:
    nights = Nights(tmp_path, {})
    _write(tmp_path, "1.parquet", ["a1", "b1", "c1"], day=[8, 9, 9])
    assert nights.next() == ["a1", "b1", "c1"]
    # As it was recorded on its first night with a column of arrival: known photos got no arrival.
    record = tmp_path / "runs/2026-01-01/scan/known.json"
    facts = json.loads(record.read_text())
    record.write_text(json.dumps({**facts, "seen": {"table": True, "arrived": "9"}}))
    nights.how = {"new": "arrived", "arrived": "day"}
    _write(tmp_path, "2.parquet", ["d1"], day=[9])
    assert [nights.next(), nights.next()] == [["d1"], []]
    _write(tmp_path, "3.parquet", ["b1", "c1"], day=[9, 10])
    assert nights.next() == ["c1"]


@pytest.mark.parametrize("told", [{"day": [None]}, {}], ids=["no value", "no column"])
def test_files_that_do_not_say_when_their_rows_arrived_stop_no_night(
    told: dict[str, Any], tmp_path: Path
) -> None:
    nights = Nights(tmp_path, {"new": "arrived", "arrived": "day"})
    _write(tmp_path, "1.parquet", ["a1", "a2"], day=[9, 9])
    assert nights.next(failed=("a2",)) == ["a1", "a2"]
    _write(tmp_path, "2.parquet", ["b1"], **told)
    assert nights.next() == ["a2"]
    assert [row["day"] for row in _rows(nights, "day")] == [9]
    assert _facts(nights)["undated"] == 1
    _write(tmp_path, "3.parquet", ["c1"], day=[10])
    assert nights.next() == ["c1"]


@pytest.mark.parametrize(
    ("before", "after"),
    [(["x"], [None]), ([["x"]], [None]), ([1.5], [2])],
    ids=["no text", "no list", "whole numbers"],
)
@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_photos_that_wait_have_columns_of_which_tonights_files_show_another_type(
    before: list[Any], after: list[Any], suffix: str, tmp_path: Path
) -> None:
    nights = Nights(tmp_path, {"new": "arrived", "arrived": "day"})
    for name, note, taken in (("a1", before, ["a1"]), ("b1", after, ["a1", "b1"])):
        row = {"image_id": name, "image_uri": name, "subject_id": name[0], "day": int(name == "b1")}
        if suffix == "parquet":
            _write(tmp_path, f"{name}.parquet", [name], day=[row["day"]], note=note)
        else:
            (tmp_path / "table").mkdir(exist_ok=True)
            (tmp_path / f"table/{name}.jsonl").write_text(json.dumps({**row, "note": note[0]}) + "\n")
        assert nights.next(failed=("a1",)) == taken
    assert [row["note"] for row in _rows(nights, "note")] == [*before, *after]


def test_another_column_of_arrival_begins_anew_and_leaves_known_photos_alone(tmp_path: Path) -> None:
    nights = Nights(tmp_path, {"new": "arrived", "arrived": "day"})
    _write(tmp_path, "1.parquet", ["a1", "b1"], day=[9, 9], batch=[1, 2])
    assert nights.next() == ["a1", "b1"]
    nights.how = {"new": "arrived", "arrived": "batch"}
    _write(tmp_path, "2.parquet", ["c1"], day=[10], batch=[3])
    assert nights.next() == ["c1"]
    _write(tmp_path, "3.parquet", ["a1"], day=[10], batch=[4])
    assert [nights.next(), nights.next()] == [["a1"], []]


def _facts(nights: Nights) -> dict[str, Any]:
    assert nights.found is not None
    return nights.found.facts()


def _rows(nights: Nights, *columns: str) -> list[dict[str, Any]]:
    place = Folder.at(str(nights.root / f"runs/2026-01-{nights.count:02d}/scan"))
    found: list[dict[str, Any]] = read_table(place, photos.MANIFEST).select([*columns]).to_pylist()
    return found


_MOMENTS = [datetime(2026, 1, 10, 0, 0, 2), datetime(2026, 1, 9), datetime(2026, 1, 10)]


@pytest.mark.parametrize(
    "arrivals",
    [
        pa.array([10, 9, 8]),
        pa.array([0.5, -1.5, 0.25]),
        pa.array(["b", "a", "a"]).dictionary_encode(),
        pa.array([*map(Decimal, ("10.5", "9.5", "1.5"))], pa.decimal128(5, 1)),
        pa.array(_MOMENTS, pa.timestamp("ns")),
    ],
    ids=lambda values: str(values.type),
)
def test_of_a_photo_that_arrived_twice_the_row_of_the_greatest_arrival_is_taken(
    arrivals: pa.Array, tmp_path: Path
) -> None:
    nights = Nights(tmp_path, {"new": "arrived", "arrived": "day"})
    _write(tmp_path, "1.parquet", ["b1", "a1", "b1"], day=arrivals, note=["b1", "a1", "b1 before"])
    assert nights.next() == ["a1", "b1"]
    assert _rows(nights, "image_id", "note") == [{"image_id": n, "note": n} for n in ("a1", "b1")]
    assert (_facts(nights)["rows"], _facts(nights)["listed"], _facts(nights)["repeated"]) == (3, 2, 1)
    assert nights.next() == []


def test_keys_of_folders_that_are_numbers_say_as_numbers_which_row_is_the_latest(tmp_path: Path) -> None:
    nights = Nights(tmp_path, {"new": "arrived", "arrived": "batch"})
    _write(tmp_path, "batch=10/p.parquet", ["a1", "b1"])
    _write(tmp_path, "batch=9/p.parquet", ["a1", "c1"])
    assert nights.next() == ["a1", "b1", "c1"]
    assert [row["batch"] for row in _rows(nights, "batch")] == ["10", "10", "9"]


@pytest.mark.parametrize("how", [{}, {"new": "files"}, {"new": "arrived", "arrived": "day"}], ids=str)
def test_of_rows_that_arrived_alike_the_last_by_file_and_row_is_taken(
    how: dict[str, str], tmp_path: Path
) -> None:
    nights = Nights(tmp_path, how)
    lists = Gallery.ensure(str(tmp_path / "gallery"), SPEC).suppressions
    lists.suppress([Names(frozenset({"z"}))])
    _write(tmp_path, "1.parquet", ["a1", "b1"], day=[9, 9], note=["first", "first"])
    _write(tmp_path, "2.parquet", ["z1", "a1", "z1", "a1"], day=[9] * 4, note=["z", "second", "z", "third"])
    assert nights.next() == ["a1", "b1"]
    assert [row["note"] for row in _rows(nights, "note")] == ["third", "first"]
    facts = _facts(nights)
    assert (facts["rows"], facts["listed"], facts["suppressed"], facts["repeated"]) == (6, 2, 1, 3)
    assert nights.next() == []


@pytest.mark.parametrize("first", [["1"], ["2"], ["1", "2"]], ids=str)
def test_a_row_that_arrives_as_its_photo_did_is_left_alone_and_counted_where_it_names_another_person(
    first: list[str], tmp_path: Path
) -> None:
    """Whichever of the files a night has read first, and whichever of them is written anew."""
    nights = Nights(tmp_path, {"new": "arrived", "arrived": "day"})
    for name in first:
        _write(tmp_path, f"{name}.parquet", ["a1", "b1"], day=[9, 9], note=[name, name])
    assert nights.next() == ["a1", "b1"]
    assert {row["note"] for row in _rows(nights, "note")} == {first[-1]}
    for name in ("1", "2"):
        _write(tmp_path, f"{name}.parquet", ["a1", "b1"], day=[9, 9], note=["other", "other"])
        assert nights.next() == []
        assert _facts(nights)["other_subject"] == 0
        rows = {"image_id": ["a1", "b1"], "image_uri": ["a1.jpg", "b1.jpg"], "subject_id": ["x", "b"]}
        pq.write_table(
            pa.table({**rows, "day": [9, 9], "note": ["x", "b"]}), tmp_path / f"table/{name}.parquet"
        )
        assert nights.next() == []
        assert _facts(nights)["other_subject"] == 1
    rows["subject_id"] = ["x", "y"]
    pq.write_table(pa.table({**rows, "day": [10, 9], "note": ["x", "y"]}), tmp_path / "table/1.parquet")
    assert nights.next() == ["a1"], "one that arrives later has changed"


def test_of_many_rows_of_an_id_the_last_is_taken_however_they_are_sorted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(id_order, "_RUN_ROWS", 7)
    chosen = random.Random(8)
    last: dict[str, int] = {}
    for file in range(6):
        ids = [f"p{chosen.randrange(20):02d}" for _ in range(20)]
        numbers = [100 * file + row for row in range(20)]
        last |= dict(zip(ids, numbers, strict=True))
        _write(tmp_path, f"{file}.parquet", ids, number=numbers)
    nights = Nights(tmp_path, {})
    assert nights.next() == sorted(last)
    assert {row["image_id"]: row["number"] for row in _rows(nights, "image_id", "number")} == last


@pytest.mark.parametrize("seed", range(4))
def test_a_history_of_arrivals_finds_what_a_plain_recomputation_finds(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    nights = Nights(tmp_path, {"new": "arrived", "arrived": "day"})
    files: dict[str, list[tuple[str, int]]] = {}
    known: dict[str, int] = {}
    failed: set[str] = set()
    last = 0
    for step in range(12):
        for _ in range(chance.randrange(1, 3)):
            name = f"{chance.randrange(step + 1)}.parquet"
            rows = files.setdefault(name, [])
            rows += [
                (f"p{chance.randrange(9)}", max(1, last + chance.randrange(-1, 2)))
                for _ in range(chance.randrange(1, 4))
            ]
            _write(tmp_path, name, [photo for photo, _ in rows], day=[day for _, day in rows])
            # A clock that is too coarse would call two versions of a file one.
            os.utime(tmp_path / "table" / name, ns=(step, step))
        came: dict[str, int] = {}
        for photo, day in (row for _, rows in sorted(files.items()) for row in rows):
            if day >= max(last, came.get(photo, 0)):
                came[photo] = day
        todo = {photo for photo, day in came.items() if known.get(photo) != day} | failed
        failing = {photo for photo in sorted(todo) if chance.random() < 0.3}
        ends = chance.random() < 0.7
        assert nights.next(failed=tuple(failing), ends=ends) == sorted(todo), step
        if ends:
            known |= {photo: came[photo] for photo in todo if photo in came}
            failed, last = failing, max([last, *came.values()])


def test_one_id_in_two_unicode_forms_is_one_photo(tmp_path: Path) -> None:
    nights = Nights(tmp_path, {})
    _write(tmp_path, "1.parquet", ["zoe\u0301", "zo\u00e9"], note=["before", "last"])
    assert nights.next() == ["zo\u00e9"]
    assert _rows(nights, "note") == [{"note": "last"}]


def test_a_file_that_cannot_be_read_stops_the_night_though_no_row_has_come(tmp_path: Path) -> None:
    nights = Nights(tmp_path, {"new": "arrived", "arrived": "day"})
    path = tmp_path / "table/1.csv"
    path.parent.mkdir()
    path.write_text("image_id,image_uri,day\na1,a1.jpg,9\n")
    assert nights.next() == ["a1"]
    path.write_text("image_id,image_uri,day\na1,a1.jpg,8\nb1,b1.jpg,9,surplus\n")
    with pytest.raises(ManifestError):
        nights.next()


_ZONED = datetime(2026, 1, 9, 23, 59, 59, 999_999, UTC)


@pytest.mark.parametrize(
    "days",
    [
        pa.array([9, 10]),
        pa.array([9.5, 9.75]),
        pa.array(["2026-01-09", "2026-01-10"]).dictionary_encode(),
        pa.array([date(2026, 1, 9), date(2026, 1, 10)]),
        pa.array([_ZONED, _ZONED + timedelta(microseconds=1)], pa.timestamp("us", "UTC")),
        pa.array([datetime(2026, 1, 9), datetime(2026, 1, 9, 0, 0, 1)], pa.timestamp("ns")),
    ],
    ids=str,
)
def test_arrivals_of_any_type_that_has_an_order(days: pa.Array, tmp_path: Path) -> None:
    nights = Nights(tmp_path, {"new": "arrived", "arrived": "day"})
    _write(tmp_path, "1.parquet", ["a1"], day=days[:1])
    assert nights.next() == ["a1"]
    _write(tmp_path, "1.parquet", ["a1", "b1"], day=days)
    assert nights.next() == ["b1"]
    assert nights.next() == []
    assert nights.found is not None and nights.found.facts()["files_read"] == 0


def test_keys_that_are_numbers_are_ordered_as_numbers(tmp_path: Path) -> None:
    nights = Nights(tmp_path, {"new": "arrived", "arrived": "batch"})
    _write(tmp_path, "batch=8/p.parquet", ["a1"])
    _write(tmp_path, "batch=9/p.parquet", ["b1"])
    assert nights.next() == ["a1", "b1"]
    _write(tmp_path, "batch=10/p.parquet", ["c1"])
    assert [nights.next(), nights.next()] == [["c1"], []]
    _write(tmp_path, "batch=11/p.parquet", ["d1"])
    assert nights.next() == ["d1"]


def test_numbers_that_are_none_do_not_say_when_a_row_arrived(tmp_path: Path) -> None:
    nights = Nights(tmp_path, {"new": "arrived", "arrived": "day"})
    _write(tmp_path, "1.parquet", ["a1", "b1"], day=[1.0, float("nan")])
    assert nights.next() == ["a1"]
    assert nights.found is not None and nights.found.facts()["undated"] == 1
    _write(tmp_path, "2.parquet", ["c1", "d1"], day=[2.0, float("nan")])
    assert nights.next() == ["c1"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (pa.array([100], pa.int8()), pa.array([1000], pa.int64())),
        (pa.array([1.5]), pa.array([2])),
        (pa.array([date(2026, 1, 1)]), pa.array([datetime(2026, 1, 2, 3)])),
        (pa.array([datetime(2026, 1, 1, 0, 0, 0, 1)]), pa.array([datetime(2026, 1, 2)], pa.timestamp("s"))),
    ],
    ids=["numbers", "whole numbers", "dates", "seconds"],
)
def test_a_column_of_arrival_may_get_another_type_that_compares(
    before: pa.Array, after: pa.Array, tmp_path: Path
) -> None:
    nights = Nights(tmp_path, {"new": "arrived", "arrived": "day"})
    _write(tmp_path, "1.parquet", ["a1"], day=before)
    assert nights.next() == ["a1"]
    _write(tmp_path, "2.parquet", ["b1"], day=after)
    assert [nights.next(), nights.next()] == [["b1"], []]


@pytest.mark.parametrize(
    "values",
    [pa.array([[1]]), pa.array([{"a": 1}]), pa.array([b"\xff"]), pa.array([timedelta(1)]), pa.array([True])],
    ids=lambda values: str(values.type),
)
def test_a_column_that_has_no_order_is_refused_by_name(values: pa.Array, tmp_path: Path) -> None:
    _write(tmp_path, "1.parquet", ["a1"], day=values)
    with pytest.raises(ManifestError, match=r"day.* does not say when"):
        Nights(tmp_path, {"new": "arrived", "arrived": "day"}).next()


def test_rows_that_do_not_say_when_they_arrived_are_counted(tmp_path: Path) -> None:
    nights = Nights(tmp_path, {"new": "arrived", "arrived": "day"})
    _write(tmp_path, "a.parquet", ["a1", "b1"], day=[1, None])
    assert nights.next() == ["a1"]
    assert nights.found is not None and nights.found.facts()["undated"] == 1


@pytest.mark.parametrize("how", [{}, {"new": "files"}, {"new": "arrived", "arrived": "day"}])
def test_photos_that_could_not_be_tried_come_again_without_their_rows(
    tmp_path: Path, how: dict[str, str]
) -> None:
    nights = Nights(tmp_path, how)
    _write(tmp_path, "1.parquet", ["a1", "b1"], day=[1, 1], version=["x", "y"], path=["p", "q"])
    assert nights.next(failed=("b1",)) == ["a1", "b1"]
    _write(tmp_path, "2.parquet", ["c1"], day=[2])
    (tmp_path / "table/1.parquet").unlink()
    assert nights.next(failed=("b1", "c1")) == ["b1", "c1"]
    assert nights.next(failed=("c1",)) == ["b1", "c1"]
    assert nights.next() == ["c1"]
    assert nights.next() == []
    rows = read_table(Folder.at(str(tmp_path / "runs/2026-01-03/scan")), photos.MANIFEST)
    assert rows.select(["version", "path"]).slice(0, 1).to_pylist() == [{"version": "y", "path": "q"}]


def test_a_copy_that_was_suppressed_waits_until_it_is_allowed(tmp_path: Path) -> None:
    nights = Nights(tmp_path, {"new": "files"})
    lists = Gallery.ensure(str(tmp_path / "gallery"), SPEC).suppressions
    lists.suppress([Names(contents=frozenset({"ab" * 32}))])
    _write(tmp_path, "1.parquet", ["a1", "z1"])
    assert nights.next(suppressed=("z1",)) == ["a1", "z1"]
    assert [nights.next(), nights.next()] == [[], []]
    lists.allow(Names(contents=frozenset({"ab" * 32})))
    assert [nights.next(), nights.next()] == [["z1"], []]


def test_whoever_was_kept_out_and_is_allowed_comes_with_a_night_of_all_rows(tmp_path: Path) -> None:
    nights = Nights(tmp_path, {"new": "files"})
    lists = Gallery.ensure(str(tmp_path / "gallery"), SPEC).suppressions
    _write(tmp_path, "1.parquet", ["a1", "z1", "z2"])
    assert nights.next(failed=("z1",)) == ["a1", "z1", "z2"]
    lists.suppress([Names(frozenset({"z"}))])
    assert nights.next() == []
    lists.allow(Names(frozenset({"z"})))
    nights.how = {"new": "unseen"}
    assert nights.next() == ["z1"], "it never was enrolled; the other one was"


def test_whom_the_list_names_is_in_no_list_of_the_night(tmp_path: Path) -> None:
    nights = Nights(tmp_path, {})
    lists = Gallery.ensure(str(tmp_path / "gallery"), SPEC).suppressions
    lists.suppress([Names(frozenset({"z"}))])
    _write(tmp_path, "1.parquet", ["a1", "z1"])
    assert nights.next() == ["a1"]
    assert nights.found is not None and nights.found.facts()["suppressed"] == 1
    assert photos.listing_of(Folder.at(f"{tmp_path}/runs/2026-01-01/scan")).table()[
        "image_id"
    ].to_pylist() == ["a1"]


def _album(root: Path, *names: str) -> None:
    for name in names:
        path = root / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


@pytest.mark.parametrize("how", [{}, {"new": "files"}, {"new": "arrived", "arrived": "day"}], ids=str)
def test_a_folder_that_becomes_a_table_keeps_what_is_known(tmp_path: Path, how: dict[str, str]) -> None:
    _album(tmp_path, "a1.jpg", "b1.jpg")
    nights = Nights(tmp_path, None)
    assert nights.next() == ["a1.jpg", "b1.jpg"]
    nights.how = how
    ids = ["a1.jpg", "b1.jpg", "c1.jpg"]
    _write(tmp_path, "1.parquet", ids, subject_id=[None, None, "c"], day=[1, 1, 1])
    assert nights.next() == ["c1.jpg"]
    _write(tmp_path, "2.parquet", ["d1.jpg"], day=[1])
    assert [nights.next(), nights.next()] == [["d1.jpg"], []]


def test_a_table_that_becomes_a_folder_finds_all_photos_changed_and_none_vanished(tmp_path: Path) -> None:
    nights = Nights(tmp_path, {})
    _write(tmp_path, "1.parquet", ["a/1.jpg", "b/1.jpg"])
    nights.next()
    nights.how = None
    _album(tmp_path, "a/1.jpg", "b/1.jpg", "c/1.jpg")
    nights.next()
    facts = _facts(nights)
    assert (facts["new"], facts["changed"], facts["vanished"]) == (1, 2, 0)
    assert nights.next() == []


def test_photos_of_other_ids_are_refused_where_a_folder_becomes_a_table(tmp_path: Path) -> None:
    _album(tmp_path, "a/1.jpg", "b/1.jpg")
    nights = Nights(tmp_path, None)
    assert nights.next(failed=("a/1.jpg", "b/1.jpg")) == ["a/1.jpg", "b/1.jpg"]
    _write(tmp_path, "1.parquet", ["0001", "0002"])
    nights.how = {}
    with pytest.raises(
        ManifestError, match=r"a folder until 2026-01-01, and of the 2 photos .* none is known"
    ):
        nights.next()
    _write(tmp_path, "1.parquet", ["a/1.jpg", "b/1.jpg", "b/2.jpg"])
    assert nights.next() == ["a/1.jpg", "b/1.jpg", "b/2.jpg"], "known ids, of photos that were not read yet"
    _write(tmp_path, "1.parquet", ["0001", "0002"])
    assert nights.next() == ["0001", "0002"], "a table may name other photos every night"


def test_photos_of_other_ids_are_refused_where_a_table_becomes_a_folder(tmp_path: Path) -> None:
    _write(tmp_path, "1.parquet", ["0001", "0002"])
    nights = Nights(tmp_path, {})
    nights.next()
    _album(tmp_path, "a/1.jpg", "b/1.jpg")
    nights.how = None
    with pytest.raises(
        ManifestError, match=r"a table until 2026-01-01, and of the 2 photos .* none is known"
    ):
        nights.next()
    # A night that read no photos, when its configuration named the folder already.
    assert nights.last is not None
    nights.last = replace(nights.last, identity=nights.config.identity())
    with pytest.raises(ManifestError, match="none is known"):
        nights.next()
    nights.source = "album"
    assert nights.next() == ["a/1.jpg", "b/1.jpg"], "photos of another source are others"


def test_a_first_row_of_a_table_is_no_reason_to_refuse_it_where_nothing_is_known(tmp_path: Path) -> None:
    _album(tmp_path, "a1.jpg")
    nights = Nights(tmp_path, None)
    nights.next()
    (tmp_path / "album/a1.jpg").unlink()
    assert nights.next() == []
    nights.how = {}
    _write(tmp_path, "1.parquet", ["b1"])
    assert nights.next() == ["b1"]


def test_a_table_that_will_not_do_is_refused_by_name(tmp_path: Path) -> None:
    nights = Nights(tmp_path, {"new": "arrived", "arrived": "when"})
    _write(tmp_path, "1.parquet", ["a1"])
    with pytest.raises(ManifestError, match="no column when"):
        nights.next()
    path = tmp_path / "night.yaml"
    for photo, said in (
        ("{manifest: t, new: arrived}", "photos.arrived names the column"),
        ("{manifest: t, new: newest}", "photos"),
        ("{manifest: t}\nscan: {glob: '*'}", "scan.glob is for a folder"),
    ):
        path.write_text(f"runs: r\ngallery: g\nphotos: {photo}\n")
        with pytest.raises(ConfigError, match=said):
            load_night(path)


@pytest.mark.parametrize(
    "facts",
    [
        {"name": "../../x"},
        {"name": "/tmp/x"},
        {"name": None},
        {"parts": "a"},
        {"parts": -1},
        {"parts": 10**30},
        {"rows": "many"},
        {"seen": {"arrived": 5}},
        {"seen": {"files": ["x"]}},
        {"seen": []},
    ],
    ids=str,
)
def test_a_record_of_what_is_known_that_makes_no_sense_is_refused(
    facts: dict[str, Any], tmp_path: Path
) -> None:
    nights = Nights(tmp_path, {})
    _write(tmp_path, "1.parquet", ["a1"])
    nights.next()
    path = tmp_path / "runs/2026-01-01/scan/known.json"
    record = json.loads(path.read_text())
    if "seen" in facts:
        record |= facts
    else:
        record["levels"][0] |= facts
    path.write_text(json.dumps(record))
    with pytest.raises(OutputError, match=r"known\.json .* damaged"):
        nights.next()
    path.write_text("[" * 100_000)
    with pytest.raises(OutputError, match=r"known\.json .* damaged"):
        nights.next()
