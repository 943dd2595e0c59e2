"""Erase people from a finished run, file by file, and prove that they are gone.

Its order lets it be killed anywhere: write a mark that keeps others away; rewrite the plan, so that
nothing is enrolled again; then faces and images, the file list, the report and the mark of success; prove it
(docs/adr/0016).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from frpipe.core.counted import counted
from frpipe.core.errors import FileDamaged, OutputError
from frpipe.core.report import Report
from frpipe.io.erasure.erased_ids import ErasedIds, image_digest, subject_digest
from frpipe.io.erasure.journal import Erasure, ErasureJournal, ids_of, receipts
from frpipe.io.erasure.needles import Haystack
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.output.plan import ManifestPlan, load_plan
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import read_json
from frpipe.jobs.enroll.audit import audit
from frpipe.jobs.erase.parts import clear_scratch, strike_parts, strike_plan
from frpipe.jobs.erase.proof import Proof, Searched
from frpipe.jobs.erase.scan import Copies, FoundRows, copies_of, scan
from frpipe.jobs.rejects import held_without_colour
from frpipe.jobs.replay.report import ReplayReport

CopyPolicy = Literal["refuse", "erase", "keep"]


@dataclass(frozen=True, slots=True)
class EraseTarget:
    """A run to erase from.

    key: of the digests of ids; the fingerprint of the run's manifest.  report: as it was stored.
    """

    out: Folder
    key: str
    plan: ManifestPlan
    report: Report

    @classmethod
    def open(cls, uri: str) -> EraseTarget:
        """Open a run to erase from. Raises OutputError where it is no enroll output, or not finished."""
        out = Folder.at(uri)
        try:
            key = str(run.begun(out)["identity"]["manifest"])
            plan = load_plan(out)
        except (FileNotFoundError, KeyError, TypeError):
            raise OutputError(
                f"{uri} holds no enroll output",
                "give the --output of jobs/enroll.py, or `features` in that of jobs/identify.py",
            ) from None
        if not out.exists(run.ERASING) and run.complete(out) is None:
            raise OutputError(
                f"{uri} is not finished, or lacks files: only a finished run can be erased from",
                "run its job to the end, the same command goes on where it stopped; or delete it whole",
            )
        return cls(out, key, plan, _report(out))


def _report(out: Folder) -> Report:
    try:
        stored = read_json(out, run.REPORT)
    except (FileNotFoundError, FileDamaged):
        raise OutputError(f"{run.REPORT} of the output cannot be read", "enroll into a new output") from None
    return (ReplayReport if "replays" in stored else Report).stored(stored)


@dataclass(frozen=True, slots=True)
class Erased:
    """Counts of an erasure.

    images, faces, parts: erased, or that would be.  copies: rows that stay and show the same faces.
    earlier: ids that were erased before.  absent: ids that were never there, as (kind, id).
    searched: the scope of the proof; empty for a dry run.
    """

    run: str
    images: int
    faces: int
    parts: int
    of_parts: int
    copies: int
    earlier: int
    absent: frozenset[tuple[str, str]]
    searched: Searched = Searched()  # noqa: RUF009 - it is frozen
    dry_run: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The JSON form: counts, and no id."""
        shown = ("run", "images", "faces", "parts", "of_parts", "copies", "earlier", "dry_run")
        return {
            **{name: getattr(self, name) for name in shown},
            "others": self.searched.others,
            "searched": asdict(self.searched),
            "absent": len(self.absent),
        }


