"""The photos below a folder or prefix, and what became of the links among them.

A link that leads to a place inside the folder is followed, unless that place is listed anyway: each file is
listed once, under its own path, or else under that of the first link to it. One that leads out of the folder
is followed only where configured roots hold what it leads to: whoever may put files into a folder of photos
could else have any file of the machine read.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from frpipe.io.manifest.roots import Roots
from frpipe.io.storage import uri as uris
from frpipe.io.storage.failure import explained
from frpipe.io.storage.folder import Entry, Folder

_NAMES = "jpg jpeg jpe jfif png webp bmp dib tif tiff gif heic heif avif jp2 j2k jxl ppm pgm pnm"
IMAGE_SUFFIXES = frozenset(f".{name}" for name in _NAMES.split())
_SHOWN = 5


@dataclass(slots=True)
class FolderLinks:
    """Links below a folder, to files and folders.

    followed: how many.  The others by their paths: those that lead out of the folder and of all roots, those
    whose target is listed already, those that lead to no file or folder.
    """

    followed: int = 0
    outside: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.followed or self.outside or self.repeated or self.broken)

    def facts(self) -> dict[str, int]:
        """Counts of the links, for a report."""
        return {
            "links_followed": self.followed,
            "links_outside": len(self.outside),
            "links_repeated": len(self.repeated),
            "links_broken": len(self.broken),
        }

    def behind(self, names: Sequence[str]) -> int:
        """How many of the paths are, or lie below, a link that leads out."""
        closed = set(self.outside)
        return (
            sum(any(str(part) in closed for part in _with_parents(name)) for name in names) if closed else 0
        )

    def lines(self, allow: str, *, named: bool) -> list[str]:
        """Lines about the links.

        allow: what lets links that lead out be followed.  named: with the first paths.
        """
        lines = [f"{_links(self.followed)} followed"] if self.followed else []
        kinds = (
            (self.outside, f"lead out of the folder ({allow} says where they may lead)"),
            (self.repeated, "lead to what is listed already"),
            (self.broken, "lead to no file"),
        )
        for paths, why in kinds:
            if paths:
                lines.append(
                    f"{_links(len(paths))} not followed: {why}{f': {_some(paths)}' if named else ''}"
                )
        return lines


class PhotoListing:
    """The photos below a folder, known by their suffix; hidden files and folders are left out.

    glob: keep only paths that match, relative to the folder.  roots: where links may lead out to.  links is
    filled while the listing is read.
    """

    def __init__(self, folder: Folder, glob: str | None = None, roots: tuple[str, ...] = ()) -> None:
        self.links = FolderLinks()
        self._folder = folder
        self._glob = glob
        self._roots = Roots(roots)

    def names(self) -> Iterator[str]:
        """Paths relative to the folder, mostly sorted; nothing is held but links."""
        if not self._folder.is_local:
            yield from filter(self._wanted, self._folder.walk())
            return
        walk = _Walk(uris.split(self._folder.uri)[1], self._roots, self.links)
        with explained(self._folder.uri):
            yield from filter(self._wanted, walk.names())

    def entries(self) -> list[Entry]:
        """The photos with size and version, sorted by path."""
        if not self._folder.is_local:
            return [entry for entry in self._folder.list() if self._wanted(entry.name)]
        return sorted(entry for name in self.names() if (entry := self._entry(name)) is not None)

    def _entry(self, name: str) -> Entry | None:
        try:
            return self._folder.entry(name)
        except FileNotFoundError:
            return None

    def _wanted(self, name: str) -> bool:
        return _is_photo(name) and (self._glob is None or fnmatch.fnmatchcase(name, self._glob))


class _Walk:
    """The walk over one folder of a local disk."""

    def __init__(self, root: str, roots: Roots, links: FolderLinks) -> None:
        self._root = root
        self._real = os.path.realpath(root)
        self._roots = roots
        self._links = links
        # Real paths that were reached by links; what is reached without is known by its path.
        self._folders: set[str] = set()
        self._files: set[str] = set()

    def names(self) -> Iterator[str]:
        if Path(self._root).is_dir():
            yield from self._below(self._root, "", by_link=False)

    def _below(self, folder: str, prefix: str, *, by_link: bool) -> Iterator[str]:
        if by_link:
            real = os.path.realpath(folder)
            if real in self._folders:
                return
            self._folders.add(real)
        with os.scandir(folder) as found:
            visible = [entry for entry in found if not entry.name.startswith(".")]
        keyed = sorted((f"{e.name}/" if _is_folder(e) else e.name, e) for e in visible)
        for key, entry in keyed:
            name = prefix + key
            if entry.is_symlink():
                yield from self._linked(entry.path, name)
            elif key.endswith("/"):
                yield from self._below(entry.path, name, by_link=by_link)
            elif entry.is_file() and _is_photo(name) and not (by_link and self._listed(entry.path, name)):
                yield name

    def _linked(self, path: str, name: str) -> Iterator[str]:
        is_folder = name.endswith("/")
        if not is_folder and not _is_photo(name):
            return
        try:
            real = os.path.realpath(path, strict=True)
        except OSError:
            self._links.broken.append(name)
            return
        if not (uris.inside(real, self._real) or self._roots.holds(real)):
            self._links.outside.append(name.rstrip("/"))
        elif is_folder:
            if real in self._folders or self._is_walked(real):
                self._links.repeated.append(name.rstrip("/"))
            else:
                self._links.followed += 1
                yield from self._below(path, name, by_link=True)
        elif not Path(real).is_file():
            self._links.broken.append(name)
        elif not self._listed(real, name):
            self._links.followed += 1
            yield name

    def _listed(self, path: str, name: str) -> bool:
        """Whether a file is listed under another path, or was by a link; if not, it is from now on."""
        real = os.path.realpath(path)
        if real in self._files or (self._is_walked(real) and _is_photo(real)):
            self._links.repeated.append(name)
            return True
        self._files.add(real)
        return False

    def _is_walked(self, real: str) -> bool:
        """Whether a real path is reached without links: inside, and no part of it is hidden."""
        inside = uris.inside(real, self._real)
        return inside and not any(part.startswith(".") for part in self._relative(real).split("/"))

    def _relative(self, real: str) -> str:
        return real[len(self._real) :].lstrip("/")


def _is_photo(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether a path is a folder, links to folders included; a link that leads in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _with_parents(name: str) -> Iterator[PurePosixPath]:
    path = PurePosixPath(name)
    yield path
    yield from path.parents


def _links(count: int) -> str:
    return f"{count:,} link{'s' * (count != 1)}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
