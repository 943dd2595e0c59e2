"""Look-ups by an index: the same answers as without one, few bytes read, no trace once a shard is gone."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from gallery_rows import content, files, ids, people, spec
from s3server import S3, s3  # noqa: F401

from frpipe.core.errors import GalleryError
from frpipe.gallery import byte_ranges, lifecycle, shard_store
from frpipe.gallery.catalog import ShardRef
from frpipe.gallery.document import sealed, unsealed
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.hash_spill import HashSpill
from frpipe.gallery.packed import hashes
from frpipe.gallery.persons import persons
from frpipe.gallery.photos import MADE_OF, RunPhotos, made_of
from frpipe.gallery.search_view import SearchView
from frpipe.gallery.shard_store import ShardStore, index_name
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.local_store import LocalStore

KEY = "FRPIPE_GALLERY_KEY"


@pytest.fixture(params=[None, "aes-256-gcm"], ids=["plain", "encrypted"])
def gallery(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gallery:
    monkeypatch.setenv(KEY, "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
    made = Gallery.create(str(tmp_path / "g"), spec(encryption=request.param))
    lifecycle.enroll(made, [people(ids(100), faces=2, Name=["a", "b"] * 100)])
    lifecycle.enroll(made, [people(["p0007", "new", "other"], seed=3)], "append")
    return made


def without_indexes(gallery: Gallery, to: Path) -> Gallery:
    """A copy as earlier code has left it."""
    shutil.copytree(gallery.uri, to)
    for path in (to / "shards").glob("*.index"):
        path.unlink()
    return Gallery.open(str(to))


def _told(*names: str) -> RunPhotos:
    photos = RunPhotos()
    photos.add(pa.array(names), pa.nulls(len(names), pa.string()))
    return photos


CHANGES: dict[str, Callable[[Gallery], Any]] = {
    "delete": lambda g: lifecycle.delete(g, ["p0007", "p0050", "nobody"]),
    "append": lambda g: lifecycle.enroll(g, [people(["p0003", "fresh"], seed=5)], "append"),
    "skip": lambda g: lifecycle.enroll(g, [people(["p0003", "fresh"], seed=5)], "skip"),
    "replace": lambda g: lifecycle.enroll(g, [people(["p0003", "p0007"], seed=5)], "replace"),
    "photos": lambda g: lifecycle.enroll(g, [people(["p0003"], seed=5)], photos=_told("p0003", "p0009")),
    "clear": lifecycle.clear,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_the_same_with_and_without_indexes(gallery: Gallery, tmp_path: Path, change: str) -> None:
    old = without_indexes(gallery, tmp_path / "old")
    first, second = (replace(CHANGES[change](each), doubts=None) for each in (gallery, old))
    assert first == second
    assert content(gallery.snapshot()) == content(old.snapshot())
    for who in ("p0007", "p0050", "other", "nobody"):
        shown = (each.snapshot().show(who, vectors=True).sort_by("face_id") for each in (gallery, old))
        assert next(shown).drop_columns(["enrolled_at"]) == next(shown).drop_columns(["enrolled_at"])
    assert lifecycle.verify(gallery) == lifecycle.verify(old) == []


def test_a_derived_template_is_found_by_any_of_its_photos(tmp_path: Path) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec())
    photos = hashes(pa.array(["x", "y"]))
    names = [None] * 49 + [made_of(photos, np.zeros(2, np.uint64))]
    lifecycle.enroll(gallery, [people(ids(50), **{MADE_OF: names})])
    assert lifecycle.enroll(gallery, [], photos=_told("y")).superseded == 1
    assert not gallery.snapshot().show("p0049").num_rows


@pytest.mark.parametrize(
    "limit", [0, pytest.param(1, marks=pytest.mark.slow), 7, pytest.param(60, marks=pytest.mark.slow), 1000]
)
@pytest.mark.parametrize("after", ["", "p0004", "p0042x", "zzz"])
@pytest.mark.parametrize("where", [None, {"Name": "b"}])
def test_a_page_is_that_of_the_whole_list(
    gallery: Gallery, limit: int, after: str, where: dict[str, str] | None
) -> None:
    lifecycle.delete(gallery, ["p0000", "p0005", "p0043"])
    whole, page = persons(gallery.snapshot(), where, after), persons(gallery.snapshot(), where, after, limit)
    assert page.to_pylist() == whole.slice(0, limit).to_pylist()


@pytest.mark.parametrize("where", [None, {"Name": "b"}])
def test_a_page_of_people_who_are_spread_over_shards_of_any_size(
    tmp_path: Path, where: dict[str, str] | None
) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec())
    shuffled = np.random.default_rng(3).permutation(600).tolist()
    for size in (1, 280, 9, 150, 160):
        some, shuffled = [f"p{number:04d}" for number in shuffled[:size]], shuffled[size:]
        lifecycle.enroll(gallery, [people(some, faces=2, Name=["a", "b"] * size)], "append")
    lifecycle.enroll(gallery, [people(ids(4, 100), seed=9)], "append")
    lifecycle.delete(gallery, ids(10, 40))
    for after in ("", "p0033", "p0100x", "p0599"):
        whole = persons(gallery.snapshot(), where, after)
        for limit in (1, 3, 70, 200):
            page = persons(gallery.snapshot(), where, after, limit)
            assert page.to_pylist() == whole.slice(0, limit).to_pylist()


@contextmanager
def counted_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Bytes that are asked of the files of a gallery."""
    count = [0]

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            found = real(*given)
            count[0] += len(found)
            return found

        return call

    with monkeypatch.context() as patch:
        for owner, name in ((byte_ranges.Mapped, "read"), (Folder, "read"), (Folder, "read_range")):
            patch.setattr(owner, name, counting(getattr(owner, name)))
        yield count