@dataclass(frozen=True, slots=True)
class Erase:
    """An erasure of people from one run.

    copies: what to do with the same photos under other ids.  take_over: whether this one also ends an
    erasure of other people that was interrupted.
    """

    uri: str
    subjects: frozenset[str]
    images: frozenset[str]
    copies: CopyPolicy = "refuse"
    take_over: bool = False
    say: Callable[[str], None] = lambda _: None

    def run(self) -> Erased:
        """Erase the people, or resume an erasure that was interrupted.

        Raises OutputError: no finished run, copies, a damaged part, or somebody else took over; ErasureError:
        the proof fails.
        """
        target = EraseTarget.open(self.uri)
        while True:
            journal = ErasureJournal.of(target.out)
            found, copies = self._look(target, ids_of(target.key, journal.pending))
            if not journal.pending and not found.images:
                return self._ended(target, [], self._prove(target, []))
            if journal.pending and found.images and not self.take_over:
                raise OutputError(
                    f"an erasure of other people is under way in {self.uri}, or broke off there",
                    "let it end, or run its command again; where nobody can, --take-over ends both",
                )
            if journal.begin(_erasure(found, copies) if found.images else None):
                break
        self._strike(target, journal)
        searched = self._prove(target, journal.pending)
        journal.close()
        return self._ended(target, journal.pending, searched)

    def dry_run(self) -> Erased:
        """Report what would be erased; nothing is written."""
        target = EraseTarget.open(self.uri)
        pending = ErasureJournal.of(target.out).pending
        found, copies = self._look(target, ids_of(target.key, pending))
        erasures = [*pending, _erasure(found, copies)] if found.images else pending
        return self._ended(target, erasures, Searched(), dry_run=True)

    def _look(self, target: EraseTarget, pending: ErasedIds) -> tuple[FoundRows, Copies]:
        wanted = ErasedIds.of(target.key, self.subjects, self.images) - pending
        while True:
            found = scan(target.out, target.plan, wanted, pending)
            copies = copies_of(target.out, found, wanted | pending)
            if not copies.images or self.copies == "keep":
                return found, copies
            if self.copies == "refuse":
                raise OutputError(
                    f"in {self.uri} {counted(copies.images, 'photos are')} the same as some that "
                    "would go, under other "
                    "ids, which are not named: the same faces would stay. Nothing was changed",
                    "say --copies erase, or --copies keep where these rows are somebody else's",
                )
            wanted |= copies.ids

    def _strike(self, target: EraseTarget, journal: ErasureJournal) -> None:
        out, ids = target.out, ids_of(target.key, journal.pending)
        # The ids that are given here as texts: an erasure that is resumed has digests alone.
        ids |= ids & ErasedIds.of(target.key, self.subjects, self.images)
        parts = sorted({part for each in journal.pending for part in each.parts})
        run.reopen(out)
        self.say(f"{len(parts):,} of {target.plan.parts:,} parts are written anew")
        strike_plan(out, target.plan, ids, parts, journal.check)
        strike_parts(out, ids, parts, journal.check)
        clear_scratch(out)
        plan = load_plan(out)
        found = audit(out, plan, self.say)
        journal.check()
        journal.settle()
        if found.damaged:
            journal.close()
            raise OutputError(
                f"they are out of {out.uri}, but {counted(len(found.damaged), 'parts of it are')} "
                "damaged or gone",
                "run the job that made it again: it does these parts anew, without those who were erased",
            )
        grey = held_without_colour(Features(out))
        report = target.report.recounted(found.tally, plan.erased_rows, grey)
        run.seal(out, found.files, report.as_dict(), report.text())

    def _prove(self, target: EraseTarget, erasures: list[Erasure]) -> Searched:
        ids = ErasedIds.of(target.key, self.subjects, self.images) | ids_of(target.key, erasures)
        needles = {needle for each in erasures for needle in each.needles}
        self.say("reading every file back")
        return Proof(target.out, ids, self.subjects | self.images, Haystack(needles)).prove()

    def _ended(
        self, target: EraseTarget, erasures: list[Erasure], searched: Searched, dry_run: bool = False
    ) -> Erased:
        key, now = target.key, ids_of(target.key, erasures)
        before = ids_of(key, receipts(target.out)) - now
        named = {("subject", each): subject_digest(key, each) for each in self.subjects}
        named |= {("image", each): image_digest(key, each) for each in self.images}
        known = {*now.subjects, *now.images, *before.subjects, *before.images}
        return Erased(
            run=self.uri,
            images=sum(each.images for each in erasures),
            faces=sum(each.faces for each in erasures),
            parts=len({part for each in erasures for part in each.parts}),
            of_parts=target.plan.parts,
            copies=sum(each.copies for each in erasures),
            earlier=len(before & ErasedIds.of(key, self.subjects, self.images)),
            absent=frozenset(name for name, digest in named.items() if digest not in known),
            searched=searched,
            dry_run=dry_run,
        )


def _erasure(found: FoundRows, copies: Copies) -> Erasure:
    return Erasure.of(
        found.ids,
        images=found.images,
        faces=found.faces,
        parts=tuple(found.parts),
        copies=copies.images,
        needles=tuple(sorted(found.needles - copies.shared)),
    )
