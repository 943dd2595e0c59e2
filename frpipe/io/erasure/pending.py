"""The state, from everywhere, of an erasure that is under way, and its receipt.

RUNS/_erase/erasing.json   there from before the first change until the proof holds: no night runs meanwhile.
                           It holds the ids, as the files around it still may
RUNS/_erase/erased.json    the receipts, for ever: when, why, by whom, how many, and keyed digests of the ids
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from frpipe.core.errors import OutputError
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.erasure.needles import Needle
from frpipe.io.storage.folder import Folder

FOLDER = "_erase"
PENDING, RECEIPTS = f"{FOLDER}/erasing.json", f"{FOLDER}/erased.json"


@dataclass(frozen=True, slots=True)
class Pending:
    """Ids and vectors of an erasure under way.

    key: of digests.  images: of all photos that go.  needles: vectors.
    """

    number: str
    key: str
    reason: str
    by: str
    subjects: frozenset[str]
    images: frozenset[str]
    needles: frozenset[Needle] = frozenset()
    photos: int = 0
    faces: int = 0
    templates: int = 0

    @classmethod
    def new(cls, reason: str, by: str) -> Pending:
        """Make a new erasure, of nobody yet."""
        return cls(secrets.token_hex(16), secrets.token_hex(16), reason, by, frozenset(), frozenset())

    @property
    def ids(self) -> ErasedIds:
        """The digests of the ids, under the key."""
        return ErasedIds.of(self.key, self.subjects, self.images)

    def with_ids(self, subjects: Iterable[str], images: Iterable[str], needles: Iterable[Needle]) -> Pending:
        """Add more ids to the erasure."""
        return replace(
            self,
            subjects=self.subjects.union(subjects),
            images=self.images.union(images),
            needles=self.needles.union(needles),
        )


def pending_in(runs: Folder) -> Pending | None:
    """Find the erasure that is under way or broke off; None where there is none."""
    try:
        data = json.loads(runs.read(PENDING))
        sets: dict[str, Any] = {name: frozenset(data[name]) for name in ("subjects", "images")}
        sets["needles"] = frozenset(Needle(**each) for each in data["needles"])
        return Pending(**{**data, **sets})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise OutputError(f"{PENDING} of the nights cannot be read", "put it back from a backup") from None


def write_pending(runs: Folder, pending: Pending) -> None:
    """Write the state of the erasure."""
    sets: dict[str, Any] = {name: sorted(getattr(pending, name)) for name in ("subjects", "images")}
    sets["needles"] = [asdict(needle) for needle in sorted(pending.needles)]
    runs.write(PENDING, _pretty({**asdict(pending), **sets}))


def settle(runs: Folder, pending: Pending) -> None:
    """Write the receipt of the erasure, once."""
    told = receipts(runs)
    if any(each["number"] == pending.number for each in told):
        return
    ids, kept = pending.ids, {name: getattr(pending, name) for name in _KEPT}
    receipt = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        **kept,
        "subject_digests": sorted(ids.subjects),
        "image_digests": sorted(ids.images),
    }
    runs.write(RECEIPTS, _pretty({"erasures": [*told, receipt]}))


_KEPT = ("number", "key", "reason", "by", "photos", "faces", "templates")


def receipts(runs: Folder) -> list[dict[str, Any]]:
    """Receipts of erasures that have ended, oldest first."""
    try:
        return list(json.loads(runs.read(RECEIPTS))["erasures"])
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        raise OutputError(f"{RECEIPTS} of the nights cannot be read", "put it back from a backup") from None


def refuse_pending(runs: Folder) -> None:
    """Raise OutputError where an erasure is under way or broke off: a night could bring people back."""
    if runs.exists(PENDING):
        raise OutputError(
            "people are being taken out of these nights, or that broke off",
            "let it end, or run the same `frpipe erase --everywhere ...` again; then this command",
        )


def _pretty(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()