def test_few_bytes_are_read_for_one_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec(rows_per_shard=9000))
    lifecycle.enroll(gallery, [people(ids(9000))])
    old = without_indexes(gallery, tmp_path / "old")
    calls: list[Callable[[Gallery], object]] = [
        lambda g: g.snapshot().show("p7000"),
        lambda g: persons(g.snapshot(), limit=5, after="p7000"),
        lambda g: lifecycle.enroll(g, [people(["z"])], photos=_told("z")),
        lambda g: lifecycle.delete(g, ["p7000"]),
    ]
    for call in calls:
        with counted_reads(monkeypatch) as least:
            call(gallery)
        with counted_reads(monkeypatch) as most:
            call(old)
        assert least[0] * 4 < most[0]


@pytest.mark.parametrize("at", [0, 20, 400, -3])
def test_a_damaged_index_is_none_and_verify_names_it(gallery: Gallery, at: int) -> None:
    before = content(gallery.snapshot())
    for path in (Path(gallery.uri) / "shards").glob("*.index"):
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)
    fresh = Gallery.open(gallery.uri)
    assert content(fresh.snapshot()) == before
    assert fresh.snapshot().show("p0007").num_rows == 2
    assert lifecycle.delete(fresh, ids(100)).subjects == 100
    assert {problem.file.rpartition(".")[2] for problem in lifecycle.verify(fresh)} == {"index"}


@pytest.mark.parametrize(
    "told",
    [
        {"size": 1 << 40, "layout": {"numbers": [1 << 39] * 3, "texts": {}, "attributes": []}},
        {"rows": 10**30},
        {"rows": -1},
        {"rows": float("inf")},
        {"counts": {"subjects": 10**30, "photos": 0}},
        {"counts": {"subjects": -(10**30), "photos": -1}},
        {"layout": []},
        {"sha256": None},
        "[" * 10**5,
    ],
    ids=str,
)
def test_an_index_whose_head_is_nonsense_is_none(tmp_path: Path, told: dict[str, Any] | str) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec())
    lifecycle.enroll(gallery, [people(ids(30))])
    (path,) = (tmp_path / "g" / "shards").glob("*.index")
    data = path.read_bytes()
    (length,) = struct.unpack_from("<I", data, 16)
    facts = data[20 : 20 + length]
    (head,) = struct.unpack_from("<I", data, 8)
    text = told.encode() if isinstance(told, str) else json.dumps({**json.loads(facts), **told}).encode()
    body = struct.pack("<I", len(text)) + text + data[20 + length : head]
    front = struct.pack("<8sII", data[:8], 16 + len(body), zlib.crc32(body))
    path.write_bytes(front + body + data[head:])
    found = Gallery.open(gallery.uri).snapshot()
    assert (found.show("p0007").num_rows, found.subjects) == (1, 30)
    assert persons(found, after="p0007", limit=2)["subject_id"].to_pylist() == ["p0008", "p0009"]


def test_an_index_of_another_shard_is_none(gallery: Gallery) -> None:
    first, second = sorted((Path(gallery.uri) / "shards").glob("*.index"))[:2]
    shutil.copyfile(first, second)
    assert Gallery.open(gallery.uri).snapshot().show("p0007").num_rows == 2
    assert all(
        Gallery.open(gallery.uri).snapshot().show(who).num_rows == 2 for who in ids(100) if who != "p0007"
    )


def _vectors(gallery: Gallery, **options: bool) -> bytes | str:
    """The vectors of the only shard, or why they are refused."""
    (ref,) = gallery.snapshot().version.shards
    try:
        return Gallery.open(gallery.uri).shard_store.open(ref, **options).vectors().tobytes()
    except GalleryError as error:
        return str(error)


