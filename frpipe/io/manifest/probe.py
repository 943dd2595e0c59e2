"""Open a sample of the photos of a manifest, to see how many are there and can be read."""

from __future__ import annotations

import zlib
from collections import Counter

import pyarrow as pa

from frpipe.core.config import Config
from frpipe.core.reasons import Reject
from frpipe.io.manifest.columns import ID, LOCATION, URI
from frpipe.io.manifest.fetch import Fetcher
from frpipe.io.manifest.roots import folder_of
from frpipe.io.manifest.row_ref import RowRef
from frpipe.vision.decode import check_size
from frpipe.vision.header import read_header

_AT_ONCE = 16
READABLE = "readable"


class Probe:
    """A sample: the photos whose ids have the least checksums, in whatever order they are listed."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._chosen: list[tuple[int, str, str | None]] = []

    def add(self, table: pa.Table) -> None:
        """Choose among more rows of a plan."""
        if not self._size:
            return
        columns = (table[name].to_pylist() for name in (ID, LOCATION, URI))
        self._chosen += [
            (zlib.crc32(id.encode()), place, uri) for id, place, uri in zip(*columns, strict=True)
        ]
        self._chosen = sorted(self._chosen, key=lambda each: each[0])[: self._size]

    def look(self, config: Config) -> Counter[str]:
        """Read the chosen photos and their headers; count those readable, and why others are not.

        Raises StorageError where an object store cannot be reached at all.
        """
        locations = sorted((place for _, place, _ in self._chosen), key=_in_files)
        uris = {place: uri for _, place, uri in self._chosen}
        folders = [folder_of(uris[place], place) for place in locations]
        found = Fetcher.of(config).arrivals(locations, _AT_ONCE, _AT_ONCE, folders)
        return Counter(_judged(photo, config) for _, photo in found)


def _in_files(place: str) -> tuple[str, int]:
    """Sort key: rows of a file in their order, so that it is read once."""
    ref = RowRef.parse(place)
    return (ref.file, ref.row) if ref else (place, 0)


def _judged(photo: bytes | Reject, config: Config) -> str:
    if isinstance(photo, Reject):
        return photo.reason
    if config.decode.plugins:
        return READABLE
    try:
        header = read_header(photo)
        check_size(header.width, header.height, config.decode)
    except Reject as why:
        return why.reason
    return READABLE
