"""A list that a data set comes with: its lines, and what tells it from another copy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from frpipe.core.errors import ManifestError
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Source:
    """name: of the file, without its folder.  lines: numbers from 1 with their text, blank ones left out."""

    name: str
    bytes: int
    sha256: str
    lines: tuple[tuple[int, str], ...]

    @classmethod
    def read(cls, uri: str) -> Source:
        """A UTF-8 text, local or remote. Raises ManifestError: it is not there, or is no such text."""
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
        """Which file it was."""
        return {"name": self.name, "bytes": self.bytes, "sha256": self.sha256}

    def refuse(self, bad: Sequence[int], what: str, remedy: str) -> None:
        """Raise ManifestError where there are bad lines, with their numbers and never their text."""
        if bad:
            raise ManifestError(f"{self.name}: {what}: {numbered('line', bad)}", remedy)


def numbered(noun: str, numbers: Sequence[int]) -> str:
    """`line 4`, or `lines 4, 9 and 7 more`."""
    shown = ", ".join(f"{number:,}" for number in numbers[:_SHOWN])
    more = f" and {len(numbers) - _SHOWN:,} more" if len(numbers) > _SHOWN else ""
    return f"{noun}{'s' * (len(numbers) > 1)} {shown}{more}"
