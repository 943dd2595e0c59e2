"""List the photos below a folder or prefix, and follow or leave out the links among them.

A link that leads to a place inside the folder is followed, unless that place is listed anyway: each file is
listed once, under its own path, or else under that of the first link to it. One that leads out of the folder
is followed only where configured roots hold what it leads to: whoever may put files into a folder of photos
could else have any file of the machine read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from frpipe.io.manifest.photo_rules import Cause, LeftOut, PhotoRules, are_plain, may_be_listed
from frpipe.io.manifest.roots import Roots
from frpipe.io.storage import uri as uris
from frpipe.io.storage.failure import Explained
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.listed import NAME, in_blocks

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
        """Count the paths that are, or lie below, a link that leads out."""
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
    """The photos below a folder that its rules take.

    roots: where links may lead out to.  links and left_out are filled while the listing is read, and
    unreadable: by `blocks`, photos whose names no manifest can hold.
    """

    def __init__(self, folder: Folder, rules: PhotoRules | None = None, roots: tuple[str, ...] = ()) -> None:
        self.links = FolderLinks()
        self.left_out = LeftOut()
        self.unreadable = 0
        self._folder = folder
        self._rules = rules or PhotoRules()
        self._roots = Roots(roots)
        self._last: tuple[Cause, str] | None = None

    def names(self) -> Iterator[str]:
        """Iterate over paths relative to the folder, mostly sorted; nothing is held but links."""
        if not self._folder.is_local:
            names = (name for block in self._folder.walk_blocks() for name in block[NAME].to_pylist())
            yield from filter(self._takes, names)
            return
        with Explained(self._folder.uri):
            yield from filter(self._matching, self._walked())

    def blocks(self, guesses: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Iterate over photos that a manifest may hold, as blocks of `LISTED`, mostly sorted by path.

        guesses: as of `Folder.walk_blocks`.  Nothing is held but links.
        """
        if self._folder.is_local:
            yield from in_blocks(self._stated())
            return
        for block in self._folder.walk_blocks(guesses):
            yield block if (takes := self._taken(block[NAME])) is None else block.filter(takes)

    def _stated(self) -> Iterator[tuple[str, int, str]]:
        """Iterate over photos of a local disk, with size and version; those that are gone by then are not."""
        root = uris.split(self._folder.uri)[1]
        with Explained(self._folder.uri):
            for name in self.names():
                if not may_be_listed(name, is_local=True):
                    self.unreadable += 1
                    continue
                try:
                    found = os.stat(f"{root}/{name}")  # noqa: PTH116 - a Path takes longer than all the rest
                except FileNotFoundError:
                    continue
                yield name, found.st_size, str(found.st_mtime_ns)

    def _taken(self, names: pa.ChunkedArray) -> pa.Array | None:
        """(rows,) bool: photos that are taken; None: all are. Of the plain ones none is looked at alone."""
        plain = are_plain(names).to_numpy()
        asked = np.ones_like(plain) if self._rules.has_patterns else ~plain
        if not asked.any():
            return None
        takes, rows = ~asked, np.flatnonzero(asked)
        for row, name in zip(rows.tolist(), names.take(pa.array(rows)).to_pylist(), strict=True):
            is_ours = plain[row] and not self._rules.excludes
            takes[row] = self._matching(name) if is_ours else self._takes_listable(name)
        return pa.array(takes)

    def _takes_listable(self, name: str) -> bool:
        """Whether the rules take a file of a store, and a manifest may hold its name."""
        if not self._takes(name):
            return False
        is_listable = may_be_listed(name, is_local=False)
        self.unreadable += not is_listable
        return is_listable

    def _walked(self) -> Iterator[str]:
        root = uris.split(self._folder.uri)[1]
        return _Walk(root, self._rules, self._roots, self.links, self.left_out).names()

    def _takes(self, name: str) -> bool:
        """Whether the rules take a file of a store, which lists those of a folder in a row."""
        left_out = self._rules.first(name)
        if left_out is None:
            return self._matching(name)
        if left_out != self._last:
            self._last = left_out
            self.left_out.add(*left_out)
        return False

    def _matching(self, name: str) -> bool:
        matches = self._rules.matches(name)
        if not matches:
            self.left_out.add(Cause.NOT_IN_GLOB, name)
        return matches


class _Walk:
    """The walk over one folder of a local disk."""

    def __init__(
        self, root: str, rules: PhotoRules, roots: Roots, links: FolderLinks, left_out: LeftOut
    ) -> None:
        self._root = root
        self._real = os.path.realpath(root)
        self._rules = rules
        self._roots = roots
        self._links = links
        self._left_out = left_out
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
            keyed = sorted((f"{e.name}/" if _is_folder(e) else e.name, e) for e in found)
        for key, entry in keyed:
            name, is_folder = prefix + entry.name, key.endswith("/")
            cause = self._rules.of_folder(name) if is_folder else self._rules.of_file(name)
            if entry.is_symlink() and cause in (None, Cause.NO_PHOTO):
                yield from self._linked(entry.path, prefix + key, cause)
            elif cause:
                self._left_out.add(cause, name)
            elif is_folder:
                yield from self._below(entry.path, prefix + key, by_link=by_link)
            elif not entry.is_file():
                self._left_out.special += 1
            elif not (by_link and self._listed(entry.path, name)):
                yield name

    def _linked(self, path: str, name: str, cause: Cause | None) -> Iterator[str]:
        is_folder = name.endswith("/")
        try:
            real = os.path.realpath(path, strict=True)
        except OSError:
            self._links.broken.append(name)
            return
        if cause:
            self._left_out.add(cause, name, is_link=True)
        elif not (uris.inside(real, self._real) or self._roots.holds(real)):
            self._links.outside.append(name.rstrip("/"))
        elif is_folder:
            if real in self._folders or self._is_walked(real, is_folder=True):
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
        if real in self._files or self._is_walked(real, is_folder=False):
            self._links.repeated.append(name)
            return True
        self._files.add(real)
        return False

    def _is_walked(self, real: str, *, is_folder: bool) -> bool:
        """Whether a real path is reached without links: inside, and no part of it is left out."""
        if not uris.inside(real, self._real):
            return False
        inside = real[len(self._real) :].lstrip("/")
        return not inside or self._rules.first(inside, is_folder=is_folder) is None


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
