"""Photos of a night from a manifest or a table: only what has come since last night is taken."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
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
from frpipe.io.manifest.manifest import Manifest
from frpipe.io.output.parts import write_part
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly import photos
from frpipe.jobs.nightly.faces import looked
from frpipe.jobs.nightly.history import Past
from frpipe.jobs.nightly.photo_table import TableScan
from frpipe.jobs.nightly.tables import read_table

SPEC = GallerySpec(16, "e" * 64, "p" * 64, "d" * 64)


@dataclass
class Nights:
    """Nights over one table, without models: an enroll output is made up for each."""

    root: Path
    how: dict[str, Any]
    last: Past | None = None
    count: int = 0
    found: TableScan | None = field(default=None)

    @property
    def config(self) -> NightConfig:
        places = {"runs": str(self.root / "runs"), "gallery": str(self.root / "gallery")}
        return NightConfig.model_validate(
            {**places, "photos": {"manifest": str(self.root / "table"), **self.how}}
        )

    def next(
        self, *, failed: tuple[str, ...] = (), suppressed: tuple[str, ...] = (), ends: bool = True
    ) -> list[str]:
        """Ids that a night takes; it ends unless told otherwise."""
        self.count += 1
        folder = Folder.at(str(self.root / f"runs/2026-01-{self.count:02d}"))
        found = looked(self.config, self.last)
        assert isinstance(found, TableScan)
        self.found = found
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
            self.last = Past(folder.uri[-10:], folder, {}, {}, True, {})
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
    import os

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
    ("narrow", "wide"),
    [
        (pa.array([100], pa.int8()), pa.array([1000], pa.int64())),
        (pa.array([date(2026, 1, 1)]), pa.array([datetime(2026, 1, 2, 3)])),
    ],
    ids=["numbers", "dates"],
)
def test_a_column_of_arrival_may_get_a_wider_type(narrow: pa.Array, wide: pa.Array, tmp_path: Path) -> None:
    nights = Nights(tmp_path, {"new": "arrived", "arrived": "day"})
    _write(tmp_path, "1.parquet", ["a1"], day=narrow)
    assert nights.next() == ["a1"]
    _write(tmp_path, "2.parquet", ["b1"], day=wide)
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


def test_a_folder_that_becomes_a_table_keeps_what_is_known(tmp_path: Path) -> None:
    for name in ("a1", "b1"):
        (tmp_path / "album").mkdir(exist_ok=True)
        (tmp_path / f"album/{name}.jpg").write_text("x")
    nights = Nights(tmp_path, {})
    place = Folder.at(str(tmp_path / "runs/2025-12-31/scan"))
    photos.look(str(tmp_path / "album"), nights.config.scan, None).write(place)
    out = place.child("out")
    images = pa.table({"image_id": ["a1.jpg", "b1.jpg"], "reason": pa.nulls(2, pa.string())})
    images = images.append_column("content_sha256", pa.nulls(2, pa.string()))
    write_part(out, 0, images, images.select(["image_id"]).slice(0, 0), {})
    photos.write_again(place, out)
    nights.last = Past("2025-12-31", Folder.at(str(tmp_path / "runs/2025-12-31")), {}, {}, True, {})
    _write(tmp_path, "1.parquet", ["a1.jpg", "b1.jpg", "c1.jpg"], subject_id=[None, None, "c"])
    assert nights.next() == ["c1.jpg"]


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
