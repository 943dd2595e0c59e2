"""Count faults of manifest rows by kind. Rows are named by number, never by value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from frpipe.core.errors import ManifestError

_SHOWN = 5


class RowFault(Enum):
    """A kind of fault: (what to say of the rows, what to do about it)."""

    NO_URI = ("without image_uri", "give each row the path or URI of its photo")
    NO_ID = ("without image_id", "give each row an id, or leave the column out to use image_uri")
    DUPLICATE_ID = (
        "with the image_id of an earlier row",
        "make image_id unique, or remove the repeated rows",
    )
    OTHER_FORM = (
        "with the image_id of an earlier row in another Unicode form, which looks the same",
        "keep one of the two, or rename one: ids are compared after Unicode NFC",
    )
    BAD_PATH = (
        "with an image_uri that is no path",
        "write a path or a URI without NUL bytes and '::' chains",
    )
    PARENT = ("with '..' in image_uri", "write the path without '..'")
    LEAVES_FOLDER = (
        "with a relative image_uri that leads out of the manifest's folder",
        "move the manifest, write absolute paths, or set storage.roots",
    )
    LOCAL_FROM_REMOTE = (
        "with a local path in a remote manifest",
        "write URIs, or read the manifest from a local path",
    )
    SCHEME = (
        "with an image_uri of a scheme that is read only from storage.roots",
        "set storage.roots to the folder or prefix that holds the photos",
    )
    OUTSIDE_ROOTS = (
        "with an image_uri outside storage.roots",
        "add the folder or prefix to storage.roots, or remove the rows",
    )


class BadRow(Exception):
    """Raised while one row is looked at; never leaves the check."""

    def __init__(self, fault: RowFault) -> None:
        super().__init__(fault)
        self.fault = fault


@dataclass(slots=True)
class _Count:
    rows: int = 0
    first: list[tuple[tuple[int, int], tuple[int, int] | None]] = field(default_factory=list)


class RowTally:
    """Counts of faulty rows. A place is (number of the file in the manifest, row in it from 1)."""

    def __init__(self, files: Sequence[str]) -> None:
        self._files = files
        self._counts: dict[RowFault, _Count] = {}
        self._capped = False

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, fault: RowFault, file: int, row: int, like: tuple[int, int] | None = None) -> None:
        """Count a faulty row. like: the place of an earlier row that it conflicts with."""
        count = self._counts.setdefault(fault, _Count())
        count.rows += 1
        if len(count.first) < _SHOWN:
            count.first.append(((file, row), like))

    def cap(self) -> None:
        """Note that there are more than were counted."""
        self._capped = True

    def raise_if_any(self) -> None:
        """Raise ManifestError with the number of bad rows of each kind and the first few places."""
        if not self._counts:
            return
        kinds = sorted(self._counts, key=lambda kind: -self._counts[kind].rows)
        raise ManifestError("; ".join(map(self._line, kinds)), kinds[0].value[1])

    def _line(self, fault: RowFault) -> str:
        count = self._counts[fault]
        repeats = fault in (RowFault.DUPLICATE_ID, RowFault.OTHER_FORM)
        least = "at least " if self._capped and repeats else ""
        more = ", ..." if count.rows > len(count.first) else ""
        places = ", ".join(
            self._place(*place) + (f" as {self._place(*like)}" if like else "") for place, like in count.first
        )
        return f"{least}{count.rows:,} row{'s' * (count.rows > 1)} {fault.value[0]} (row {places}{more})"

    def _place(self, file: int, row: int) -> str:
        return f"{row}" if len(self._files) == 1 else f"{row} of {self._files[file]}"
