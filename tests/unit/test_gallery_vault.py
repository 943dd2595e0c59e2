"""Encrypted galleries: nothing readable on the disk, nothing changed unnoticed, no way in without the key."""

from __future__ import annotations

import base64
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gallery_rows import content, files, files_with, ids, people, spec, unit, vector_of
from s3server import S3, s3  # noqa: F401

from frpipe.core.errors import GalleryDamaged, GalleryError
from frpipe.gallery import lifecycle
from frpipe.gallery.encryption import KEY_FILE_VARIABLE, KEY_VARIABLE, Cipher
from frpipe.gallery.gallery import Gallery

pytest.importorskip("cryptography")
CHUNK = 1 << 20
HEAD = 24


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    made = base64.b64encode(os.urandom(32)).decode()
    monkeypatch.setenv(KEY_VARIABLE, made)
    monkeypatch.delenv(KEY_FILE_VARIABLE, raising=False)
    return made


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    made = Gallery.create(str(tmp_path / "g"), spec(encryption="aes-256-gcm"))
    lifecycle.enroll(made, [people(ids(100), Name=["홍길동"] * 100)])
    return made


def test_an_encrypted_gallery_is_like_any_other(gallery: Gallery, tmp_path: Path) -> None:
    plain = Gallery.create(str(tmp_path / "plain"), spec())
    lifecycle.enroll(plain, [people(ids(100), Name=["홍길동"] * 100)])
    assert content(gallery.snapshot()) == content(plain.snapshot())
    for changed in (gallery, plain):
        lifecycle.delete(changed, ids(10))
        lifecycle.compact(changed)
    assert content(Gallery.open(gallery.uri).snapshot()) == content(plain.snapshot())
    assert lifecycle.verify(gallery) == []
    assert lifecycle.merge(gallery, plain).unchanged == 90
    with pytest.raises(GalleryError, match="in the clear"):
        lifecycle.merge(plain, gallery)


def test_nothing_of_a_person_is_readable_on_the_disk(gallery: Gallery, key: str) -> None:
    needles = [vector_of(gallery, "p0001").tobytes(), "홍길동".encode(), b"p0001", b"embedding"]
    needles += [key.encode(), base64.b64decode(key)]
    assert files_with(Path(gallery.uri), *needles) == []


def test_encrypted_on_s3(s3: S3) -> None:  # noqa: F811
    gallery = Gallery.create(s3.uri, spec(encryption="aes-256-gcm"))
    lifecycle.enroll(gallery, [people(ids(50))])
    lifecycle.delete(gallery, ids(3))
    assert gallery.snapshot().rows == len(content(gallery.snapshot())) == 47
    assert lifecycle.verify(gallery) == []


def test_the_key_may_come_from_a_file(
    gallery: Gallery, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(f"{key}\n")
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key"))
    assert len(content(Gallery.open(gallery.uri).snapshot())) == 100


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (base64.b64encode(b"x" * 32).decode(), "not the one"),
        (base64.b64encode(b"x" * 16).decode(), "32 bytes"),
        ("not base64!", "32 bytes"),
        (None, "no key is given"),
    ],
)
def test_a_wrong_or_missing_key_is_an_error_that_says_what_to_do(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, value: str | None, message: str
) -> None:
    if value is None:
        monkeypatch.delenv(KEY_VARIABLE)
    else:
        monkeypatch.setenv(KEY_VARIABLE, value)
    fresh = Gallery.open(gallery.uri)
    assert fresh.log()[1].counts["added"] == 100
    with pytest.raises(GalleryError, match=message) as caught:
        content(fresh.snapshot())
    assert caught.value.remedy
    assert value is None or value not in str(caught.value)


def test_a_missing_key_file_is_an_error(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv(KEY_FILE_VARIABLE, "/nonexistent/key")
    with pytest.raises(GalleryError, match="cannot be read"):
        content(Gallery.open(gallery.uri).snapshot())


def test_the_key_does_not_travel_with_a_pickle(gallery: Gallery, key: str) -> None:
    content(gallery.snapshot())
    assert base64.b64decode(key) not in pickle.dumps(gallery)


def test_any_changed_byte_is_found(gallery: Gallery) -> None:
    chance = random.Random(3)
    for path in files(Path(gallery.uri) / "shards"):
        whole = path.read_bytes()
        for place in {0, len(whole) - 1, *chance.sample(range(len(whole)), 10)}:
            data = bytearray(whole)
            data[place] ^= 1 << chance.randrange(8)
            path.write_bytes(data)
            if path.suffix == ".h5":
                with pytest.raises(GalleryDamaged):
                    content(gallery.snapshot())
            assert len(lifecycle.verify(gallery)) == 1
        path.write_bytes(whole)


def _chunks(data: bytes) -> list[bytes]:
    return [data[at : at + CHUNK + 16] for at in range(HEAD, len(data), CHUNK + 16)]


FORGED: dict[str, Callable[[bytes], bytes]] = {
    "cut at a chunk": lambda data: data[: HEAD + 2 * (CHUNK + 16)],
    "cut in a chunk": lambda data: data[:-1],
    "cut to the head": lambda data: data[:HEAD],
    "nothing": lambda _: b"",
    "chunks exchanged": lambda data: data[:HEAD] + b"".join([_chunks(data)[i] for i in (1, 0, 2)]),
    "a chunk left out": lambda data: data[:HEAD] + b"".join([_chunks(data)[i] for i in (0, 2)]),
    "a chunk twice": lambda data: data[:HEAD] + b"".join([_chunks(data)[i] for i in (0, 1, 1, 2)]),
    "something behind": lambda data: data + b"\0",
    "another salt": lambda data: data[:8] + bytes(16) + data[HEAD:],
    "another form": lambda data: b"FRPENC99" + data[8:],
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_file_is_refused(name: str) -> None:
    cipher = Cipher("id", os.urandom(32))
    plain = os.urandom(2 * CHUNK + 1000)
    data = bytes(cipher.encrypt("shards/a.h5", memoryview(plain)))
    assert cipher.decrypt("shards/a.h5", data) == plain
    with pytest.raises(GalleryDamaged):
        cipher.decrypt("shards/a.h5", FORGED[name](data))


def test_a_file_under_another_name_or_gallery_is_refused() -> None:
    key = os.urandom(32)
    data = bytes(Cipher("id", key).encrypt("shards/a.h5", memoryview(b"x")))
    for cipher, name in ((Cipher("id", key), "shards/b.h5"), (Cipher("other", key), "shards/a.h5")):
        with pytest.raises(GalleryDamaged):
            cipher.decrypt(name, data)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_every_length_comes_back(size: int) -> None:
    cipher = Cipher("id", os.urandom(32))
    plain = os.urandom(size)
    assert cipher.decrypt("a", bytes(cipher.encrypt("a", memoryview(plain)))) == plain


def test_two_files_of_the_same_content_have_nothing_in_common() -> None:
    cipher, plain = Cipher("id", os.urandom(32)), memoryview(unit(64).tobytes())
    one, two = (np.frombuffer(bytes(cipher.encrypt("a", plain)), np.uint8) for _ in range(2))
    assert np.mean(one[HEAD:] == two[HEAD:]) < 0.02
