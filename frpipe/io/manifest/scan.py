"""Make a manifest of a folder or prefix of photos: flat, or one folder per person as in LFW."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa

from frpipe.core.counted import counted
from frpipe.core.errors import ManifestError
from frpipe.core.text import canonical_text
from frpipe.io.manifest.columns import ID, SUBJECT, URI
from frpipe.io.manifest.list_files import SUFFIXES
from frpipe.io.manifest.manifest_writer import write_manifest
from frpipe.io.manifest.photo_listing import FolderLinks, PhotoListing
from frpipe.io.manifest.photo_rules import LeftOut, PhotoRules, is_one_line, may_be_listed
from frpipe.io.manifest.shard_photos import photos_in
from frpipe.io.manifest.shard_ref import ShardRef, is_shard
from frpipe.io.manifest.shards import ShardFault
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder

SubjectFrom = Literal["auto", "folder", "none"]
_BATCH_ROWS = 1 << 14
_People = Callable[[str, str | None], str | None]


@dataclass(slots=True)
class Scan:
    """The result of a scan.

    depths: photos by the number of folders between the scanned one, or their shard, and the photo.  named:
    photos in shards whose person a file beside them names.  damaged: shards that are not whole, and why.
    """

    photos: int = 0
    suffixes: Counter[str] = field(default_factory=Counter)
    depths: Counter[int] = field(default_factory=Counter)
    subjects: int | None = None
    unreadable_names: int = 0
    shards: int = 0
    named: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    links: FolderLinks = field(default_factory=FolderLinks)
    left_out: LeftOut = field(default_factory=LeftOut)

    def as_dict(self) -> dict[str, Any]:
        """Counts, for JSON."""
        return {
            "photos": self.photos,
            "suffixes": dict(self.suffixes),
            "subjects": self.subjects,
            "shards": self.shards,
            "shards_damaged": len(self.damaged),
            "left_out": {**self.left_out.facts(), "unreadable_names": self.unreadable_names},
            **self.links.facts(),
        }


def scan(
    uri: str,
    target: str,
    subject_from: SubjectFrom = "auto",
    glob: str | None = None,
    roots: tuple[str, ...] = (),
    *,
    exclude: Sequence[str] = (),
    system: bool = False,
    shards: bool | None = None,
) -> Scan:
    """List the photos below a folder or prefix and write a manifest, sorted by path.

    target: .parquet, .csv or .jsonl, local or remote.  subject_from: `folder` takes the name of the folder
    that holds the photo; `auto` does so if every photo lies exactly one folder down.  glob, exclude,
    system: as in `PhotoRules`.  shards: whether to list photos in archives, too; None: only where there are
    no others.  roots: where links may lead out to.
    image_id is the path relative to the folder, in Unicode NFC, image_uri the absolute one as it is.
    Raises ManifestError: no photos, a target of no known format, or local photos for a remote target.
    """
    source, alone = _source(uri)
    parent, name = uris.parent(uris.canonical(target))
    format = SUFFIXES.get(PurePosixPath(name).suffix.lower())
    if format is None:
        raise ManifestError(f"{name} is no manifest's name", "end it in .parquet, .csv or .jsonl")
    if source.is_local and not uris.is_local(target):
        raise ManifestError(
            "a remote manifest may not name local photos", "write the manifest to a local file"
        )
    rules = PhotoRules(glob, exclude, system=system)
    listing = PhotoListing(source, rules, roots)
    found = Scan(links=listing.links, left_out=listing.left_out)
    with tempfile.TemporaryDirectory(prefix="frpipe-scan-") as scratch:
        names = Path(scratch) / "names"
        _spool(_listed(source, listing, rules, found, alone or shards), names, found)
        if not found.photos:
            raise _nothing(source, listing)
        whose = _people_rule(subject_from, found)
        subjects: set[str] = set()
        finished = Path(scratch) / "manifest"
        schema = _schema(by_folder=whose is not None)
        write_manifest(finished, format, schema, _rows(source, names, schema, whose or _nobody, subjects))
        Folder.at(parent).publish(name, finished)
        found.subjects = None if whose is None else len(subjects)
    return found


def _nothing(source: Folder, listing: PhotoListing) -> ManifestError:
    if outside := len(listing.links.outside):
        return ManifestError(
            f"no photos in {source.uri}, but {counted(outside, 'links')} out of it",
            "allow by --root where they may lead",
        )
    seen = "; ".join(listing.left_out.lines("--system"))
    return ManifestError(
        f"no photos in {source.uri}{seen and f' ({seen})'}", "check the path, and --glob and --exclude"
    )


def _source(uri: str) -> tuple[Folder, str | None]:
    """Find the folder to scan, and the shard that is all there is to it; None: it is a folder."""
    parent, name = uris.parent(uris.canonical(uri))
    if is_shard(name) and Folder.at(parent).exists(name):
        return Folder.at(parent), name
    return Folder.at(uri), None


def _listed(
    source: Folder, listing: PhotoListing, rules: PhotoRules, found: Scan, shards: str | bool | None
) -> Iterator[tuple[str, str | None]]:
    """Iterate over photos that a manifest may hold, each with the person whom a file beside it names.

    shards: the only one, or whether to look into those of the folder; None: only where there are no others.
    """
    if not isinstance(shards, str):
        for name in listing.names():
            if may_be_listed(name, source.is_local):
                yield name, None
            else:
                found.unreadable_names += 1
    if shards is False or (shards is None and found.photos):
        return
    for shard in [shards] if isinstance(shards, str) else listing.left_out.take_shards():
        if not (rules.matches(shard) or isinstance(shards, str)):
            listing.left_out.not_in_glob += 1
            continue
        found.shards += 1
        try:
            for photo in photos_in(source, shard, rules, listing.left_out):
                if is_one_line(photo.member) and may_be_listed(shard, source.is_local):
                    yield str(ShardRef(shard, photo.member)), photo.subject
                else:
                    found.unreadable_names += 1
        except ShardFault as fault:
            found.damaged[shard] = str(fault)


def _spool(photos: Iterable[tuple[str, str | None]], names: Path, found: Scan) -> None:
    """Write the photos' names to a file: whether their folders are persons shows only at the end."""
    ordered, last = True, ""
    with names.open("w", encoding="utf-8") as file:
        for name, person in photos:
            file.write(f"{name}\0{person or ''}\n")
            place = _place(name)
            ordered, last = ordered and last <= place, place
            found.photos += 1
            found.named += person is not None
            found.suffixes[PurePosixPath(name).suffix.lower()] += 1
            found.depths[_path(name).count("/")] += 1
    if not ordered:
        lines = names.read_text("utf-8").rstrip("\n").split("\n")
        names.write_text("\n".join(sorted(lines, key=_place)) + "\n", "utf-8")


