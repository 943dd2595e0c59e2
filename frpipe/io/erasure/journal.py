"""The erasures of an enroll output: the one that is under way, and the receipts of those that have ended.

erasing.json   there from before the first change until the proof holds: whoever else would write stays away
erased.json    the receipts, for ever: when, how many, in which parts, and a keyed digest of each id
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from frpipe.core.errors import FileDamaged, OutputError
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.erasure.needles import Needle
from frpipe.io.output.run import ERASING
from frpipe.io.storage.folder import Entry, Folder
from frpipe.io.storage.whole_file import read_json

ERASED = "erased.json"


@dataclass(frozen=True, slots=True)
class Erasure:
    """The record of an erasure.

    subject_digests, image_digests: of the ids that were found, keyed by the manifest's fingerprint in
    run.json.  parts: numbers of those that held them.  copies: photos that were kept and show the same.
    needles: their vectors, until the proof holds; never in a receipt.
    """

    number: str
    when: str
    images: int
    faces: int
    parts: tuple[int, ...]
    copies: int
    subject_digests: tuple[str, ...]
    image_digests: tuple[str, ...]
    needles: tuple[Needle, ...] = ()

    @classmethod
    def of(cls, ids: ErasedIds, **facts: Any) -> Erasure:
        """Begin the record of a new erasure, dated now."""
        return cls(
            number=uuid.uuid4().hex,
            when=datetime.now(UTC).isoformat(timespec="seconds"),
            subject_digests=tuple(sorted(ids.subjects)),
            image_digests=tuple(sorted(ids.images)),
            **facts,
        )

    @classmethod
    def stored(cls, data: dict[str, Any]) -> Erasure:
        """Read an erasure from its `asdict` form, or from a receipt."""
        known = {field.name: data[field.name] for field in fields(cls) if field.name != "needles"}
        for name in ("parts", "subject_digests", "image_digests"):
            known[name] = tuple(known[name])
        return cls(**known, needles=tuple(Needle(**each) for each in data.get("needles", ())))

    def receipt(self) -> dict[str, Any]:
        """The part of the record that is kept for good."""
        kept = asdict(replace(self, needles=()))
        del kept["needles"]
        return kept


def receipts(out: Folder) -> list[Erasure]:
    """Erasures that have ended, oldest first."""
    return _stored(out, ERASED)


def ids_of(key: str, erasures: Iterable[Erasure]) -> ErasedIds:
    """The ids of some erasures, as one set."""
    ids = ErasedIds(key)
    for each in erasures:
        ids |= ErasedIds(key, frozenset(each.subject_digests), frozenset(each.image_digests))
    return ids


class ErasureJournal:
    """The erasures of an output that have not ended. Make one with `ErasureJournal.of`.

    Whoever begins or goes on owns them; who owned them before learns it at its next step, and stops. What it
    may still write until then is what the new owner writes, unless that one was told of other people.
    """

    def __init__(self, out: Folder, pending: Sequence[Erasure], told: Sequence[Erasure]) -> None:
        self.pending = list(pending)
        self._told = {each.number for each in told}
        self._out, self._owner = out, uuid.uuid4().hex
        self._seen: Entry | None = None
        self._checking = threading.Lock()

    @classmethod
    def of(cls, out: Folder) -> ErasureJournal:
        """Open the journal of an output; nothing is written."""
        told = receipts(out)
        return cls(out, _stored(out, ERASING), told)

    def begin(self, erasure: Erasure | None) -> bool:
        """Take over the pending erasures and add one.

        False if another process did so meanwhile: look again.
        """
        fresh = not self.pending
        self.pending += [erasure] if erasure is not None else []
        if not fresh:
            self._out.write(ERASING, self._state())
        elif not self._out.create(ERASING, self._state()):
            return False
        elif self._others_told():
            self._out.delete(ERASING)
            return False
        self._own()
        return True

    def check(self) -> None:
        """Raise OutputError where another process has taken over. Safe to call from several threads."""
        with self._checking:  # or one thread takes the file that another has just made for somebody else's
            try:
                if self._out.entry(ERASING) != self._seen:
                    raise _taken_over()
            except FileNotFoundError:
                # Another has ended the same erasure, and nothing is left to do; or others came after it.
                if self._others_told() or not self._out.create(ERASING, self._state()):
                    raise _taken_over() from None
                self._own()

    def settle(self) -> None:
        """Write the receipts of the erasures that are done."""
        told = receipts(self._out)
        known = {each.number for each in told}
        told += [each for each in self.pending if each.number not in known]
        kept = {"key": "identity.manifest of run.json", "erasures": [each.receipt() for each in told]}
        self._out.write(ERASED, _pretty(kept))

    def close(self) -> None:
        """End the erasure, so that jobs may write to the output again."""
        self.check()
        self._out.delete(ERASING)

    def _others_told(self) -> bool:
        """Whether an erasure that is not ours has ended since we looked."""
        now = {each.number for each in receipts(self._out)}
        return bool(now - self._told - {each.number for each in self.pending})

    def _own(self) -> None:
        """Note the version of the journal's file, as the file may be large; then check that it is ours."""
        self._seen = self._out.entry(ERASING)
        if read_json(self._out, ERASING)["owner"] != self._owner:
            raise _taken_over()

    def _state(self) -> bytes:
        return _pretty({"owner": self._owner, "erasures": [asdict(each) for each in self.pending]})


def _taken_over() -> OutputError:
    return OutputError(
        "another erase has taken this output over, and ends this erasure too",
        "run the same command again once it has ended",
    )


def _stored(out: Folder, name: str) -> list[Erasure]:
    try:
        return [Erasure.stored(each) for each in read_json(out, name)["erasures"]]
    except FileNotFoundError:
        return []
    except (FileDamaged, KeyError, TypeError):
        raise OutputError(f"{name} of the output cannot be read", "put it back from a backup") from None


def _pretty(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=1) + "\n").encode()
