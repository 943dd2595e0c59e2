"""Shard files: what is written comes back; what is damaged or hostile is refused, and found by verify."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
from gallery_rows import DIM, content, files, ids, people, spec, unit

from frpipe.core.errors import GalleryDamaged, GalleryError, GalleryMismatch
from frpipe.gallery import lifecycle
from frpipe.gallery.catalog import ShardRef
from frpipe.gallery.document import sealed, unsealed
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.shard_store import ShardStore

ROWS = 12


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    made = Gallery.create(str(tmp_path / "g"), spec())
    lifecycle.enroll(made, [people(ids(ROWS), Name=["홍길동", None, ""] * 4)])
    return made


def _shard(gallery: Gallery) -> tuple[Path, ShardRef]:
    (ref,) = gallery.snapshot().version.shards
    return Path(gallery.uri) / ref.name, ref


def test_a_shard_is_what_the_documentation_says(gallery: Gallery) -> None:
    path, _ = _shard(gallery)
    with h5py.File(path) as file:
        assert file["embedding"].shape == (ROWS, DIM)
        assert file["embedding"].dtype == np.dtype("<f4")
        assert file["embedding"].id.get_offset() % 64 == 0
        offsets, data = file["subject_id/offsets"][:], file["subject_id/data"][:].tobytes()
        assert [data[a:b].decode() for a, b in pairwise(offsets)] == ids(ROWS)
        assert file["attributes/0000"].attrs["name"].decode() == "Name"
        assert file["attributes/0000/valid"][:].tolist() == [1, 0, 1] * 4
        assert file.attrs["embedder_hash"].decode() == gallery.spec.embedder_hash
        assert int(file.attrs["dim"]) == DIM


def test_a_template_takes_little_more_than_its_numbers(tmp_path: Path) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec(dim=512, rows_per_shard=4000))
    lifecycle.enroll(gallery, [people(ids(4000), dim=512, Department=["Department 1"] * 4000)])
    assert sum(path.stat().st_size for path in files(Path(gallery.uri))) / 4000 <= 2200


def _with(change: Callable[[h5py.File, Path], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        with h5py.File(path, "r+", libver=("v110", "v110")) as file:
            change(file, path)

    return apply


def _put(name: str, values: np.ndarray, **options: object) -> Callable[[Path], None]:
    def change(file: h5py.File, _: Path) -> None:
        del file[name]
        file.create_dataset(name, data=values, **options)

    return _with(change)


def _external(file: h5py.File, path: Path) -> None:
    other = path.with_suffix(".raw")
    other.write_bytes(unit(ROWS).tobytes())
    del file["embedding"]
    file.create_dataset("embedding", (ROWS, DIM), "<f4", external=[(str(other), 0, h5py.h5f.UNLIMITED)])


def _virtual(file: h5py.File, path: Path) -> None:
    other = path.with_suffix(".src")
    with h5py.File(other, "w") as source:
        source["x"] = unit(ROWS)
    del file["embedding"]
    layout = h5py.VirtualLayout((ROWS, DIM), "<f4")
    layout[:] = h5py.VirtualSource(str(other), "x", (ROWS, DIM))
    file.create_virtual_dataset("embedding", layout)


def _linked(link: object) -> Callable[[Path], None]:
    def change(file: h5py.File, path: Path) -> None:
        with h5py.File(path.with_suffix(".src"), "w") as source:
            source["embedding"] = unit(ROWS)
        file.move("embedding", "attributes/kept")
        file["embedding"] = link

    return _with(change)


def _attribute(name: str, value: object) -> Callable[[Path], None]:
    return _with(lambda file, _: file.attrs.__setitem__(name, value))


HOSTILE: dict[str, Callable[[Path], None]] = {
    "external link": _linked(h5py.ExternalLink("x.src", "/embedding")),
    "soft link": _linked(h5py.SoftLink("/attributes/kept")),
    "soft link to nothing": _linked(h5py.SoftLink("/nowhere")),
    "external storage": _with(_external),
    "virtual dataset": _with(_virtual),
    "gzip": _put("embedding", unit(ROWS), compression="gzip"),
    "shuffle": _put("embedding", unit(ROWS), chunks=(4, DIM), shuffle=True),
    "checksum filter": _put("quality", np.ones(ROWS, "<f4"), fletcher32=True),
    "chunked": _put("embedding", unit(ROWS), chunks=(4, DIM)),
    "double precision": _put("embedding", unit(ROWS).astype(np.float64)),
    "half precision": _put("embedding", unit(ROWS).astype(np.float16)),
    "big-endian": _put("embedding", unit(ROWS).astype(">f4")),
    "integers": _put("enrolled_at", np.zeros(ROWS, "<i4")),
    "fewer rows": _put("embedding", unit(ROWS - 1)),
    "other dimension": _put("embedding", unit(ROWS, dim=DIM + 1)),
    "flat": _put("embedding", unit(ROWS).reshape(-1)),
    "strings of the library": _put("subject_id/data", np.array(ids(ROWS), h5py.string_dtype())),
    "offsets beyond the data": _put("subject_id/offsets", np.arange(ROWS + 1, dtype="<u4") * 1000),
    "offsets that fall": _put("face_id/offsets", np.arange(ROWS + 1, dtype="<u4")[::-1].copy()),
    "not UTF-8": _put("subject_id/data", np.full(5 * ROWS, 0xFF, "u1")),
    "no such column": _with(lambda file, _: file.__delitem__("quality")),
    "one column more": _with(lambda file, _: file.create_dataset("extra", data=[1])),
    "one group more": _with(lambda file, _: file.create_group("attributes/9999")),
    "a dataset for a group": _with(
        lambda file, _: (file.__delitem__("image_uri"), file.create_dataset("image_uri", data=[1]))
    ),
    "object references": _with(
        lambda file, _: (
            file.__delitem__("quality"),
            file.create_dataset("quality", data=[file["embedding"].ref] * ROWS, dtype=h5py.ref_dtype),
        )
    ),
    "a reference as attribute": _with(
        lambda file, _: file["quality"].attrs.create("r", file["embedding"].ref, dtype=h5py.ref_dtype)
    ),
    "a text of variable length in the root": _with(
        lambda file, _: file.attrs.create("gallery_id", "x" * 36, dtype=h5py.string_dtype())
    ),
    "a reference in the root": _with(
        lambda file, _: file.attrs.create("gallery_id", file["embedding"].ref, dtype=h5py.ref_dtype)
    ),
    "one root attribute more": _attribute("extra", 1),
    "no root attribute": _with(lambda file, _: file.attrs.__delitem__("rows")),
    "another gallery": _attribute("gallery_id", np.bytes_("x")),
    "another format": _attribute("format_version", 2),
    "other rows": _attribute("rows", ROWS + 1),
    "an array as attribute": _attribute("rows", [1, 2, 3]),
    "a nameless attribute": _with(lambda file, _: file["attributes/0000"].attrs.__delitem__("name")),
    "an attribute of a fixed name": _with(
        lambda file, _: file["attributes/0000"].attrs.__setitem__("name", np.bytes_("quality"))
    ),
    "another attribute": _with(
        lambda file, _: file["attributes/0000"].attrs.__setitem__("name", np.bytes_("Neme"))
    ),
    "attributes twice": _with(lambda file, _: file.copy("attributes/0000", "attributes/0001")),
    "not HDF5": lambda path: path.write_bytes(b"PAR1" * 100),
    "empty": lambda path: path.write_bytes(b""),
    "a hole for the vectors": _with(
        lambda file, _: (file.__delitem__("embedding"), file.create_dataset("embedding", (ROWS, DIM), "<f4"))
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(gallery: Gallery, name: str) -> None:
    path, ref = _shard(gallery)
    HOSTILE[name](path)
    posed = replace(ref, bytes=path.stat().st_size)
    with pytest.raises(GalleryDamaged, match="of the gallery"):
        shard = gallery.shard_store.open(posed)
        shard.table(["subject_id", "face_id", "Name"], vectors=True)
    with pytest.raises(GalleryError):
        content(gallery.snapshot())
    assert [problem.file for problem in lifecycle.verify(gallery)] == [ref.name]


@pytest.mark.parametrize(
    ("key", "value"),
    [("embedder_hash", np.bytes_("f" * 64)), ("preprocessing_hash", np.bytes_("f" * 64)), ("dim", 99)],
)
def test_vectors_of_another_model_are_refused_with_both_named(
    gallery: Gallery, key: str, value: object
) -> None:
    path, ref = _shard(gallery)
    _attribute(key, value)(path)
    shown = value.decode() if isinstance(value, bytes) else str(value)
    own = getattr(gallery.spec, key)
    with pytest.raises(GalleryMismatch, match=f"{shown}.*{own}"):
        gallery.shard_store.open(replace(ref, bytes=path.stat().st_size))


def test_a_file_cut_anywhere_is_refused(gallery: Gallery) -> None:
    path, ref = _shard(gallery)
    whole = path.read_bytes()
    for size in [*range(0, len(whole), 61), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(GalleryDamaged):
            gallery.shard_store.open(ref)
        with pytest.raises(GalleryDamaged):
            gallery.shard_store.open(replace(ref, bytes=size))
    assert [problem.file for problem in lifecycle.verify(gallery)] == [ref.name]


def test_verify_finds_a_flipped_bit_in_any_file(gallery: Gallery, tmp_path: Path) -> None:
    lifecycle.delete(gallery, ["p0003"])
    lifecycle.compact(gallery)
    lifecycle.delete(gallery, ["p0004"])
    assert lifecycle.verify(gallery) == []
    chance = random.Random(1)
    for path in sorted(files(Path(gallery.uri))):
        whole = path.read_bytes()
        for place in {0, len(whole) - 1, *chance.sample(range(len(whole)), min(12, len(whole)))}:
            data = bytearray(whole)
            data[place] ^= 1 << chance.randrange(8)
            path.write_bytes(data)
            assert _problems(gallery.uri), f"{path.name}: byte {place}"
        path.write_bytes(whole)
    assert lifecycle.verify(gallery) == []


def test_verify_finds_a_missing_file(gallery: Gallery) -> None:
    lifecycle.delete(gallery, ["p0003"])
    lifecycle.compact(gallery)
    lifecycle.enroll(gallery, [people(["x"])])
    lifecycle.delete(gallery, ["p0004"])
    lifecycle.enroll(gallery, [people(["y"])])
    spare = Path(gallery.uri).with_name("spare")
    shutil.copytree(gallery.uri, spare)
    for path in sorted(files(spare)):
        # An index may be missing.
        if path.suffix == ".index" or path.name in {"gallery.json", f"{gallery.snapshot().number:09d}.json"}:
            continue
        data = path.read_bytes()
        path.unlink()
        assert _problems(str(spare)), path.name
        path.write_bytes(data)
    assert _problems(str(spare)) == []
    lifecycle.compact(Gallery.open(str(spare)))
    (newest,) = (spare / "versions").iterdir()
    newest.unlink()
    assert [problem.file for problem in lifecycle.verify(Gallery.open(str(spare)))] == ["versions"]
    with pytest.raises(GalleryDamaged, match="versions"):
        Gallery.open(str(spare)).snapshot()


def test_an_older_version_does_not_pass_for_the_newest_after_a_compaction(gallery: Gallery) -> None:
    first = Path(gallery.uri) / "versions" / "000000001.json"
    data = first.read_bytes()
    lifecycle.delete(gallery, ["p0003"])
    lifecycle.compact(gallery)
    (newest,) = first.parent.iterdir()
    newest.unlink()
    first.write_bytes(data)
    assert "versions" in [problem.file for problem in lifecycle.verify(gallery)]


def test_a_damaged_newest_version_is_listed(gallery: Gallery) -> None:
    lifecycle.delete(gallery, ["p0003"])
    (Path(gallery.uri) / "versions" / "000000002.json").write_bytes(b"{}")
    assert "version 2" in [problem.file for problem in lifecycle.verify(gallery)]


def test_a_stray_file_breaks_nothing(gallery: Gallery) -> None:
    lifecycle.delete(gallery, ["p0003"])
    lifecycle.compact(gallery)
    for name in ("versions/README.txt", "versions/sub/000000009.json", "log/notes.json", "log/README.txt"):
        path = Path(gallery.uri) / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("hello")
    assert gallery.versions() == [0, 3]
    assert len(gallery.log()) == 4
    assert lifecycle.verify(gallery) == []


@pytest.mark.parametrize(
    "forged",
    [
        {"name": "../../etc/passwd"},
        {"name": "shards/../gallery.json"},
        {"name": "shards/00000000000000000000.h5/x"},
        {"rows": -1},
        {"bytes": 1.5},
        {"deleted": {"name": "gallery.json", "rows": 1, "sha256": ""}},
        {"deleted": {"name": f"deleted/{'0' * 20}.bin", "rows": -1, "sha256": ""}},
    ],
)
def test_a_version_that_names_what_is_not_ours_is_refused(
    gallery: Gallery, forged: dict[str, object]
) -> None:
    path = Path(gallery.uri) / "versions" / "000000001.json"
    made = unsealed(path.read_bytes(), path.name)
    made["shards"][0] |= forged
    path.write_bytes(sealed(made))
    with pytest.raises(GalleryDamaged, match="expected fields"):
        gallery.snapshot()


def test_verify_starts_over_when_a_compaction_comes(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifecycle.delete(gallery, ["p0003"])
    real, turns = ShardStore.digest, iter(range(2))

    def digest(self: ShardStore, name: str) -> str:
        if (turn := next(turns, None)) is not None:
            lifecycle.delete(gallery, [f"p000{turn + 5}"])
            lifecycle.compact(gallery)
        return real(self, name)

    monkeypatch.setattr(ShardStore, "digest", digest)
    assert lifecycle.verify(gallery) == []


@pytest.mark.parametrize(
    ("texts", "vectors"),
    [
        (people(ids(4)), unit(4) * np.float32(2)),
        (people(ids(4)), np.full((4, DIM), np.nan, np.float32)),
        (people(ids(4)).take([1, 0, 2, 3]), unit(4)),
        (people(["a", "a"]), unit(2)),
    ],
)
def test_verify_finds_rows_that_are_no_unit_vectors_or_out_of_order(
    gallery: Gallery, texts: pa.Table, vectors: np.ndarray
) -> None:
    ref = gallery.shard_store.begin(texts.drop_columns(["embedding"]), vectors, "now")()
    _force(gallery, ref)
    assert [problem.file for problem in lifecycle.verify(gallery)] == [ref.name]
    lifecycle.rollback(gallery, 1)
    lifecycle.compact(gallery)
    assert lifecycle.verify(gallery) == []


def test_a_changed_byte_never_does_worse_than_an_error(gallery: Gallery) -> None:
    path, ref = _shard(gallery)
    whole = path.read_bytes()
    chance = random.Random(2)
    for place in chance.sample(range(len(whole)), 400):
        data = bytearray(whole)
        data[place] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        with contextlib.suppress(GalleryError):
            gallery.shard_store.open(ref).table(
                ["subject_id", "quality", "enrolled_at", "Name"], vectors=True
            )


def _force(gallery: Gallery, ref: ShardRef) -> None:
    version = gallery.snapshot().version
    assert gallery.catalog.commit(version.followed_by([*version.shards, ref], version.entry))


def test_verify_finds_a_template_that_is_there_twice(gallery: Gallery) -> None:
    _, ref = _shard(gallery)
    _force(gallery, ref)
    assert [problem.what for problem in lifecycle.verify(gallery)] == ["a template is there twice"]


def test_a_version_that_was_edited_is_refused(gallery: Gallery) -> None:
    path = Path(gallery.uri) / "versions" / "000000001.json"
    edited = json.loads(path.read_text())
    edited["shards"][0]["rows"] += 1
    path.write_text(json.dumps(edited))
    with pytest.raises(GalleryDamaged, match="not as it was written"):
        gallery.snapshot()


def _problems(uri: str) -> list[object]:
    try:
        return list(lifecycle.verify(Gallery.open(uri)))
    except GalleryError as error:
        return [error]
