"""What tells one manifest from another: where it lies, and the names, sizes and digests of its files.

The place counts because relative paths of photos are relative to it.
"""

from __future__ import annotations

import hashlib
from typing import Any

from frpipe.core.config import canonical_hash
from frpipe.io.manifest.manifest import Manifest
from frpipe.io.storage.folder import Entry, Folder

# A file up to this size is hashed whole: below a second on one core. Of a larger one both ends and the
# version (ETag, or time of change) count: the footer of a Parquet file is at its end.
_WHOLE_BYTES = 64 << 20
_END_BYTES = 1 << 20


def fingerprint(manifest: Manifest) -> tuple[str, list[dict[str, Any]]]:
    """SHA-256, in hex, over all files, and what went into it for each."""
    files = [_of_file(manifest.folder, entry) for entry in manifest.files]
    return canonical_hash({"folder": manifest.folder.uri, "files": files}), files


def _of_file(folder: Folder, entry: Entry) -> dict[str, Any]:
    digest = hashlib.sha256()
    whole = entry.bytes <= _WHOLE_BYTES
    with folder.open(entry.name) as file:
        if whole:
            while data := file.read(_END_BYTES):
                digest.update(data)
        else:
            digest.update(file.read(_END_BYTES))
            file.seek(entry.bytes - _END_BYTES)
            digest.update(file.read(_END_BYTES))
    found: dict[str, Any] = {"name": entry.name, "bytes": entry.bytes, "sha256": digest.hexdigest()}
    return found if whole else {**found, "hashed": "ends", "version": entry.version}
