"""Photos and pairs as the lists of LFW and its kin name them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import NamedTuple

from frpipe.protocols.source import Source

_NUMBERED = re.compile(r"(.+)_(\d{1,4})")


class Photo(NamedTuple):
    """Photo `number`, from 1, of a person: `Person/Person_0001.jpg`."""

    subject: str
    number: int

    @classmethod
    def of_path(cls, path: str) -> Photo | None:
        """From `Person/Person_0001.jpg`, with any folders and suffix; None: the name is not of this form."""
        found = _NUMBERED.fullmatch(PurePosixPath(path).stem)
        return cls(found[1], int(found[2])) if found and int(found[2]) else None

    @property
    def stem(self) -> str:
        """Its file's name without the suffix."""
        return f"{self.subject}_{self.number:04d}"

    @property
    def published_name(self) -> str:
        """Its path in the data set as published."""
        return f"{self.subject}/{self.stem}.jpg"


class ListedPair(NamedTuple):
    """source, line: where it is listed (its second side, where each has a line of its own)."""

    a: Photo
    b: Photo
    fold: str
    line: int
    source: Source

    @property
    def mated(self) -> bool:
        """Whether both sides are one person, by their names."""
        return self.a.subject == self.b.subject
