"""A list that a data set comes with: its lines, and what tells one copy from another."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from frpipe.core.errors import ManifestError
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder

_SHOWN = 5


_NUMBERED = re.compile(r"(.+)_(\d{1,4})")


@dataclass(frozen=True, slots=True)
class Source:
    """A list.

    name: of the file, without its folder.  lines: numbers from 1 with their text, blank ones left out.
    """

    name: str
    bytes: int
    sha256: str
    lines: tuple[tuple[int, str], ...]

    @classmethod
    def read(cls, uri: str) -> Source:
        """Read a UTF-8 text, local or remote. Raises ManifestError: it is not there, or is no such text."""
        folder, name = uris.parent(uris.canonical(uri))
        try:
            data = Folder.at(folder).read(name)
            text = data.decode("utf-8-sig")
        except FileNotFoundError:
            raise ManifestError(f"there is no list {uri}", "check the path") from None
        except UnicodeDecodeError:
            raise ManifestError(f"{name} is no UTF-8 text", "save it as UTF-8") from None
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if not lines:
            raise ManifestError(f"{name} is empty", "check the path")
        return cls(name, len(data), hashlib.sha256(data).hexdigest(), tuple(lines))

    @property
    def text(self) -> str:
        """The lines as one text."""
        return "\n".join(line for _, line in self.lines)

    def as_dict(self) -> dict[str, Any]:
        """The file's name, size and hash, as plain data."""
        return {"name": self.name, "bytes": self.bytes, "sha256": self.sha256}

    def refuse(self, bad: Sequence[int], what: str, remedy: str) -> None:
        """Raise ManifestError where there are bad lines, with their numbers and never their text."""
        if bad:
            raise ManifestError(f"{self.name}: {what}: {numbered('line', bad)}", remedy)


def numbered(noun: str, numbers: Sequence[int]) -> str:
    """Number a noun: `line 4`, or `lines 4, 9 and 7 more`."""
    shown = ", ".join(f"{number:,}" for number in numbers[:_SHOWN])
    more = f" and {len(numbers) - _SHOWN:,} more" if len(numbers) > _SHOWN else ""
    return f"{noun}{'s' * (len(numbers) > 1)} {shown}{more}"


class PhotoName(NamedTuple):
    """A photo of a data set: `number`, from 1, of a person: `Person/Person_0001.jpg`."""

    subject: str
    number: int

    @classmethod
    def of_path(cls, path: str) -> PhotoName | None:
        """Parse `Person/Person_0001.jpg`, with any folders and suffix; None for a name of another form."""
        found = _NUMBERED.fullmatch(PurePosixPath(path).stem)
        return cls(found[1], int(found[2])) if found and int(found[2]) else None

    @property
    def stem(self) -> str:
        """The file's name without the suffix."""
        return f"{self.subject}_{self.number:04d}"

    @property
    def published_name(self) -> str:
        """The photo's path in the data set as published."""
        return f"{self.subject}/{self.stem}.jpg"


class ListedPair(NamedTuple):
    """A pair of a list.

    source, line: where it is listed (its second side, where each has a line of its own).
    """

    a: PhotoName
    b: PhotoName
    fold: str
    line: int
    source: Source

    @property
    def mated(self) -> bool:
        """Whether both sides are one person, by their names."""
        return self.a.subject == self.b.subject
