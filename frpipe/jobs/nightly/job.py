"""A night: scan, enroll, consolidate, dedup, identify, measure drift, report; then remove old nights."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from frpipe.core.errors import OutputError
from frpipe.core.night_config import NightConfig
from frpipe.gallery.catalog import VersionId
from frpipe.io.erasure.pending import refuse_pending
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.going_on import for_night
from frpipe.jobs.nightly import photos
from frpipe.jobs.nightly.differences import differences, last_gallery
from frpipe.jobs.nightly.drift import drift
from frpipe.jobs.nightly.faces import changed, consolidate, enroll, gallery_version, scan
from frpipe.jobs.nightly.gates import GateResult, broken, gate_error, judged
from frpipe.jobs.nightly.history import Past, dates, enter, last_before, nights
from frpipe.jobs.nightly.journal import Facts, NightJournal
from frpipe.jobs.nightly.known_photos import STORE, unused
from frpipe.jobs.nightly.lease import Lease, lease
from frpipe.jobs.nightly.photo_sources import sources_tonight
from frpipe.jobs.nightly.preflight import check
from frpipe.jobs.nightly.published import publish
from frpipe.jobs.nightly.report import rejudged, write_report
from frpipe.jobs.nightly.retention import expired, remove
from frpipe.jobs.nightly.searches import dedup, identify
from frpipe.jobs.nightly.summary import since_last_night, summary
from frpipe.jobs.nightly.work import PROBES, SCAN, Work, nothing_done
from frpipe.jobs.recorded_version import RecordedVersion
from frpipe.runtime.runtime import Runtime

Say = Callable[[str], None]
STEPS: tuple[tuple[str, Callable[[Work], Facts]], ...] = (
    ("scan", scan),
    ("enroll", enroll),
    ("consolidate", consolidate),
    ("dedup", dedup),
    ("identify", identify),
    ("drift", drift),
    ("differences", differences),
)


@dataclass(frozen=True)
class Night:
    """The night of a date (ISO), in the folder RUNS/DATE."""

    config: NightConfig
    date: str
    runtime: Runtime = field(default_factory=Runtime)
    say: Say = lambda _: None

    def run(self) -> tuple[Facts, Exception | None]:
        """Run the night, or resume it; returns the report, and the error to raise if a gate does not hold.

        Raises LeaseError where another night is under way; OutputError where tonight was begun with another
        configuration; and whatever a step raises.
        """
        return replace(self, config=for_night(self.config, self.date, self.say))._run()

    def _run(self) -> tuple[Facts, Exception | None]:
        check(self.config)
        runs = Folder.at(self.config.runs)
        with lease(runs, self.date, self.config.lease.expires_s, self.say) as held:
            refuse_pending(runs)
            journal, past = self._claimed(runs, held)
            if run.complete(journal.folder) is not None:
                self.say("this night is complete already: nothing to do")
                report, verdicts = rejudged(journal.folder, self.config.gates)
            else:
                report, verdicts = self._carried_out(journal, past)
            if self.config.publish.tables is not None and not report["held_back"]:
                report = publish(self.config, journal, report, held.guarded(self.say))
            if not report["held_back"]:
                self._forget(runs, held)
        where = f"{journal.folder.uri}/report.html"
        return report, gate_error(verdicts, where, held_back=report["held_back"])

    def _claimed(self, runs: Folder, held: Lease) -> tuple[NightJournal, list[Past]]:
        known = nights(runs)
        last = last_before(known, self.date)
        newest = gallery_version(self.config.gallery)
        gallery = newest.as_dict("gallery_") if newest else {"gallery_version": None}
        identity = self.config.identity()
        base = {"night": last.date if last else None, **gallery, **sources_tonight(identity, last, known)}
        enter(runs, self.date)
        journal = NightJournal.claim(runs.child(self.date), self.date, identity, base, held)
        return journal, [night for night in known if night.date < self.date]

    def _carried_out(self, journal: NightJournal, past: list[Past]) -> tuple[Facts, list[GateResult]]:
        last, say = _last(journal, past), journal.lease.guarded(self.say)
        _check_gallery(journal, self.config.gallery)
        other = changed(self.config.gallery, last_gallery(last))
        if other:
            say(f"warning: {since_last_night(other)}")
        run.reopen(journal.folder)
        runtime = replace(self._runtime, say=self.say, opened=lambda nodes: journal.note_nodes(len(nodes)))
        with runtime.kept():
            whole = self._stepped(Work(self.config, journal, past, last, runtime, say))
        verdicts = judged(self.config.gates, journal.record["steps"])
        report = summary(self.config, self.date, journal, last, verdicts)
        journal.lease.check()
        write_report(journal.folder, report, whole=whole)
        return report, verdicts

    @property
    def _runtime(self) -> Runtime:
        return self.runtime.choosing(self.config.execution.executor)

    def _stepped(self, work: Work) -> bool:
        """Run the steps; returns whether all were done and none was held back."""
        for number, (name, do) in enumerate(STEPS, 1):
            if work.journal.facts(name) is not None:
                work.say(f"step {number} of {len(STEPS)}, {name}: done already")
                continue
            bad = broken(judged(self.config.gates, work.journal.record["steps"]), keep_out=True)
            if name == "consolidate" and bad:
                work.say(f"warning: kept from the gallery: {'; '.join(map(str, bad))}")
                return False
            work.say(f"step {number} of {len(STEPS)}, {name}")
            work.journal.lease.check()
            start = time.monotonic()
            facts = do(work) if name == "differences" or self.config.on(name) else _off(name, work)
            if "not_done" in facts:
                work.say(f"{name}: {facts['not_done']}")
            work.journal.finish(name, {**facts, "took_s": round(time.monotonic() - start, 3)})
        return True

    def _forget(self, runs: Folder, held: Lease) -> None:
        for night in expired(nights(runs), self.date, self.config):
            held.check()
            if remove(runs, night, self.say):
                self.say(f"the night of {night.date} is removed: no rule of retention keeps it")
        for name in unused(runs, dates(runs), (SCAN, PROBES)):
            held.check()
            runs.child(STORE).clear(name)


def _last(journal: NightJournal, past: list[Past]) -> Past | None:
    """Find the night that tonight is compared with. Raises OutputError where it is gone."""
    date = journal.base["night"]
    found = next((night for night in past if night.date == date and night.complete), None)
    if date is not None and found is None:
        raise OutputError(
            f"tonight was begun on the night of {date}, which is not there any more",
            f"restore its folder, or remove that of tonight, {journal.folder.uri}, to begin anew",
        )
    return found


def _check_gallery(journal: NightJournal, uri: str) -> None:
    """Raise OutputError where the gallery lacks the version that tonight began with or has committed."""
    committed = VersionId.read(journal.facts("consolidate") or {})
    for recorded in (journal.gallery, RecordedVersion(committed) if committed else None):
        why = changed(uri, recorded)
        if why:
            raise OutputError(
                f"the gallery is not the one that tonight was begun with: {why}",
                f"remove {journal.folder.uri} to begin the night anew: its photos come again",
            )


def _off(name: str, work: Work) -> Facts:
    """Make the record of a step that is switched off; what is known of photos is carried over."""
    sub: dict[str, Any] = {"scan": SCAN, "identify": PROBES}
    if name in sub:
        photos.carry_known(work.before(sub[name]), work.folder.child(sub[name]))
    if name == "enroll" and work.did("scan"):
        photos.write_again(work.folder.child(SCAN), None, work.before(SCAN))
    return nothing_done("switched off")
