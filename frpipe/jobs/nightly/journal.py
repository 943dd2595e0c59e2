"""The record of what a night has done so far.

The folder of a night is that of a run, with `run.json`, and holds this file too:

night.json    {"steps": {name: facts of a finished step}, "pins": values that a step settled before it began,
              "spent_s", "saved", "nodes": for the cost}; written whole after each step
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from frpipe.core.errors import FileDamaged, OutputError
from frpipe.gallery.catalog import VersionId
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import read_json
from frpipe.jobs.nightly.lease import Lease, now
from frpipe.jobs.recorded_version import RecordedVersion

NIGHT = "night.json"
JOB = "night"
Facts = dict[str, Any]


def read_record(folder: Folder) -> Facts:
    """Read a night's `night.json`; empty where it has none yet.

    Raises OutputError where it cannot be read.
    """
    try:
        return read_json(folder, NIGHT)
    except FileNotFoundError:
        return {}
    except FileDamaged:
        raise OutputError(
            f"{NIGHT} in {folder.uri} cannot be read", "move that night's folder away"
        ) from None


@dataclass(slots=True)
class NightJournal:
    """Record of the finished steps of a night. Nothing is written without the lease.

    base: what tonight is compared with: `night`, the last finished one, and `gallery_version` at the start of
    tonight with its `gallery_id` and `gallery_commit`, each of which may be None; and the `source` of the
    photos with all `sources` until then (see `photo_sources`).  created: when tonight began.
    """

    folder: Folder
    base: Facts
    lease: Lease
    record: Facts
    created: str = ""
    _since: float = field(default_factory=time.monotonic)

    @classmethod
    def claim(cls, folder: Folder, date: str, identity: Facts, base: Facts, lease: Lease) -> NightJournal:
        """Claim the folder for tonight, or resume it.

        One that was only claimed may be begun with other settings.

        Raises OutputError where the folder holds a night of another configuration, or other files.
        """
        run.refuse_foreign(folder)
        lease.check()
        if untouched(folder):
            run.release(folder)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        claimed = run.claim(
            folder, {"job": JOB, "date": date, **identity}, {"created": created, "base": base}
        )
        empty: Facts = {"steps": {}, "pins": {}, "spent_s": 0.0, "saved": now(), "nodes": None}
        record = {**empty, **read_record(folder)}
        before = lease.before
        if before is not None and before.night == date:
            # The last launch counts from its last record, if it wrote one, to its last heartbeat.
            start = max(record["saved"], before.since)
            record["spent_s"] += max(0.0, _seconds(start, before.beat))
        return cls(folder, claimed["base"], lease, record, str(claimed.get("created") or ""))

    @property
    def gallery(self) -> RecordedVersion | None:
        """The version of the gallery at the start of tonight; None where there was no gallery."""
        named = VersionId.read(self.base, "gallery_")
        return RecordedVersion(named, self.created) if named else None

    def facts(self, step: str) -> Facts | None:
        """Read the facts that a finished step has recorded; None where it is not finished."""
        found: Facts | None = self.record["steps"].get(step)
        return found

    def finish(self, step: str, facts: Facts) -> None:
        """Record that a step is finished."""
        self.record["steps"][step] = facts
        self._write()

    def pin(self, name: str, value: Any) -> Any:
        """Settle a value for all launches of this night; returns what the first launch settled."""
        if name not in self.record["pins"]:
            self.record["pins"][name] = value
            self._write()
        return self.record["pins"][name]

    def note_nodes(self, nodes: int) -> None:
        """Record the number of nodes of the cluster; the largest of all launches counts."""
        self.record["nodes"] = max(nodes, self.record["nodes"] or 0)

    def _write(self) -> None:
        self.lease.check()
        clock = time.monotonic()
        self.record["spent_s"] = round(self.record["spent_s"] + clock - self._since, 3)
        self.record["saved"], self._since = now(), clock
        self.folder.write(NIGHT, encoded(self.record))


def untouched(folder: Folder) -> bool:
    """Whether the folder holds the claim of a night and nothing else."""
    return list(islice(folder.walk(), 2)) == [run.RUN]


def encoded(data: Facts) -> bytes:
    """Serialise JSON as a night writes it."""
    return (json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n").encode()


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
