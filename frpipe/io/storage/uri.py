"""Read URIs: a scheme, then a path that is taken as written (no percent decoding).

A text without `scheme://` is a local path. `file://` and `local://` are local paths too.
"""

from __future__ import annotations

import os
from pathlib import Path

from frpipe.core.errors import StorageError

LOCAL = frozenset({"", "file", "local"})
# Stores whose PUT shows a whole object or none, and whose host is set by the operator, never by a URI.
OBJECT_STORES = frozenset({"s3", "gs", "az", "abfs", "abfss", "adl", "oss", "oci", "tos", "hf", "memory"})
# Stores on which exclusive creation, which commits rest on, has been tried.
WRITABLE = frozenset({"s3", "memory"})
WEB = frozenset({"http", "https"})
_ALIASES = {"s3a": "s3", "gcs": "gs"}


def split(uri: str) -> tuple[str, str]:
    """Split a URI: `s3a://bucket/key` -> ("s3", "bucket/key"); a local path -> ("", path)."""
    scheme, mark, rest = uri.partition("://")
    if not mark:
        return "", uri
    scheme = scheme.lower()
    scheme = _ALIASES.get(scheme, scheme)
    return ("", rest) if scheme in LOCAL else (scheme, rest)


def canonical(uri: str) -> str:
    """Spell a URI in its one canonical form: absolute for local paths, no slash at the end."""
    if not uri.strip():
        raise StorageError("the path is empty", "name a folder or a file")
    scheme, rest = split(uri)
    if not scheme:
        return os.path.normpath(Path(rest).absolute())
    return f"{scheme}://{rest.rstrip('/')}"


def is_local(uri: str) -> bool:
    """Whether a URI is a path on this machine."""
    return not split(uri)[0]


def is_web(uri: str) -> bool:
    """Whether a URI is of http or https."""
    return split(uri)[0] in WEB


def parent(uri: str) -> tuple[str, str]:
    """Split a file's canonical URI into (folder, name)."""
    folder, _, name = uri.rpartition("/")
    return folder or "/", name


def inside(location: str, root: str) -> bool:
    """Whether a canonical location is a canonical root or lies below it, on whole path segments."""
    return location == root or location.startswith(root if root.endswith("/") else root + "/")
