"""Find the files of a list: a single one, those of a folder, or those that a pattern names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, cast
from urllib.parse import unquote

import pyarrow as pa

from frpipe.core.errors import ManifestError
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Entry, Folder

Format = Literal["parquet", "csv", "jsonl"]
SUFFIXES: dict[str, Format] = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
"""Suffixes of lists that are written; more are read."""

_READ: dict[str, Format] = {**SUFFIXES, ".tsv": "csv", ".json": "jsonl"}
_PACKED: dict[str, Literal["gzip", "zstd"]] = {".gz": "gzip", ".zst": "zstd"}
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
_MAGIC = re.compile(r"[*?[]")
_REMEDIES = {
    "export the sheet as CSV in UTF-8": ".xlsx .xls .xlsm .xlsb .ods .numbers",
    "name it .csv or .tsv: a header line, then a photo a line": ".txt .text .dat .list .lst .tab",
    "write it as Parquet": ".pq .feather .arrow .ipc .orc .avro .h5 .hdf5 .pkl .pickle .npy .db .sqlite",
    "let its name say what is packed: list.csv.gz": ".gz .zst",
    "unpack it, or pack it with gzip or zstd: list.csv.gz": ".bz2 .xz .lz4 .br .zip .7z .z .snappy",
}


@dataclass(frozen=True, slots=True)
class ListFile:
    """A file of a list. keys: values of the folders `key=value` above it; None is no value."""

    entry: Entry
    format: Format
    codec: Literal["gzip", "zstd"] | None
    keys: dict[str, str | None]

    @property
    def name(self) -> str:
        """The file's path in the folder of the list."""
        return self.entry.name

    @property
    def shown(self) -> str:
        """The path for messages, without the values of keys: they may be people."""
        return re.sub(r"=[^/]*/", "=.../", self.name)

    def unpacked(self, file: BinaryIO) -> BinaryIO:
        """Unpack the bytes of the open file where it is packed."""
        if self.codec is None:
            return file
        return cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(file, mode="r"), self.codec))


def find(uri: str, noun: str) -> tuple[Folder, tuple[ListFile, ...]]:
    """Find the folder of a list and its files, in the order of their names.

    uri: a file, a folder, or a pattern: `*`, `?` and `[...]` stay within one name, `**` is any number of
    folders. What is there as written is taken so.  noun: what the list is called in messages.
    Raises ManifestError: nothing of the kind is there, or files of several formats.
    """
    place = uris.canonical(uri)
    folder = Folder.at(place)
    found = _listed(folder.list())
    if not found:
        folder, found = _single(place) or _matched(place)
    if not found:
        raise _nothing(place, noun)
    formats = {file.format for file in found}
    if len(formats) > 1:
        raise ManifestError(
            f"the {noun} is in files of {' and '.join(sorted(formats))}", "keep one format in a folder"
        )
    doubled = [name for name, count in Counter(map(_unpacked, found)).items() if count > 1]
    if doubled:
        raise ManifestError(
            f"the {noun} holds {doubled[0]} twice, packed and unpacked", "remove one of the two"
        )
    return folder, tuple(found)


def is_pattern(uri: str) -> bool:
    """Whether a URI is a pattern of names, and no folder that is there."""
    return bool(_split(uris.canonical(uri))[1])


def is_list(name: str) -> bool:
    """Whether a file of this name may hold a list."""
    return _form(name) is not None


def _form(name: str) -> tuple[Format, Literal["gzip", "zstd"] | None] | None:
    path = PurePosixPath(name)
    codec = _PACKED.get(path.suffix.lower())
    format = _READ.get((path.with_suffix("") if codec else path).suffix.lower())
    return None if format is None or (codec and format == "parquet") else (format, codec)


def _listed(entries: Iterable[Entry]) -> list[ListFile]:
    """Choose the files that hold rows: neither `_name` nor below such a folder; `.json` among its like."""
    found = []
    for entry in entries:
        form = _form(entry.name)
        if form and not any(part.startswith("_") for part in PurePosixPath(entry.name).parts):
            found.append(ListFile(entry, *form, _keys(entry.name)))
    return [file for file in found if PurePosixPath(_unpacked(file)).suffix.lower() != ".json"] or found


def _single(place: str) -> tuple[Folder, list[ListFile]] | None:
    parent, name = uris.parent(place)
    form = _form(name)
    if form is None:
        return None
    try:
        return Folder.at(parent), [ListFile(Folder.at(parent).entry(name), *form, {})]
    except FileNotFoundError:
        return None


def _matched(place: str) -> tuple[Folder, list[ListFile]]:
    start, pattern = _split(place)
    folder = Folder.at(start)
    entries = folder.list() if pattern else []
    return folder, _listed(entry for entry in entries if _fits(entry.name.split("/"), pattern.split("/")))


def _split(place: str) -> tuple[str, str]:
    """Split a pattern into its folder and the pattern below; a folder that is there is no pattern."""
    if uris.split(place)[0] in uris.WEB:
        return place, ""
    segments = place.split("/")
    first = 3 if "://" in place else 1
    for end in range(first, len(segments)):
        if _MAGIC.search(segments[end]) and not _is_folder("/".join(segments[: end + 1])):
            return "/".join(segments[:end]) or "/", "/".join(segments[end:])
    return place, ""


def _is_folder(place: str) -> bool:
    return Path(place).is_dir() if uris.is_local(place) else any(True for _ in Folder.at(place).walk())


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not parts or not pattern:
        return not parts and not pattern
    if pattern[0] == "**":
        return _fits(parts, pattern[1:]) or _fits(parts[1:], pattern)
    return fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _keys(name: str) -> dict[str, str | None]:
    keys: dict[str, str | None] = {}
    for part in PurePosixPath(name).parts[:-1]:
        written, equals, value = part.partition("=")
        key = _decoded(written).strip()
        if key and equals:
            if key in keys:
                raise ManifestError(
                    f"{PurePosixPath(name).name} lies in two folders of one key", "rename one of them"
                )
            keys[key] = None if value in ("", _NO_VALUE) else _decoded(value)
    return keys


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ManifestError(
            "the name of a folder KEY=VALUE is not UTF-8 once it is decoded", "rename the folder"
        ) from None


def _unpacked(file: ListFile) -> str:
    return str(PurePosixPath(file.name).with_suffix("")) if file.codec else file.name


def _nothing(place: str, noun: str) -> ManifestError:
    parent, name = uris.parent(place)
    suffix = PurePosixPath(name).suffix.lower()
    if _split(place)[1]:
        return ManifestError(
            f"no file of a {noun} matches {place}",
            "end the pattern as the files' names end, as in *.parquet; ** stands for any number of folders",
        )
    if is_list(name) or not (_is_folder(place) or Folder.at(parent).exists(name)):
        return ManifestError(f"there is no {noun} {place}", "check the path")
    remedies = [remedy for remedy, suffixes in _REMEDIES.items() if suffix in suffixes.split()]
    if name.lower().endswith(tuple(f".parquet{packed}" for packed in _PACKED)):
        remedies = ["unpack it: Parquet packs its columns itself"]
    return ManifestError(
        f"{place} is no {noun}: neither a Parquet, CSV or JSON file nor a folder of them",
        remedies[0]
        if remedies
        else "to list a folder of photos: frpipe manifest scan FOLDER -o photos.parquet",
    )
