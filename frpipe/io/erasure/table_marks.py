"""The erasures from published tables that have not ended.

ROOT/_erase/NUMBER.json   there from before the first change until the proof holds: digests of the ids, and of
                          each vector the first two numbers and a digest. The rows that tell the vectors go
                          before the proof, which looks for them in every file that is left
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from frpipe.core.errors import FileDamaged, OutputError
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.erasure.needles import Needle
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import read_json

FOLDER = "_erase"
_DIGEST, _ANCHOR = re.compile("[0-9a-f]{32}"), re.compile("[0-9a-f]{16}")
_LONGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class TableMarks:
    """Marks of erasures that are under way, or broke off.

    names: of the marks.  ids: whose rows go, under one key.  needles: their vectors.
    """

    folder: Folder
    names: tuple[str, ...]
    ids: ErasedIds
    needles: frozenset[Needle]

    @classmethod
    def of(cls, folder: Folder, key: str) -> TableMarks:
        """Read the marks of some tables. key: of the digests. Raises OutputError: one cannot be read."""
        found = cls(folder, (), ErasedIds(key), frozenset())
        for name in [entry.name for entry in folder.list(FOLDER)]:
            try:
                data = read_json(folder, name)
                told, subjects, images = data["key"], _digests(data["subjects"]), _digests(data["images"])
                needles = frozenset(map(_needle, data["needles"]))
            except FileNotFoundError:
                continue  # another has ended it since it was listed
            except (FileDamaged, KeyError, TypeError, ValueError):
                raise _unreadable(name) from None
            if told != key:
                raise _unreadable(name)
            ids = found.ids | ErasedIds(key, subjects, images)
            found = cls(folder, (*found.names, name), ids, found.needles | needles)
        return found

    def written(self, ids: ErasedIds, needles: Iterable[Needle]) -> TableMarks:
        """Write one more mark, of all these ids and vectors: those of the others are among them.

        Each erasure has a mark of its own, so that whoever ends removes none that it has not read.
        """
        name, mine = f"{FOLDER}/{secrets.token_hex(12)}.json", frozenset(needles)
        document = {
            "key": ids.key,
            "subjects": sorted(ids.subjects),
            "images": sorted(ids.images),
            "needles": [asdict(each) for each in sorted(mine)],
        }
        self.folder.write(name, (json.dumps(document, indent=1) + "\n").encode())
        return TableMarks(self.folder, (*self.names, name), ids, mine)

    def remove(self) -> None:
        """Remove the marks: what they name is proven to be gone."""
        self.folder.delete_all(self.names)


def _digests(found: Any) -> frozenset[str]:
    """Parse digests. Raises TypeError or ValueError: whoever may write to a store may write anything."""
    if not all(_DIGEST.fullmatch(each) for each in found):
        raise ValueError
    return frozenset(found)


def _needle(found: Any) -> Needle:
    """Parse a needle. Raises TypeError or ValueError for what is none."""
    needle = Needle(**found)
    whole = _ANCHOR.fullmatch(needle.anchor) and _DIGEST.fullmatch(needle.digest)
    if not whole or type(needle.bytes) is not int or not 8 <= needle.bytes <= _LONGEST:
        raise ValueError
    return needle


def _unreadable(name: str) -> OutputError:
    return OutputError(f"{name} of the tables cannot be read", "put it back from a backup, or remove it")
