"""Addresses of photos that are members of archives, `SHARD#MEMBER`, and names of shards."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SHARD = re.compile(r"\.(?:tar|tar\.gz|tgz|zip)$", re.I)
_MARK = re.compile(r"\.(?:tar|tar\.gz|tgz|zip)#", re.I)


@dataclass(frozen=True, slots=True)
class ShardRef:
    """A reference to member `member` of the archive at `file`. As text: `FILE#MEMBER`."""

    file: str
    member: str

    def __str__(self) -> str:
        return f"{self.file}#{self.member}"

    @classmethod
    def parse(cls, location: str) -> ShardRef | None:
        """Parse the text form; None for a location of another kind."""
        if "#" not in location or not (mark := _MARK.search(location)) or mark.end() == len(location):
            return None
        return cls(location[: mark.end() - 1], clean_name(location[mark.end() :]))

    @property
    def is_streamed(self) -> bool:
        """Whether the shard can be read from its start only."""
        return is_streamed(self.file)


def is_shard(path: str) -> bool:
    """Whether a path has the suffix of a shard."""
    return _SHARD.search(path) is not None


def is_streamed(path: str) -> bool:
    """Whether a shard can be read from its start only."""
    return path.lower().endswith(("gz", "tgz"))


def clean_name(name: str) -> str:
    """Take the `./` that `tar -c .` puts before it off a member's name."""
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name
