"""Photos in .tar, .tar.gz and .zip: listed, read by their ranges, and bombs that are one row's fault."""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from s3server import S3, s3  # noqa: F401

from frpipe.cli.main import main
from frpipe.core.errors import ManifestError
from frpipe.core.reasons import Reason, Reject
from frpipe.io.manifest import shard_reader
from frpipe.io.manifest.admission import admitted
from frpipe.io.manifest.fetch import Fetcher
from frpipe.io.manifest.manifest import Manifest
from frpipe.io.manifest.scan import scan
from frpipe.io.manifest.shard_ref import ShardRef
from frpipe.io.storage.folder import Folder

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
MOST = 1000


def _packed(suffix: str, files: Sequence[tuple[str, bytes]]) -> bytes:
    target = io.BytesIO()
    if suffix == ".zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files:
                archive.writestr(name, data)
        return target.getvalue()
    with tarfile.open(fileobj=target, mode="w" if suffix == ".tar" else "w:gz") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return target.getvalue()


def _photo(number: int, size: int = 300) -> bytes:
    return b"%06d" % number * (size // 6)


def _rows(manifest: Path) -> list[dict[str, Any]]:
    return pa.concat_tables(admitted(Manifest.open(str(manifest)), ())).to_pylist()


def _read(locations: Sequence[str], fetcher: Fetcher | None = None) -> list[bytes | Reason]:
    photos = (fetcher or Fetcher((), 2, MOST, pause_s=0)).stream(locations, 4, 8)
    return [photo.reason if isinstance(photo, Reject) else photo for photo in photos]


@pytest.fixture(params=["local", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """An empty folder on a disk, or in a store."""
    return Folder.at(
        str(tmp_path / "p") if request.param == "local" else f"{request.getfixturevalue('s3').uri}/p"
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_of_shards_is_scanned_and_its_photos_are_read(
    anywhere: Folder, tmp_path: Path, suffix: str
) -> None:
    for shard in range(2):
        files = [(f"anna/{shard}{n}.jpg", _photo(10 * shard + n)) for n in range(3)]
        files += [("@eaDir/x.jpg", b"x"), ("anna/notes.txt", b"x"), (f"{'long' * 60}/4.jpg", b"four")]
        anywhere.write(f"train/{shard}{suffix}", _packed(suffix, files))
    manifest = tmp_path / "m.parquet"
    found = scan(anywhere.uri, str(manifest))
    rows = _rows(manifest)
    assert [row["image_id"] for row in rows][:4] == [
        f"train/0{suffix}#anna/00.jpg",
        f"train/0{suffix}#anna/01.jpg",
        f"train/0{suffix}#anna/02.jpg",
        f"train/0{suffix}#{'long' * 60}/4.jpg",
    ]
    assert {row["subject_id"] for row in rows} == {"anna", "long" * 60}
    assert (found.photos, found.shards, found.damaged) == (8, 2, {})
    assert found.left_out.facts() == {"system": 2, "sidecar": 2}
    photos = _read([row["location"] for row in rows])
    assert photos == [_photo(0), _photo(1), _photo(2), b"four", _photo(10), _photo(11), _photo(12), b"four"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_of_the_same_key_name_the_person(tmp_path: Path, suffix: str) -> None:
    files = [
        ("./000.jpg", b"0"),
        ("./000.json", json.dumps({"subject_id": "김"}).encode()),
        ("./001.cls", b"17\n"),
        ("./001.jpg", b"1"),
        ("./001.txt", b"a caption"),
        ("./002.seg.png", b"2"),
        ("./002.json", b"{"),
        ("./003.jpg", b"3"),
        ("./003.json", b'{"subject_id": 5}'),
        ("./003.cls", b"9"),
    ]
    (tmp_path / f"s{suffix}").write_bytes(_packed(suffix, files))
    found = scan(str(tmp_path / f"s{suffix}"), str(tmp_path / "m.csv"))
    rows = {row["image_id"].partition("#")[2]: row["subject_id"] for row in _rows(tmp_path / "m.csv")}
    assert rows == {"000.jpg": "김", "001.jpg": "17", "002.seg.png": None, "003.jpg": "5"}
    assert (found.named, found.subjects) == (3, 3)
    scan(str(tmp_path), str(tmp_path / "m.csv"), "none")
    assert {row["subject_id"] for row in _rows(tmp_path / "m.csv")} == {None}


def test_shards_beside_photos_are_left_out_unless_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "p"
    (source / "anna").mkdir(parents=True)
    (source / "anna/1.jpg").write_bytes(b"x")
    (source / "backup.zip").write_bytes(_packed(".zip", [("anna/1.jpg", b"x")]))
    (source / "out.tar").symlink_to("/etc/hostname")
    target = str(tmp_path / "m.csv")
    assert main(["manifest", "scan", str(source), "-o", target]) == 0
    assert "2 left out, no photos but archive: 1 .zip, 1 .tar" in capsys.readouterr().out
    assert main(["manifest", "scan", str(source), "-o", target, "--shards"]) == 0
    assert "2 photos: 2 .jpg, in 1 shard" in capsys.readouterr().out
    assert [row["image_id"] for row in _rows(tmp_path / "m.csv")] == ["anna/1.jpg", "backup.zip#anna/1.jpg"]
    with pytest.raises(ManifestError, match="no photos"):
        scan(str(source), target, glob="none/*", shards=False)


def test_a_manifest_names_members_and_rules_are_for_the_shard(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/s.tar").write_bytes(_packed(".tar", [("a#b/../1.jpg", b"x"), ("2.jpg", b"two")]))
    manifest = tmp_path / "m.csv"
    manifest.write_text(
        "image_uri\nd/s.tar#2.jpg\nd/s.tar#a#b/../1.jpg\nd/s.tar#none.jpg\nd/none.zip#1.jpg\n"
    )
    rows = _rows(manifest)
    assert rows[0]["image_id"] == "d/s.tar#2.jpg"
    reasons = [b"two", Reason.BAD_MEMBER, Reason.NOT_FOUND, Reason.NOT_FOUND]
    assert _read([row["location"] for row in rows]) == reasons
    for bad in ("../s.tar#2.jpg", "https://x.org/s.tar#2.jpg"):
        manifest.write_text(f"image_uri\n{bad}\n")
        with pytest.raises(ManifestError):
            _rows(manifest)
    outside = Fetcher((str(tmp_path / "d"),), 1, MOST, pause_s=0)
    (tmp_path / "d/link.tar").symlink_to(tmp_path / "m.csv")
    places = [f"{tmp_path}/d/link.tar#2.jpg", f"{tmp_path}/d/s.tar#2.jpg", f"{tmp_path}/x.tgz#1.jpg"]
    assert _read(places, outside) == [Reason.OUTSIDE_ROOT, b"two", Reason.OUTSIDE_ROOT]
    relative = Fetcher((), 1, MOST, pause_s=0).stream(places[:1], 1, 1, [str(tmp_path / "d")])
    assert [photo.reason for photo in relative if isinstance(photo, Reject)] == [Reason.OUTSIDE_ROOT]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_members_come_in_the_order_asked_for(tmp_path: Path, suffix: str, monkeypatch: Any) -> None:
    shard = tmp_path / f"s{suffix}"
    shard.write_bytes(_packed(suffix, [(f"{n}.jpg", _photo(n)) for n in range(50)]))
    order = [49, 3, 3, 7, 48, 0, 25, 49]
    wanted = [_photo(n) for n in order]
    places = [f"{shard}#{n}.jpg" for n in order]
    assert _read(places) == wanted
    few = Fetcher((), 1, MOST, pause_s=0)
    few._shards._most_held = 1
    assert _read(places, few) == wanted
    assert [few.fetch(place) for place in places] == wanted


class _Counted:
    """A store that counts what is read of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: Any) -> None:
        self.bytes = self.requests = 0
        read = store.cat_file

        def counted(path: str, start: int, end: int) -> bytes:
            self.requests += 1
            self.bytes += end - start
            return bytes(read(path, start=start, end=end))

        monkeypatch.setattr(store, "cat_file", counted)


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_a_part_reads_its_own_members_and_the_directory_once(
    s3: S3,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
) -> None:
    folder, size = Folder.at(s3.uri), 200_000
    files = [(f"{n}.jpg", bytes([n]) * size) for n in range(60)]
    target = io.BytesIO()
    if suffix == ".zip":
        with zipfile.ZipFile(target, "w") as archive:
            for name, data in files:
                archive.writestr(name, data)
    data = target.getvalue() or _packed(suffix, files)
    folder.write(f"s{suffix}", data)
    monkeypatch.setattr(shard_reader, "_REMOTE_WINDOW", 4096)
    fetcher = Fetcher((), 1, size, pause_s=0)
    counted = _Counted(monkeypatch, fetcher._remote(folder.uri))
    assert _read([f"{folder.uri}/s{suffix}#{n}.jpg" for n in range(50, 60)], fetcher) == [
        bytes([n]) * size for n in range(50, 60)
    ]
    assert counted.bytes < 10 * size + 62 * 4096 + 100_000
    before = counted.requests
    assert fetcher.fetch(f"{folder.uri}/s{suffix}#3.jpg") == bytes([3]) * size
    assert counted.requests == before + 1


def test_a_packed_tar_is_unpacked_once_for_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = tmp_path / "s.tar.gz"
    shard.write_bytes(_packed(".tar.gz", [(f"{n}.jpg", _photo(n)) for n in range(50)]))
    opened = []
    plain = Fetcher._opened
    monkeypatch.setattr(Fetcher, "_opened", lambda *a: (opened.append(a), plain(*a))[1])
    fetcher = Fetcher((), 1, MOST, pause_s=0)
    assert len(_read([f"{shard}#{n}.jpg" for n in range(50)], fetcher)) == 50
    assert len(opened) == 1


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return target.getvalue()


def _info(name: str, size: int = 0, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def _hostile_tar() -> bytes:
    link = {"type": tarfile.SYMTYPE, "linkname": "good.jpg"}
    data = _tar(
        (_info("soft.jpg", **link), b""),
        (_info("hard.jpg", **{**link, "type": tarfile.LNKTYPE}), b""),
        (_info("pipe.jpg", type=tarfile.FIFOTYPE), b""),
        (_info("../up.jpg", 1), b"x"),
        (_info("/etc/abs.jpg", 1), b"x"),
        (_info("huge.jpg", MOST + 1), bytes(MOST + 1)),
        (_info("good.jpg", 4), b"good"),
    ).rstrip(b"\0")
    data += bytes(-len(data) % 512)
    lying = _info("lying.jpg", 1 << 40).tobuf(tarfile.GNU_FORMAT)
    return data + lying + bytes(1024)


TAR = {
    "soft.jpg": Reason.BAD_MEMBER,
    "hard.jpg": Reason.BAD_MEMBER,
    "pipe.jpg": Reason.BAD_MEMBER,
    "../up.jpg": Reason.BAD_MEMBER,
    "/etc/abs.jpg": Reason.BAD_MEMBER,
    "huge.jpg": Reason.TOO_MANY_BYTES,
    "good.jpg": b"good",
    "lying.jpg": Reason.BAD_MEMBER,
}


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_what_is_wrong_with_a_member_of_a_tar_is_its_own_rows_fault(tmp_path: Path, suffix: str) -> None:
    data, shard = _hostile_tar(), tmp_path / f"s{suffix}"
    shard.write_bytes(data if suffix == ".tar" else gzip.compress(data))
    scan(str(shard), str(tmp_path / "m.jsonl"))
    rows = _rows(tmp_path / "m.jsonl")
    assert [row["image_id"].partition("#")[2] for row in rows] == [*TAR]
    expected: Mapping[str, Any] = TAR if suffix == ".tar" else {**TAR, "lying.jpg": Reason.TOO_MANY_BYTES}
    assert dict(zip(TAR, _read([row["location"] for row in rows]), strict=True)) == expected


def _patched(data: bytes, name: bytes, at: int, value: bytes, *, directory: bool) -> bytes:
    """A zip with bytes of a member's header replaced. at: from its signature."""
    signature, length = (b"PK\1\2", 46) if directory else (b"PK\3\4", 30)
    start = data.index(signature)
    while not data[start + length :].startswith(name):
        start = data.index(signature, start + 4)
    return data[: start + at] + value + data[start + at + len(value) :]


def test_what_is_wrong_with_a_member_of_a_zip_is_its_own_rows_fault(tmp_path: Path) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("ratio.jpg", "lying.jpg"):
            archive.writestr(name, bytes(1 << 24))
        for name in (
            "secret.jpg",
            "../up.jpg",
            "/abs.jpg",
            "C:/win.jpg",
            "..\\up.jpg",
            "damaged.jpg",
            "good.jpg",
        ):
            archive.writestr(name, b"good")
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "good.jpg")
        archive.writestr("other.jpg", b"x", zipfile.ZIP_LZMA)
        archive.writestr("gone.jpg", b"x")
    data = _patched(target.getvalue(), b"lying.jpg", 24, struct.pack("<I", 10), directory=True)
    data = _patched(data, b"secret.jpg", 8, struct.pack("<H", 1), directory=True)
    data = _patched(data, b"damaged.jpg", 16, struct.pack("<I", 1), directory=True)
    data = _patched(data, b"gone.jpg", 42, struct.pack("<I", 5), directory=True)
    (tmp_path / "s.zip").write_bytes(data)
    scan(str(tmp_path / "s.zip"), str(tmp_path / "m.jsonl"))
    rows = _rows(tmp_path / "m.jsonl")
    found = dict(
        zip(
            [row["image_id"].partition("#")[2] for row in rows],
            _read([row["location"] for row in rows]),
            strict=True,
        )
    )
    bad = ["lying", "secret", "../up", "/abs", "C:/win", "..\\up", "damaged", "link", "other", "gone"]
    assert found == {
        "ratio.jpg": Reason.TOO_MANY_BYTES,
        "good.jpg": b"good",
        **{f"{name}.jpg": Reason.BAD_MEMBER for name in bad},
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_shard_that_is_damaged_is_named_and_what_comes_before_is_read(
    tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [(f"{n}.jpg", bytes(range(256)) * 3) for n in range(40)]
    whole = _packed(suffix, files)
    for name, data in {"a": whole, "b": whole[: len(whole) // 2], "c": b"no shard" * 100, "d": b""}.items():
        (tmp_path / "p").mkdir(exist_ok=True)
        (tmp_path / f"p/{name}{suffix}").write_bytes(data)
    assert main(["manifest", "scan", str(tmp_path / "p"), "-o", str(tmp_path / "m.csv")]) == 0
    printed = capsys.readouterr().out
    for name in "cd":
        assert f"shard '{name}{suffix}' is not whole: the shard is no" in printed
    last = f"{tmp_path}/p/b{suffix}#39.jpg"
    assert _read([last, f"{tmp_path}/p/c{suffix}#1.jpg"])[1] is Reason.BAD_MEMBER
    assert _read([last])[0] in (Reason.BAD_MEMBER, Reason.NOT_FOUND)
    rows = _rows(tmp_path / "m.csv")
    assert len(rows) >= 40
    good = [place for row in rows if "#39" not in (place := row["location"])]
    assert _read(good[:20]) == [bytes(range(256)) * 3] * 20


def test_a_packed_shard_that_ends_in_a_photo_rejects_that_one_and_those_behind_it(tmp_path: Path) -> None:
    noise = random.Random(0)
    files = [(f"{n}.jpg", noise.randbytes(900)) for n in range(30)]
    whole = _packed(".tar.gz", files)
    shard = tmp_path / "s.tar.gz"
    for end in range(len(whole) // 2, len(whole) // 2 + 2000, 250):
        shard.write_bytes(whole[:end])
        found = _read([f"{shard}#{n}.jpg" for n in range(30)])
        good = [photo for photo in found if photo is not Reason.BAD_MEMBER]
        assert good == [data for _, data in files][: len(good)]
        assert 5 < len(good) < 25


def test_a_packed_shard_that_unpacks_without_end_is_given_up(tmp_path: Path) -> None:
    big = _info("big.bin", 1 << 26)
    data = _tar((_info("first.jpg", 1), b"x"), (big, bytes(1 << 26)), (_info("last.jpg", 1), b"x"))
    (tmp_path / "s.tar.gz").write_bytes(gzip.compress(data))
    places = [f"{tmp_path}/s.tar.gz#{name}.jpg" for name in ("first", "last")]
    assert _read(places) == [b"x", Reason.TOO_MANY_BYTES]


def test_a_directory_that_leads_before_the_file_is_no_error(tmp_path: Path) -> None:
    data = _packed(".zip", [("1.jpg", b"x" * 100)])
    end = data.index(b"PK\5\6")
    data = data[: end + 16] + struct.pack("<I", 1 << 20) + data[end + 20 :]
    (tmp_path / "s.zip").write_bytes(data)
    assert _read([f"{tmp_path}/s.zip#1.jpg"]) == [Reason.BAD_MEMBER]


@pytest.mark.parametrize("claim", [1 << 33, 1 << 50])
def test_headers_that_want_memory_get_none(tmp_path: Path, claim: int) -> None:
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        data = _info("x", claim, type=kind).tobuf(tarfile.GNU_FORMAT) + bytes(4096)
        (tmp_path / "s.tar").write_bytes(data)
        (tmp_path / "s.tgz").write_bytes(gzip.compress(data))
        places = [f"{tmp_path}/s.tar#1.jpg", f"{tmp_path}/s.tgz#1.jpg"]
        assert _read(places) == [Reason.BAD_MEMBER, Reason.BAD_MEMBER]


def test_what_names_a_member_and_what_does_not() -> None:
    assert ShardRef.parse("s3://b/x.TAR.GZ#a/b#c.jpg") == ShardRef("s3://b/x.TAR.GZ", "a/b#c.jpg")
    for other in ("a.tar", "a.tar#", "a#b.jpg", "a.tart#b.jpg", "dir.tar/1.jpg", "a.jpg#x.zip"):
        assert ShardRef.parse(other) is None
