"""Roots: rules that say which photos may be read, so that a manifest cannot name just any file."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from frpipe.core.errors import ConfigError
from frpipe.io.manifest.row_faults import BadRow, RowFault
from frpipe.io.manifest.shard_ref import ShardRef
from frpipe.io.storage import uri as uris

# Of a path that is resolved folder by folder, each remembered.
_MOST_FOLDERS = 100


class Roots:
    """Folders and prefixes from which photos may be read; none at all means no bound.

    roots: absolute local paths or URIs. Raises ConfigError for a relative root, or one that holds `..`.
    remember: resolve the links of each folder once, for millions of rows; else anew for each photo.
    """

    def __init__(self, roots: tuple[str, ...], remember: bool = False) -> None:
        named = [_checked(root) for root in roots if uris.is_local(root)]
        self._named = tuple((root, os.path.realpath(root)) for root in named)
        self._local = tuple(real for _, real in self._named)
        self.remote = tuple(_checked(root) for root in roots if not uris.is_local(root))
        self._real_folder = lru_cache(maxsize=1 << 16)(self._by_parent) if remember else os.path.realpath

    def __bool__(self) -> bool:
        return bool(self._local or self.remote)

    def holds(self, location: str) -> bool:
        """Whether a resolved location lies in one of the roots, links of local paths followed."""
        if not uris.is_local(location):
            return any(uris.inside(location, root) for root in self.remote)
        if not self._local:
            return False
        return self.hold_real(self.real(location))

    def hold_real(self, path: str) -> bool:
        """Whether a local path without links lies in one of the roots."""
        return any(uris.inside(path, root) for root in self._local)

    def is_linked(self, location: str) -> bool:
        """Whether a local path that one of the roots names is reached only by a link below it."""
        places = [
            os.path.normpath(real + location[len(root) :])
            for root, real in self._named
            if uris.inside(location, root)
        ]
        return self.real(location) not in places

    def allows(self, location: str) -> bool:
        """Whether a resolved location may be read.

        Inside the roots, or without roots of a kind that needs none.
        """
        return self.holds(location) if self else not needs_root(location)

    def real(self, path: str) -> str:
        """The real path, as `os.path.realpath` gives it.

        The folder's part is remembered, so a photo costs one lstat.
        """
        folder, _, name = path.rpartition("/")
        joined = f"{str(self._real_folder(folder or '/')).rstrip('/')}/{name}"
        try:
            linked = stat.S_ISLNK(os.lstat(joined).st_mode)
        except OSError:
            return joined
        return os.path.realpath(joined) if linked else joined

    def _by_parent(self, folder: str) -> str:
        """The real path of a folder, from the remembered one of its parent."""
        deep = folder.count("/") > _MOST_FOLDERS
        return os.path.realpath(folder) if deep or folder == "/" else self.real(folder)


def needs_root(location: str) -> bool:
    """Whether a location is of a scheme whose host the manifest chooses: http, ftp and the like."""
    scheme, _ = uris.split(location)
    return _is_foreign(scheme)


def _is_foreign(scheme: str) -> bool:
    return bool(scheme) and scheme not in uris.OBJECT_STORES


_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_HALF_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/|data:", re.IGNORECASE)
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")


# The location of a row whose address is none: why, behind this. No other location begins so.
BAD = "bad+"


def misread(image_uri: str, rest: str, folder: str) -> str:
    """The reason why an address without a scheme is none that is read here; an empty text where it is one.

    rest: its path, as `split` gives it.  folder: what relative paths start from.
    """
    if not (":" in image_uri or "\\" in image_uri or image_uri.startswith("~")):
        return ""
    why = ""
    if image_uri.startswith("~") and not _is_there(folder, image_uri):
        why = "~ is not replaced by a home folder: write the whole path"
    elif _DRIVE.match(image_uri):
        why = "a path of Windows: write it as this machine sees it"
    elif rest == image_uri and _HALF_URI.match(image_uri):
        why = "a scheme without //: write a plain path, or SCHEME:// and a path"
    elif rest != image_uri and _ENCODED.search(rest) and not os.path.lexists(rest):
        why = "percent-encoded, which is taken as written: write a plain path"
    elif "\\" in rest and uris.is_local(folder) and not _is_there(folder, rest):
        why = "backslashes between folders: write slashes"
    return why


def _is_there(folder: str, path: str) -> bool:
    return uris.is_local(folder) and os.path.lexists(Path(folder, path))


class Resolver:
    """Turn the address of a photo in a manifest into the absolute location that a worker reads.

    manifest_folder: canonical URI of the folder that relative paths start from.
    count_links: also count in `linked` the local photos that are reached by links inside the bounds, and in
    `unbounded` those that nothing bounds: absolute paths where there are no roots.  misread: counts of
    addresses that are none, by why.
    """

    def __init__(self, manifest_folder: str, roots: tuple[str, ...], *, count_links: bool = False) -> None:
        self.linked = self.unbounded = 0
        self.misread: Counter[str] = Counter()
        self._counts = count_links
        self._folder = manifest_folder
        self._local = uris.is_local(manifest_folder)
        self._roots = Roots(roots, remember=True)
        self._bounds = self._roots or Roots((manifest_folder,), remember=True)

    def resolve(self, image_uri: str) -> str:
        """Resolve an address to an absolute local path or a canonical URI.

        What names a member of a shard is no path: the rules are for the shard. An address that is none
        becomes `BAD` and the reason: the row is rejected when its photo is to be read.
        Raises BadRow with the rule that was broken.
        """
        if shard := ShardRef.parse(image_uri):
            location = self.resolve(shard.file)
            return location if location.startswith(BAD) else str(ShardRef(location, shard.member))
        if not image_uri or image_uri.isspace():
            raise BadRow(RowFault.NO_URI)
        # Once for a row: of many rows most of the time goes here.
        scheme, rest = uris.split(image_uri)
        if not scheme and (why := misread(image_uri, rest, self._folder)):
            self.misread[why] += 1
            return BAD + why
        if not rest or "\0" in rest or ("::" in image_uri and "://" in image_uri):
            raise BadRow(RowFault.BAD_PATH)
        if ".." in rest or "%" in rest:
            refuse_parent(scheme, rest)
        if scheme:
            return self._remote(scheme, rest)
        if rest.startswith("/"):
            return self._absolute(os.path.normpath(rest))
        return self._relative(rest)

    def _remote(self, scheme: str, rest: str) -> str:
        location = f"{scheme}://{rest}"
        if self._roots:
            if not self._roots.holds(location):
                raise BadRow(RowFault.OUTSIDE_ROOTS)
        elif _is_foreign(scheme):
            raise BadRow(RowFault.SCHEME)
        return location

    def _absolute(self, path: str) -> str:
        if not self._local:
            raise BadRow(RowFault.LOCAL_FROM_REMOTE)
        if not self._roots:
            self.unbounded += 1
        elif not self._roots.holds(path):
            raise BadRow(RowFault.OUTSIDE_ROOTS)
        else:
            self._count(path)
        return path

    def _relative(self, path: str) -> str:
        location = f"{self._folder.rstrip('/')}/{os.path.normpath(path)}"
        if not self._bounds.holds(location):
            raise BadRow(RowFault.OUTSIDE_ROOTS if self._roots else RowFault.LEAVES_FOLDER)
        self._count(location)
        return location

    def _count(self, location: str) -> None:
        if self._counts and uris.is_local(location):
            self.linked += self._bounds.is_linked(location)


def folder_of(image_uri: str | None, location: str) -> str | None:
    """The manifest's folder for a photo named by a relative local path; else None."""
    if not image_uri or uris.split(image_uri)[0] or not location.startswith("/"):
        return None
    if (named := ShardRef.parse(image_uri)) and (shard := ShardRef.parse(location)):
        image_uri, location = named.file, shard.file
    path = os.path.normpath(uris.split(image_uri)[1])
    return location[: -len(path) - 1] or "/" if location.endswith(f"/{path}") else None


def refuse_parent(scheme: str, rest: str) -> None:
    """Raise BadRow where the path of a URI has `..`, in any spelling that a server takes for it."""
    if scheme in uris.WEB:
        # A web server decodes `%2e%2e` and may read a backslash as a slash.
        rest = unquote(unquote(rest)).replace("\\", "/")
    if ".." in rest.split("/"):
        raise BadRow(RowFault.PARENT)


def _checked(root: str) -> str:
    scheme, rest = uris.split(root)
    if ".." in rest.split("/"):
        raise ConfigError("storage.roots holds a path with '..'", "write it without")
    if not scheme and not rest.startswith("/"):
        raise ConfigError(
            "storage.roots holds a relative path", "write absolute paths or URIs: workers differ"
        )
    if scheme and not rest.strip("/"):
        raise ConfigError(f"storage.roots holds {scheme}:// without a host or bucket", "name at least that")
    if scheme in uris.WEB:
        _refuse_bad_port(root)
    return uris.canonical(root)


def _refuse_bad_port(root: str) -> None:
    try:
        _ = urlsplit(root).port
    except ValueError:
        raise ConfigError(
            f"storage.roots holds {root}, which is no web address", "check its host and port"
        ) from None
