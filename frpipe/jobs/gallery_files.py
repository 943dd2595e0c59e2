"""Exchange galleries with other files: the lecture's HDF5, and Parquet."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import GalleryError, GalleryMismatch, OutputError, StorageError
from frpipe.gallery import lifecycle
from frpipe.gallery.document import read_twice
from frpipe.gallery.external_sort import ExternalSort
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.hdf5_exchange import write_lecture
from frpipe.gallery.hdf5_exchange_reader import ROUNDED, read_lecture, read_root
from frpipe.gallery.likeness import Likeness
from frpipe.gallery.outcome import Outcome
from frpipe.gallery.photos import check_source, with_source
from frpipe.gallery.policy import Policy
from frpipe.gallery.schema import INPUT_TOLERANCE, UNIT_TOLERANCE
from frpipe.gallery.suppression import Suppressions, exported, imported
from frpipe.io.output.parts import to_parquet
from frpipe.io.output.run import SUCCESS
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import out_of_memory

Layout = Literal["lecture", "parquet"]
HASHES = ("embedder_hash", "preprocessing_hash", "detector_hash")
_BATCH_ROWS = 16_384
# Templates that an export to HDF5 holds at once.
_BUCKET_ROWS = 4096
_LIST, _LIST_SUFFIX = "suppressed.json", ".suppressed.json"


def export(gallery: Gallery, target: str, layout: Layout) -> int:
    """Write the newest version as the lecture's file or a folder of Parquet files; the templates written.

    The vectors are not encrypted there, whatever the gallery is. The suppression list comes along, where
    anybody is on it: in TARGET.suppressed.json, or in suppressed.json of the folder. Raises OutputError where
    something is there.
    """
    return _export_lecture(gallery, target) if layout == "lecture" else _export_parquet(gallery, target)


def import_file(
    gallery: Gallery,
    source: str,
    policy: Policy | None = None,
    assume_model: bool = False,
    *,
    source_name: str = "",
    same_photos: bool = False,
    likeness: Likeness | None = None,
) -> Outcome:
    """Enroll a file of the lecture (.hdf, .hdf5, .h5), a Parquet file, or a folder of an export.

    policy: None is `append`, but `skip` for a lecture's file that names no model: its ids are then mostly
    the numbers of its groups, and person 0 of another file is another person.
    assume_model: take the vectors of a file that names no model for the gallery's; the log says so.
    source_name: what to put before the ids of its photos.  same_photos, likeness: as for `lifecycle.enroll`.
    The suppression list that comes with an export is taken over, but for who is in the gallery (see
    `adopt_list`), and obeyed.
    Raises GalleryMismatch: another model; GalleryError: no model named, or the file is refused.
    """
    check_source(source_name)
    with _local_files(source) as (files, layout, listed):
        # Every file is checked, also after one whose model is assumed.
        assumed = sum(_check_model(gallery, _named_model(file, layout), assume_model) for file in files)
        note = f"import of a {layout} file" + (", model assumed" if assumed else "")
        policy = policy or ("skip" if assumed and layout == "lecture" else "append")
        if listed is not None:
            lifecycle.adopt_list(gallery, listed, source_name)
        # What a gallery has given out is taken back to the last bit: rounding to float16 is in it.
        tolerance = INPUT_TOLERANCE if assumed else UNIT_TOLERANCE
        tables = _tables(files, layout, gallery.spec.dim, None if assumed else tolerance)
        return lifecycle.enroll(
            gallery,
            (with_source(table, source_name) for table in tables),
            policy,
            note=note,
            tolerance=tolerance,
            same_photos=same_photos,
            likeness=likeness,
        )


def _export_lecture(gallery: Gallery, target: str) -> int:
    folder_uri, name = uris.parent(uris.canonical(target))
    folder = Folder.at(folder_uri)
    if folder.exists(name):
        raise _there()
    snapshot = gallery.snapshot()
    root: dict[str, str | int] = {**_model(gallery), **snapshot.id.as_dict("gallery_")}
    dim, stored_type = gallery.spec.dim, gallery.spec.stored_type
    with _draft(folder, name) as path, ExternalSort(dim, stored_type, _BUCKET_ROWS) as by_person:
        by_person.take(snapshot.tables())
        write_lecture(path, by_person.tables(), root)
        # First: a file of people without the list of those who must not come back would be a false one.
        _write_list(gallery, folder, f"{name}{_LIST_SUFFIX}")
        folder.adopt(name, path)
    return snapshot.rows


@contextmanager
def _draft(folder: Folder, name: str) -> Iterator[Path]:
    """Open a private file to fill, beside the target where that is local; removed whatever happens."""
    with tempfile.TemporaryDirectory(prefix="frpipe-") as scratch:
        path = folder.draft(name) or Path(scratch) / "gallery.hdf"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _export_parquet(gallery: Gallery, target: str) -> int:
    folder = Folder.at(target)
    if next(folder.walk(), None) is not None:
        raise _there()
    snapshot = gallery.snapshot()
    metadata = {f"frpipe.{name}": value for name, value in _model(gallery).items()}
    metadata |= snapshot.id.as_metadata()
    rows = 0
    for number, table in enumerate(snapshot.tables()):
        folder.write(f"templates-{number:05d}.parquet", to_parquet(table, metadata))
        rows += table.num_rows
    _write_list(gallery, folder, _LIST)
    folder.write(SUCCESS, b"")
    return rows


def _write_list(gallery: Gallery, folder: Folder, name: str) -> None:
    suppressions = gallery.suppressions.read()
    if suppressions:
        folder.write(name, exported(suppressions))
    else:
        folder.delete(name)  # of an export that broke off


def _model(gallery: Gallery) -> dict[str, str]:
    return {name: str(getattr(gallery.spec, name)) for name in HASHES}


def _there() -> OutputError:
    return OutputError("there is something at the target already", "choose another name, or take it away")


@contextmanager
def _local_files(source: str) -> Iterator[tuple[list[Path], Layout, Suppressions | None]]:
    """Bring the files of a source to this machine, remote ones into a private folder for the while.

    The last is the suppression list that came with them, if there is one.
    """
    with tempfile.TemporaryDirectory(prefix="frpipe-") as scratch:
        place = uris.canonical(source)
        layout: Layout = "parquet"
        if _is_file(place):
            folder_uri, name = uris.parent(place)
            names, listed = [name], f"{name}{_LIST_SUFFIX}"
            if name.lower().endswith((".hdf", ".hdf5", ".h5")):
                layout = "lecture"
        else:
            folder_uri, names, listed = place, _exported(Folder.at(place)), _LIST
        folder = Folder.at(folder_uri)
        found = read_twice(folder, listed, imported) if folder.exists(listed) else None
        yield (
            [_local(folder, name, Path(scratch) / f"{n:05d}") for n, name in enumerate(names)],
            layout,
            found,
        )


def _is_file(place: str) -> bool:
    folder_uri, name = uris.parent(place)
    # A bucket has no parent.
    return bool(name) and "/" in uris.split(place)[1] and Folder.at(folder_uri).exists(name)


def _exported(folder: Folder) -> list[str]:
    names = [entry.name for entry in folder.list()]
    if not names:
        raise GalleryError("there is no such file, and no folder of an export", "check the path")
    if SUCCESS not in names:
        raise GalleryError(f"the folder is no finished export: it has no {SUCCESS}", "export again")
    return [name for name in names if name.endswith(".parquet")]


def _local(folder: Folder, name: str, copy: Path) -> Path:
    if folder.is_local:
        return Path(folder.uri) / name
    with folder.open(name) as remote, copy.open("wb") as local:
        while piece := remote.read(1 << 24):
            local.write(piece)
    if copy.stat().st_size != folder.entry(name).bytes:
        raise StorageError(f"{name} in {folder.uri} was not read to its end", "run again")
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
    """Check the models of a file, and say whether the model had to be assumed."""
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


def _tables(files: list[Path], layout: Layout, dim: int, tolerance: float | None) -> Iterator[pa.Table]:
    """Iterate over a file's templates.

    tolerance: how far a vector's length may be from 1, to be left as it is; None: as rounding makes it.
    """
    now = datetime.now(UTC)
    for file in files:
        if layout == "lecture":
            yield from read_lecture(file, dim, now, ROUNDED if tolerance is None else tolerance)
            continue
        with _readable(), pq.ParquetFile(file) as source:
            for batch in source.iter_batches(_BATCH_ROWS):
                yield pa.Table.from_batches([batch]).replace_schema_metadata(None)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise out_of_memory("the file") from error
    except (pa.ArrowInvalid, NotImplementedError, UnicodeError) as error:
        raise GalleryError(
            f"the file cannot be read as Parquet ({type(error).__name__})",
            "run again; where that changes nothing, export or write it again",
        ) from None