@pytest.fixture
def plain(tmp_path: Path) -> Gallery:
    made = Gallery.create(str(tmp_path / "g"), spec())
    lifecycle.enroll(made, [people(ids(30), Name=["a", None, "ü"] * 10)])
    return made


def test_a_search_parses_no_shard_whose_structure_is_as_it_was_indexed(
    plain: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(plain.snapshot())
    with monkeypatch.context() as patch:
        patch.setattr(shard_store, "read_layout", None)
        assert content(Gallery.open(plain.uri).snapshot()) == before
    (path,) = Path(plain.uri).glob("shards/*.index")
    path.unlink()
    assert content(Gallery.open(plain.uri).snapshot()) == before


def test_any_changed_byte_of_the_structure_is_judged_as_without_an_index(plain: Gallery) -> None:
    (ref,) = plain.snapshot().version.shards
    path, layout = Path(plain.uri) / ref.name, plain.shard_store.open(ref).layout
    whole = path.read_bytes()
    columns = {at for extent in layout.extents() for at in range(extent.offset, extent.end)}
    structure = [at for at in range(len(whole)) if at not in columns and (whole[at] or at % 64 == 0)]
    verdicts = set()
    for at in structure[::17]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        verdicts.add(_vectors(plain))
        assert _vectors(plain) == _vectors(plain, by_index=False), at
    assert len(verdicts) > 1


def test_a_shard_of_another_gallery_is_refused_whether_its_index_comes_along_or_not(
    plain: Gallery, tmp_path: Path
) -> None:
    other = Gallery.create(str(tmp_path / "other"), spec())
    lifecycle.enroll(other, [people(ids(30), seed=4, Name=["a", None, "ü"] * 10)])
    for kind in ("h5", "index"):
        (mine,), (theirs,) = (Path(each.uri).glob(f"shards/*.{kind}") for each in (plain, other))
        shutil.copyfile(theirs, mine)
        assert "are not the gallery's" in str(_vectors(plain))


def test_a_shard_is_refused_by_a_gallery_of_another_recipe_though_its_index_fits(plain: Gallery) -> None:
    path = Path(plain.uri) / "gallery.json"
    facts = unsealed(path.read_bytes(), path.name)
    path.write_bytes(sealed({**facts, "embedder_hash": "f" * 64}))
    assert "embedder_hash is" in str(_vectors(Gallery.open(plain.uri)))


def test_an_index_of_earlier_code_is_sound_and_the_next_compaction_writes_it_anew(plain: Gallery) -> None:
    (ref,) = plain.snapshot().version.shards
    path = Path(plain.uri) / index_name(ref.name)
    now = path.read_bytes()
    path.write_bytes(plain.shard_store._index_data(ref, structure=False))
    assert path.read_bytes() != now and b"structure" not in path.read_bytes()
    old = Gallery.open(plain.uri)
    assert old.snapshot().show("p0007").num_rows == 1 and lifecycle.verify(old) == []
    assert content(old.snapshot()) == content(plain.snapshot())
    lifecycle.compact(old)
    assert path.read_bytes() == now and lifecycle.verify(Gallery.open(plain.uri)) == []


def test_an_index_goes_with_its_shard(gallery: Gallery) -> None:
    lifecycle.delete(gallery, ["p0007"])
    lifecycle.compact(gallery)
    key = (hashes(pa.array(["p0007"])) >> np.uint64(32)).astype("<u4").tobytes()
    shards = {path.stem for path in files(Path(gallery.uri) / "shards") if path.suffix == ".h5"}
    indexes = [path for path in files(Path(gallery.uri) / "shards") if path.suffix == ".index"]
    assert {path.stem for path in indexes} == shards
    if gallery.spec.encryption is None:
        assert not any(key in path.read_bytes() for path in indexes)


@pytest.mark.parametrize("call", ["enroll", "compact"])
def test_a_writer_whose_draft_of_an_index_is_taken_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec())
    lifecycle.enroll(gallery, [people(ids(30))])
    lifecycle.delete(gallery, ids(1))
    make, taken = LocalStore._temporary, list[str]()

    def swept(store: LocalStore, target: Path) -> tuple[int, Path]:
        handle, path = make(store, target)
        if target.suffix == ".index" and not taken:
            taken.append(target.name)
            path.unlink()
        return handle, path

    monkeypatch.setattr(LocalStore, "_temporary", swept)
    if call == "enroll":
        assert lifecycle.enroll(gallery, [people(["new"])], "append").added == 1
    else:
        assert lifecycle.compact(gallery).deleted == 1
    assert taken and lifecycle.verify(gallery) == []


