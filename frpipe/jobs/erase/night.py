"""Erase people from the folder of one night: tables, results, record and report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import FileDamaged, FrpipeError, OutputError
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.output import run
from frpipe.io.output.parts import IMAGES
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.in_order import in_order
from frpipe.io.storage.whole_file import read_json
from frpipe.jobs.erase.columns import named, rows_of, without
from frpipe.jobs.erase.job import CopyPolicy, Erase
from frpipe.jobs.erase.parts import as_written
from frpipe.jobs.erase.results import erase_result
from frpipe.jobs.nightly import photos
from frpipe.jobs.nightly.differences import CHANGES
from frpipe.jobs.nightly.doubts import DOUBTS, still_doubted
from frpipe.jobs.nightly.history import Past
from frpipe.jobs.nightly.journal import NIGHT, Facts, encoded, read_record
from frpipe.jobs.nightly.kept_out import GATED, gated_facts, held_facts, still_kept_out
from frpipe.jobs.nightly.report import write_report
from frpipe.jobs.nightly.summary import rejected_by_reason
from frpipe.jobs.nightly.tables import read_table, write_table
from frpipe.jobs.nightly.work import DEDUP, ENROLL, IDENTIFY, PROBES, SCAN

_LISTS = (photos.LISTING, photos.MANIFEST, photos.VANISHED, photos.AGAIN, photos.WAITING)
_ENROLLED = (
    "rows",
    "ok",
    "no_face",
    "rejected",
    "faces",
    "reasons",
    "erased",
    "faces_refused",
    "photos_turned",
    "least_face_px",
)
_COMPARED = ("pairs", "same_photo", "same_person", "clusters")
_SEARCHED = ("rows", "probes", "identified", "strangers")


@dataclass(slots=True)
class Struck:
    """Counts of an erasure from a night.

    results: those that were changed.  begun: steps that had not ended, and were removed whole.
    """

    photos: int = 0
    faces: int = 0
    rows: int = 0
    results: list[str] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class NightErasure:
    """An erasure from a night that no process works on. Killed anywhere, it is completed by running it again.

    ids: digests.  check: raises where the lease is lost.
    """

    night: Past
    ids: ErasedIds
    subjects: frozenset[str]
    images: frozenset[str]
    copies: CopyPolicy
    say: Callable[[str], None]
    check: Callable[[], None]

    @property
    def folder(self) -> Folder:
        """The folder of the night."""
        return self.night.folder

    def dry_run(self) -> Struck:
        """Report what would be erased from enroll outputs.

        Raises OutputError as `run`, before anything is changed.
        """
        struck = Struck()
        for sub in self._enrolled():
            if self._ended(sub):
                done = self._erase(sub).dry_run()
                struck.photos, struck.faces = struck.photos + done.images, struck.faces + done.faces
        struck.begun = self._begun()
        return struck

    def run(self) -> Struck:
        """Erase the people.

        Raises OutputError: a result of the night is damaged; ErasureError: a proof fails.
        """
        self.check()
        # Files that killed writers left half written may name these people; nothing else writes here now.
        self.folder.sweep(0)
        struck = Struck(begun=self._begun())
        for sub in struck.begun:
            self.check()
            self.say(f"{self.night.date}: {sub} had not ended and is removed; the night does it again")
            self._remove(sub)
        for sub in self._enrolled():
            if self._ended(sub):
                done = self._erase(sub).run()
                struck.photos, struck.faces = struck.photos + done.images, struck.faces + done.faces
        for sub in self._results():
            if erase_result(self.folder.child(sub), self.ids, self.check):
                struck.results.append(sub)
        struck.rows += sum(self._strike_table(f"{s}/{name}") for s in (SCAN, PROBES) for name in _LISTS)
        struck.rows += self._strike_table(DOUBTS) + self._strike_table(GATED)
        struck.rows += self._strike_changes()
        self._tell()
        return struck

    def _enrolled(self) -> list[str]:
        """List the folders of enroll outputs that were begun."""
        return [sub for sub in (ENROLL, f"{PROBES}/{ENROLL}") if run.begun(self.folder.child(sub))]

    def _results(self) -> list[str]:
        """List the folders of results that were begun."""
        names = {e.name.split("/")[1] for e in self.folder.list(IDENTIFY) if e.name.count("/") > 1}
        subs = (DEDUP, *(f"{IDENTIFY}/{name}" for name in sorted(names)))
        return [sub for sub in subs if run.begun(self.folder.child(sub))]

    def _begun(self) -> list[str]:
        """List the steps that had not ended and must start again, with the next launch of the night.

        Enroll must where it holds one of these people, as its manifest is another without them; a comparison
        must in any case, as the compaction removes the version that it was begun with.
        """
        enrolling = [sub for sub in (ENROLL, f"{PROBES}/{ENROLL}") if self._holds(sub)]
        comparing = [sub for sub in (DEDUP, IDENTIFY) if self.folder.list(sub)]
        return [sub for sub in (*enrolling, *comparing) if not self._ended(sub)]

    def _holds(self, sub: str) -> bool:
        """Whether a table of an enroll output, its plan among them, names these people or cannot be read."""
        if not self._ended(sub) and self.folder.exists(f"{sub}/{run.ERASING}"):
            return True
        names = [e.name for e in self.folder.list(sub) if e.name.endswith(".parquet")]
        return any(in_order(self._names_any, names))

    def _remove(self, sub: str) -> None:
        """Remove a folder whole; if that is interrupted, it has a mark, and no published part."""
        mark = f"{sub}/{run.ERASING}"
        self.folder.create(mark, b"{}")
        self.folder.clear(f"{sub}/{IMAGES}")
        for entry in self.folder.list(sub):
            if entry.name != mark:
                self.folder.delete(entry.name)
        self.folder.clear(sub)

    def _names_any(self, name: str) -> bool:
        try:
            return bool(rows_of(self.ids, as_written(self.folder.read(name))).any())
        except FrpipeError:
            raise
        except (pa.ArrowInvalid, OSError, UnicodeError):
            return True

    def _ended(self, sub: str) -> bool:
        """Whether the step that a folder belongs to is recorded as finished."""
        step = "identify" if sub.startswith(PROBES) else sub.split("/", maxsplit=1)[0]
        return step in self.night.steps

    def _erase(self, sub: str) -> Erase:
        return Erase(
            self.folder.child(sub).uri, self.subjects, self.images, self.copies, take_over=True, say=self.say
        )

    def _strike_table(self, name: str) -> int:
        """Remove rows from a table of the night; returns their number."""
        if not self.folder.exists(name):
            return 0
        table = read_table(self.folder, name)
        kept = without(self.ids, table)
        if len(kept) < len(table):
            self.check()
            write_table(self.folder, name, kept)
        return len(table) - len(kept)

    def _strike_changes(self) -> int:
        if not self.folder.exists(CHANGES):
            return 0
        table = read_table(self.folder, CHANGES)
        hit = named(self.ids, table["id"].to_pylist())
        if any(hit):
            self.check()
            write_table(self.folder, CHANGES, table.filter(pa.array([not each for each in hit])))
        return sum(hit)

    def _tell(self) -> None:
        """Update the record and the report to the present content."""
        record = read_record(self.folder)
        if not record:
            return
        self._recount(record)
        self._put(NIGHT, encoded(record))
        if not self.folder.exists(run.REPORT):
            return
        try:
            report: Facts = read_json(self.folder, run.REPORT)
        except FileDamaged:
            raise OutputError(
                f"{run.REPORT} in {self.folder.uri} cannot be read", "remove that night's folder"
            ) from None
        report["steps"] = record["steps"]
        before = (report["last_steps"] or {}).get("enroll") or {}
        report["reasons"] = rejected_by_reason(record["steps"].get("enroll", {}), before)
        lists = {
            kind: [name for name, hit in zip(names, named(self.ids, names), strict=True) if not hit]
            for kind, names in self._still(report["lists"]).items()
        }
        report["lists"] = {kind: names for kind, names in lists.items() if names}
        self.check()
        write_report(self.folder, report, whole=self.folder.exists(run.SUCCESS))

    def _still(self, lists: dict[str, list[str]]) -> dict[str, list[str]]:
        return still_kept_out(self.folder, still_doubted(self.folder, lists))

    def _recount(self, record: Facts) -> None:
        steps = record["steps"]
        scanned, probes = steps.get("scan", {}), (record.get("pins") or {}).get("probes")
        for sub, facts in ((SCAN, scanned), (PROBES, probes)):
            if facts and "listed" in facts and photos.has_listing(self.folder.child(sub)):
                facts.update(self._scanned(sub, facts))
        if "not_done" not in steps.get("enroll", {"not_done": ""}):
            facts, report = steps["enroll"], self._report(ENROLL)
            facts |= {
                name: report[name] for name in _ENROLLED if name in report and name in (*facts, "erased")
            }
            held = held_facts(self.folder.child(ENROLL))
            facts |= {name: value for name, value in held.items() if name in facts}
            if "tried_again_tomorrow" in facts:
                facts["tried_again_tomorrow"] = photos.tried_again(self.folder.child(SCAN))
        if gated := steps.get("consolidate", {}).get("gated"):
            gated |= gated_facts(self.folder)
        if "not_done" not in steps.get("dedup", {"not_done": ""}):
            steps["dedup"] |= {n: v for n, v in self._report(DEDUP).items() if n in _COMPARED}
        for name, search in steps.get("identify", {}).items():
            if isinstance(search, dict):
                report = self._report(f"{IDENTIFY}/{name}")
                search.update({n: v for n, v in report.items() if n in _SEARCHED})
        if self.folder.exists(CHANGES):
            counts = Counter(read_table(self.folder, CHANGES)["kind"].to_pylist())
            for group in ("people", "clusters"):
                told = steps.get("differences", {}).get(group)
                if told:
                    told.update({kind: counts[kind] for kind in told})

    def _scanned(self, sub: str, facts: Facts) -> Facts:
        """Count a scan as if the erased people had not been there."""
        place = self.folder.child(sub)
        todo, vanished = (self._rows(f"{sub}/{name}") for name in (photos.MANIFEST, photos.VANISHED))
        changed = min(facts["changed"], todo)
        if photos.listing_of(place).seen:
            # The counts of a table are of the rows that were read: known photos are not among them.
            return {"new": todo - changed, "changed": changed}
        listed, strays = photos.counted_listing(place)
        return {
            **({"strays": strays} if "strays" in facts else {}),
            "listed": listed,
            "new": todo - changed,
            "changed": changed,
            "vanished": vanished,
            "known_before": listed - (todo - changed) + vanished + facts.get("no_longer_taken", 0),
            "people_without_photos": len(photos.people_without_photos(place)),
        }

    def _rows(self, name: str) -> int:
        data = self.folder.read(name)
        return int(pq.read_metadata(pa.BufferReader(data)).num_rows)

    def _report(self, sub: str) -> dict[str, Any]:
        """Read the report of a step; empty where its folder was deleted."""
        return run.complete(self.folder.child(sub)) or {}

    def _put(self, name: str, data: bytes) -> None:
        if self.folder.read(name) != data:
            self.check()
            self.folder.write(name, data)
