"""Galleries as other files: the lecture's HDF5, and Parquet."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from frpipe.core.errors import GalleryError, GalleryMismatch, OutputError
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.lecture import write_lecture
from frpipe.gallery.lecture_reader import read_lecture, read_root
from frpipe.gallery.outcome import Outcome
from frpipe.gallery.policy import Policy
from frpipe.gallery.schema import SUBJECT_ID
from frpipe.io import uri as uris
from frpipe.io.folder import Folder
from frpipe.io.parts import to_parquet
from frpipe.io.run import SUCCESS

Layout = Literal["lecture", "parquet"]
HASHES = ("embedder_hash", "preprocessing_hash", "detector_hash")
_BATCH_ROWS = 16_384


def export(gallery: Gallery, target: str, layout: Layout) -> int:
    """Write the newest version as a file of the lecture or a folder of Parquet files; templates written.

    The vectors are not encrypted there, whatever the gallery is. Raises OutputError where something is there.
    """
    return _export_lecture(gallery, target) if layout == "lecture" else _export_parquet(gallery, target)


def import_file(
    gallery: Gallery, source: str, policy: Policy = "append", assume_model: bool = False
) -> Outcome:
    """Enroll a file of the lecture (.hdf, .hdf5, .h5), a Parquet file, or a folder of an export.

    assume_model: take the vectors of a file that names no model for the gallery's; the log says so.
    Raises GalleryMismatch: another model; GalleryError: no model named, or the file is refused.
    """
    layout = _layout_of(source)
    with _local_files(source) as files:
        assumed = [_check_model(gallery, _named_model(file, layout), assume_model) for file in files]
        note = f"import of a {layout} file" + (", model assumed" if any(assumed) else "")
        return lifecycle.enroll(gallery, _tables(files, layout, gallery.spec.dim), policy, note=note)


def _export_lecture(gallery: Gallery, target: str) -> int:
    folder_uri, name = uris.parent(uris.canonical(target))
    folder = Folder.at(folder_uri)
    if folder.exists(name):
        raise _there()
    snapshot = gallery.snapshot()
    subjects: set[str] = set()
    for table in snapshot.list():
        subjects.update(pc.unique(table[SUBJECT_ID]).to_pylist())
    with tempfile.TemporaryDirectory(prefix="frpipe-") as scratch:
        path = Path(scratch) / "gallery.hdf"
        write_lecture(
            path, subjects, snapshot.tables(), {**_model(gallery), "gallery_version": snapshot.number}
        )
        folder.publish(name, path)
    return snapshot.rows


def _export_parquet(gallery: Gallery, target: str) -> int:
    folder = Folder.at(target)
    if next(folder.walk(), None) is not None:
        raise _there()
    metadata = {f"frpipe.{name}": value for name, value in _model(gallery).items()}
    rows = 0
    for number, table in enumerate(gallery.snapshot().tables()):
        folder.write(f"templates-{number:05d}.parquet", to_parquet(table, metadata))
        rows += table.num_rows
    folder.write(SUCCESS, b"")
    return rows


def _model(gallery: Gallery) -> dict[str, str]:
    return {name: str(getattr(gallery.spec, name)) for name in HASHES}


def _there() -> OutputError:
    return OutputError("there is something at the target already", "choose another name, or take it away")


def _layout_of(source: str) -> Layout:
    return "lecture" if source.lower().endswith((".hdf", ".hdf5", ".h5")) else "parquet"


@contextmanager
def _local_files(source: str) -> Iterator[list[Path]]:
    """The files of a source on this machine; remote ones are copied to a private folder for the while."""
    with tempfile.TemporaryDirectory(prefix="frpipe-") as scratch:
        place = uris.canonical(source)
        if place.rpartition("/")[2].partition(".")[2]:
            folder_uri, name = uris.parent(place)
            names = [name]
        else:
            folder_uri, names = place, _exported(Folder.at(place))
        folder = Folder.at(folder_uri)
        yield [_local(folder, name, Path(scratch) / f"{n:05d}") for n, name in enumerate(names)]


def _exported(folder: Folder) -> list[str]:
    names = [entry.name for entry in folder.list()]
    if SUCCESS not in names:
        raise GalleryError(f"the folder is no finished export: it has no {SUCCESS}", "export again")
    return [name for name in names if name.endswith(".parquet")]


def _local(folder: Folder, name: str, copy: Path) -> Path:
    if not folder.exists(name):
        raise GalleryError("there is no such file", "check the path")
    if folder.is_local:
        return Path(folder.uri) / name
    with folder.open(name) as remote, copy.open("wb") as local:
        while piece := remote.read(1 << 24):
            local.write(piece)
    return copy


def _named_model(file: Path, layout: Layout) -> dict[str, str]:
    if layout == "lecture":
        named = read_root(file)
    else:
        with _readable():
            metadata = pq.read_schema(file).metadata or {}
        named = {
            k.decode("utf-8", "replace").removeprefix("frpipe."): v.decode("utf-8", "replace")
            for k, v in metadata.items()
        }
    return {name: named[name] for name in HASHES if name in named}


def _check_model(gallery: Gallery, named: dict[str, str], assume_model: bool) -> bool:
    """Whether the model had to be assumed."""
    if not named and assume_model:
        return True
    if set(named) != set(HASHES):
        raise GalleryMismatch(
            "the file does not say which model made its vectors",
            "if it is the gallery's, say so with --assume-model; else enroll the photos",
        )
    gallery.spec.check_recipe(
        named["embedder_hash"], named["preprocessing_hash"], named["detector_hash"], gallery.spec.dim
    )
    return False


def _tables(files: list[Path], layout: Layout, dim: int) -> Iterator[pa.Table]:
    now = datetime.now(UTC)
    for file in files:
        if layout == "lecture":
            yield from read_lecture(file, dim, now)
            continue
        with _readable(), pq.ParquetFile(file) as source:
            for batch in source.iter_batches(_BATCH_ROWS):
                yield pa.Table.from_batches([batch]).replace_schema_metadata(None)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise GalleryError("the file is damaged, or no Parquet file", "export or write it again") from None
