"""A file that another program has, or that storage does not give, is not called damaged."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gallery_rows import DIM, ids, people, spec

from frpipe.cli.main import main
from frpipe.core.errors import FrpipeError, GalleryDamaged, GalleryError
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.io.storage.folder import Folder
from frpipe.jobs.gallery_files import export, import_file


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    made = Gallery.create(str(tmp_path / "g"), spec())
    lifecycle.enroll(made, [people(ids(3))])
    return made


@pytest.fixture
def file(gallery: Gallery, tmp_path: Path) -> Path:
    export(gallery, str(tmp_path / "g.hdf"), layout="lecture")
    return tmp_path / "g.hdf"


@pytest.fixture
def empty(tmp_path: Path) -> Gallery:
    return Gallery.create(str(tmp_path / "empty"), spec())


def test_a_file_that_another_program_has_locked_is_in_use(
    file: Path, empty: Gallery, capsys: pytest.CaptureFixture[str]
) -> None:
    with file.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert main(["gallery", "import", empty.uri, str(file)]) == 10
    said = capsys.readouterr().err
    assert "another program has it open" in said and "close it there" in said
    assert "damaged, or" not in said
    assert main(["gallery", "import", empty.uri, str(file)]) == 0


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.EACCES, 7, "permission is denied"),
        (errno.EIO, 7, "EIO"),
        (errno.ESTALE, 7, "ESTALE"),
        (errno.EMFILE, 7, "EMFILE"),
        (errno.EAGAIN, 10, "another program has it open"),
        (None, 10, "damaged, or no HDF5 file"),
        (errno.EINVAL, 10, "damaged, or no HDF5 file"),
    ],
)
def test_what_hdf5_complains_of_is_told_apart(
    number: int | None,
    code: int,
    words: str,
    file: Path,
    empty: Gallery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = OSError(number, os.strerror(number)) if number else OSError("file signature not found")
    monkeypatch.setattr(h5py, "File", _raising(error))
    with pytest.raises(FrpipeError, match=words) as caught:
        import_file(empty, str(file))
    assert caught.value.exit_code == code and caught.value.remedy


def test_too_little_memory_is_no_damage(
    file: Path, gallery: Gallery, empty: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in Path(gallery.uri).glob("shards/*.index"):
        path.unlink()
    monkeypatch.setattr(h5py.h5f, "open", _raising(MemoryError()))
    for use in (
        lambda: import_file(empty, str(file)),
        lambda: list(Gallery.open(gallery.uri).snapshot().tables()),
    ):
        with pytest.raises(FrpipeError, match="not enough memory") as caught:
            use()
        assert caught.value.exit_code == 11


def test_a_shard_that_is_open_for_writing_is_in_use(
    gallery: Gallery, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a notebook has it that opened it with `r+`: the file says so of itself."""
    (ref,) = gallery.snapshot().version.shards
    shard = Path(gallery.uri) / ref.name
    whole = shard.read_bytes()
    with h5py.File(shard, "r+"):
        written = shard.read_bytes()
    shard.write_bytes(whole)
    assert main(["gallery", "verify", gallery.uri]) == 0
    capsys.readouterr()
    shard.write_bytes(written)
    assert main(["gallery", "verify", gallery.uri]) == 10
    assert "open for writing in another program" in "".join(capsys.readouterr())
    with pytest.raises(GalleryError, match="open for writing") as caught:
        list(Gallery.open(gallery.uri).snapshot().tables())
    assert not isinstance(caught.value, GalleryDamaged)
    shard.write_bytes(whole)
    assert main(["gallery", "verify", gallery.uri]) == 0


@pytest.mark.parametrize("sub", ["gallery.json", "versions", "deleted"])
def test_a_read_that_was_cut_short_once_is_made_again(
    sub: str, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    lifecycle.delete(gallery, ["p0001"])
    read, cut = Folder.read, []

    def flaky(folder: Folder, name: str) -> bytes:
        data = read(folder, name)
        if name.startswith(sub) and name not in cut:
            cut.append(name)
            return data[:-1]
        return data

    monkeypatch.setattr(Folder, "read", flaky)
    tables = list(Gallery.open(gallery.uri).snapshot().tables())
    assert cut and sum(table.num_rows for table in tables) == 2
    assert {table["embedding"].type.list_size for table in tables} == {DIM}


@pytest.mark.parametrize("sub", ["gallery.json", "versions", "deleted"])
def test_a_file_that_is_there_and_is_not_found_by_a_read_keeps_nobody_waiting(
    sub: str, gallery: Gallery, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lifecycle.delete(gallery, ["p0001"])
    read = Folder.read

    def lost(folder: Folder, name: str) -> bytes:
        if name.startswith(sub):
            raise FileNotFoundError(name)
        return read(folder, name)

    monkeypatch.setattr(Folder, "read", lost)
    assert main(["gallery", "list", gallery.uri]) == 7
    assert "is there, and a read of it found none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (pa.ArrowMemoryError("malloc of size 64 failed"), 11, "not enough memory"),
        (pa.ArrowNotImplementedError("unknown type"), 3, "does not read"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), 7, "Input/output error"),
        (pa.ArrowInvalid("no magic bytes"), 3, "is not Parquet, is damaged or is cut short"),
    ],
)
def test_what_arrow_complains_of_in_a_manifest_is_told_apart(
    error: Exception,
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pq.write_table(pa.table({"image_uri": ["a.jpg"]}), tmp_path / "m.parquet")
    monkeypatch.setattr(pq, "ParquetFile", _raising(error))
    assert main(["manifest", "check", str(tmp_path / "m.parquet")]) == code
    assert words in capsys.readouterr().err


def _raising(error: Exception) -> Callable[..., object]:
    def opened(*_: object, **__: object) -> object:
        raise error

    return opened
