"""Make a manifest of a folder or prefix of photos: flat, or one folder per person as in LFW."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

import pyarrow as pa

from frpipe.core.errors import ManifestError
from frpipe.core.text import canonical_text
from frpipe.io.manifest.columns import ID, SUBJECT, URI
from frpipe.io.manifest.list_files import SUFFIXES
from frpipe.io.manifest.manifest_writer import write_manifest
from frpipe.io.manifest.photo_listing import FolderLinks, PhotoListing
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder

SubjectFrom = Literal["auto", "folder", "none"]
_BATCH_ROWS = 1 << 14


@dataclass(slots=True)
class Scan:
    """Result of a scan. `depths`: photos by the number of folders between the scanned one and the photo."""

    photos: int = 0
    suffixes: Counter[str] = field(default_factory=Counter)
    depths: Counter[int] = field(default_factory=Counter)
    subjects: int | None = None
    unreadable_names: int = 0
    links: FolderLinks = field(default_factory=FolderLinks)


def scan(
    uri: str,
    target: str,
    subject_from: SubjectFrom = "auto",
    glob: str | None = None,
    roots: tuple[str, ...] = (),
) -> Scan:
    """List the photos below a folder or prefix and write a manifest, sorted by path.

    target: .parquet, .csv or .jsonl, local or remote.  subject_from: `folder` takes the name of the folder
    that holds the photo; `auto` does so if every photo lies exactly one folder down.  glob: keep only paths
    that match, relative to the folder; `*` matches `/` too.  roots: where links may lead out to.
    image_id is the path relative to the folder, in Unicode NFC, image_uri the absolute one as it is.
    Raises ManifestError: no photos, a target of no known format, or local photos for a remote target.
    """
    source, (parent, name) = Folder.at(uri), uris.parent(uris.canonical(target))
    format = SUFFIXES.get(PurePosixPath(name).suffix.lower())
    if format is None:
        raise ManifestError(f"{name} is no manifest's name", "end it in .parquet, .csv or .jsonl")
    if source.is_local and not uris.is_local(target):
        raise ManifestError(
            "a remote manifest may not name local photos", "write the manifest to a local file"
        )
    listing = PhotoListing(source, glob, roots)
    found = Scan(links=listing.links)
    with tempfile.TemporaryDirectory(prefix="frpipe-scan-") as scratch:
        names = Path(scratch) / "names"
        _spool(listing, names, found)
        if not found.photos:
            outside = len(listing.links.outside)
            raise ManifestError(
                f"no photos in {source.uri}"
                + (f", but {outside:,} links that lead out of it" * bool(outside)),
                "allow by --root where they may lead"
                if outside
                else "check the path, and --glob if it is given",
            )
        by_folder = subject_from == "folder" or (subject_from == "auto" and set(found.depths) == {1})
        subjects: set[str] | None = set() if by_folder else None
        finished = Path(scratch) / "manifest"
        write_manifest(finished, format, _schema(by_folder), _rows(source, names, subjects))
        Folder.at(parent).publish(name, finished)
        found.subjects = None if subjects is None else len(subjects)
    return found


def _spool(listing: PhotoListing, names: Path, found: Scan) -> None:
    """Write the photos' names to a file: whether their folders are persons shows only at the end."""
    ordered, last = True, ""
    with names.open("w", encoding="utf-8") as file:
        for name in listing.names():
            if not _is_text(name):
                found.unreadable_names += 1
                continue
            file.write(name + "\n")
            ordered, last = ordered and last < name, name
            found.photos += 1
            found.suffixes[PurePosixPath(name).suffix.lower()] += 1
            found.depths[name.count("/")] += 1
    if not ordered:
        names.write_text("\n".join(sorted(names.read_text("utf-8").rstrip("\n").split("\n"))) + "\n", "utf-8")


def _rows(source: Folder, names: Path, subjects: set[str] | None) -> Iterator[pa.RecordBatch]:
    schema = _schema(subjects is not None)
    base = source.uri.rstrip("/")
    with names.open(encoding="utf-8", newline="\n") as file:
        while batch := [line[:-1] for _, line in zip(range(_BATCH_ROWS), file, strict=False)]:
            columns = [[canonical_text(name) for name in batch], [f"{base}/{name}" for name in batch]]
            if subjects is not None:
                people = [PurePosixPath(name).parent.name or None for name in columns[0]]
                subjects.update(person for person in people if person)
                columns.append(people)  # type: ignore[arg-type]
            yield pa.record_batch([pa.array(column, pa.string()) for column in columns], schema=schema)


def _schema(by_folder: bool) -> pa.Schema:
    return pa.schema([pa.field(name, pa.string()) for name in (ID, URI, *([SUBJECT] if by_folder else []))])


def _is_text(name: str) -> bool:
    """Whether a file's name is UTF-8 on one line, as every manifest format needs."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\n" not in name and "\r" not in name