def test_a_compaction_whose_shards_another_one_takes_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec())
    lifecycle.enroll(gallery, [people(ids(30))])
    write, taken = ShardStore.write_index, list[str]()

    def late(store: ShardStore, ref: ShardRef) -> bool:
        if not taken:
            taken.append(ref.name)
            other = Gallery.open(gallery.uri)
            lifecycle.delete(other, ids(1))
            lifecycle.compact(other)
        return write(store, ref)

    monkeypatch.setattr(ShardStore, "write_index", late)
    lifecycle.compact(gallery)
    assert taken and gallery.snapshot().rows == 29 and lifecycle.verify(gallery) == []


def test_a_compaction_gives_old_shards_an_index(gallery: Gallery, tmp_path: Path) -> None:
    old = without_indexes(gallery, tmp_path / "old")
    lifecycle.compact(old)
    stems = [{p.stem for p in (tmp_path / "old" / "shards").glob(f"*.{kind}")} for kind in ("h5", "index")]
    assert stems[0] == stems[1]
    assert content(old.snapshot()) == content(gallery.snapshot())
    assert lifecycle.verify(old) == []


@contextmanager
def counted_writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Bytes that are written to files in `shards/`."""
    real, count = Folder.write, [0]

    def write(folder: Folder, name: str, data: bytes) -> None:
        count[0] += len(data) if name.startswith("shards/") else 0
        real(folder, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "write", write)
        yield count


def as_earlier_code_wrote_it(gallery: Gallery, ref: ShardRef) -> None:
    data = gallery.shard_store._index_data(ref, structure=False)
    gallery.folder.write(*gallery.shard_store._index_file(ref, data))


def copied_to(folder: Folder, gallery: Gallery) -> Gallery:
    for entry in gallery.folder.list():
        folder.write(entry.name, gallery.folder.read(entry.name))
    return Gallery.at(folder)


@pytest.mark.parametrize("place", ["disk", "store"])
def test_an_index_of_earlier_code_is_written_anew_only_where_searches_gain_by_it(
    gallery: Gallery,
    place: str,
    s3: S3,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gallery = gallery if place == "disk" else copied_to(Folder.at(s3.uri), gallery)
    lifecycle.compact(gallery)
    for ref in gallery.snapshot().version.shards:
        as_earlier_code_wrote_it(gallery, ref)
    gains = place == "disk" and gallery.spec.encryption is None
    with counted_writes(monkeypatch) as written:
        lifecycle.compact(Gallery.at(gallery.folder))
        assert bool(written[0]) is gains
        written[0] = 0
        lifecycle.compact(Gallery.at(gallery.folder))
        assert written == [0]
    assert lifecycle.verify(gallery) == []
    assert gallery.snapshot().show("p0007").num_rows == 2


@pytest.mark.parametrize("why", ["misread", "written by another process"])
def test_an_index_that_is_as_it_would_be_written_is_left(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    (ref, *_), store = gallery.snapshot().version.shards, gallery.shard_store
    path = Path(gallery.uri, index_name(ref.name))
    whole = path.read_bytes()
    path.write_bytes(whole[:200]) if why == "misread" else path.unlink()
    assert store.subject_hashes(ref) is None
    path.write_bytes(whole)
    with counted_writes(monkeypatch) as written:
        assert not store.write_index(ref)
        assert not Gallery.at(gallery.folder).shard_store.write_index(ref)
    assert written == [0]
    assert store.subject_hashes(ref) is not None
    path.write_bytes(whole[:-5])
    with counted_writes(monkeypatch) as written:
        assert Gallery.at(gallery.folder).shard_store.write_index(ref)
    assert written == [len(path.read_bytes())] and lifecycle.verify(gallery) == []


def test_people_are_counted_range_by_range(gallery: Gallery, tmp_path: Path) -> None:
    lifecycle.delete(gallery, ["p0000", "new"])
    old = without_indexes(gallery, tmp_path / "old")
    assert gallery.snapshot().subjects == old.snapshot().subjects == 100
    assert SearchView(gallery.snapshot(), {"Name": "a"}).subjects == 99


@pytest.mark.parametrize("most", [1, 7, 1 << 20])
def test_hashes_come_back_in_ranges(most: int) -> None:
    arrays = [hashes(pa.array(ids(count, count), pa.string())) for count in (20, 0, 30)]
    with HashSpill(most) as spill:
        for array in arrays:
            spill.add(array)
        ranges = list(spill.ranges())
    assert len(ranges) == -(-50 // most)
    for number, array in enumerate(arrays):
        assert np.concatenate([parts[number] for parts in ranges]).tolist() == np.sort(array).tolist()
    highest = [max((int(part[-1]) for part in parts if len(part)), default=0) for parts in ranges]
    assert [each for each in highest if each] == sorted(each for each in highest if each)