def _place(line: str) -> str:
    """The key that rows are sorted by: members of a shard keep its order, in which it is read."""
    name = line.partition("\0")[0]
    shard = ShardRef.parse(name)
    return shard.file if shard else name


def _path(name: str) -> str:
    """The path of a photo below the scanned folder, or in its shard."""
    shard = ShardRef.parse(name)
    return shard.member if shard else name


def _people_rule(subject_from: SubjectFrom, found: Scan) -> _People | None:
    """Choose the rule that names a photo's person by its path and a file beside it; None: nobody is known."""
    if subject_from == "auto" and found.named:
        return lambda _, person: person
    by_folder = subject_from == "folder" or (subject_from == "auto" and set(found.depths) == {1})
    return (lambda name, _: PurePosixPath(_path(name)).parent.name or None) if by_folder else None


def _nobody(_: str, __: str | None) -> None:
    return None


def _rows(
    source: Folder, names: Path, schema: pa.Schema, whose: _People, subjects: set[str]
) -> Iterator[pa.RecordBatch]:
    base = source.uri.rstrip("/")
    with names.open(encoding="utf-8", newline="\n") as file:
        while batch := [line[:-1].split("\0") for _, line in zip(range(_BATCH_ROWS), file, strict=False)]:
            ids = [canonical_text(name) for name, _ in batch]
            people = [whose(id, canonical_text(own) or None) for id, (_, own) in zip(ids, batch, strict=True)]
            subjects.update(person for person in people if person)
            columns = [ids, [f"{base}/{name}" for name, _ in batch], people][: len(schema)]
            yield pa.record_batch([pa.array(column, pa.string()) for column in columns], schema=schema)


def _schema(by_folder: bool) -> pa.Schema:
    return pa.schema([pa.field(name, pa.string()) for name in (ID, URI, *([SUBJECT] if by_folder else []))])
