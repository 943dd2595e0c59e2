"""Steps of a night that compare: find duplicates in the gallery, and identify the probes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from frpipe.core.errors import ConfigError, GalleryError, OutputError
from frpipe.core.night_config import ScanStep, ThresholdSettings
from frpipe.core.threshold import ThresholdCard
from frpipe.gallery.catalog import LogEntry, VersionId
from frpipe.gallery.gallery import Gallery
from frpipe.io import threshold_file
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.contract import ReportResult
from frpipe.jobs.dedup import job as duplicates
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.identify.job import Identifying, SearchExecution
from frpipe.jobs.nightly import photos
from frpipe.jobs.nightly.faces import changed, enrolled, gallery_version, opened, say_left_out
from frpipe.jobs.nightly.history import Past
from frpipe.jobs.nightly.journal import Facts
from frpipe.jobs.nightly.work import DEDUP, ENROLL, IDENTIFY, PROBES, Work, nothing_done
from frpipe.jobs.node_cache import NodeCache
from frpipe.jobs.obeying import suppressions
from frpipe.jobs.recorded_version import RecordedVersion

GALLERY, WATCH_LIST = "gallery", "watch-list"
"""Folders below `identify`."""
_DEDUP = ("templates", "fresh_templates", "pairs_compared", "pairs", "same_photo", "same_person", "clusters")
_FOUND = ("rows", "probes", "identified", "strangers", "subjects", "templates")
_SEARCHED = ("gallery_id", "gallery_version", "gallery_commit")


_PIN = "searched_version"


def dedup(work: Work) -> Facts:
    """Find all duplicates of the gallery as it is now; only pairs that are new are compared."""
    out = work.folder.child(DEDUP)
    begun = RecordedVersion.of(out)
    # If it were pinned before it is begun, a compaction between could take it and keep the night from ending.
    version = begun.id if begun else gallery_version(work.config.gallery)
    if version is None:
        return nothing_done("there is no gallery yet")
    since, refused = _since(work, out), None
    try:
        done = _duplicates(work, out, version.number, since)
    except (ConfigError, GalleryError, OutputError) as error:
        if since is None or run.begun(out):
            raise
        work.say(f"the result of {since.date} cannot be carried on: {error.message}; all pairs are compared")
        since, refused = None, error.message
        done = _duplicates(work, out, version.number, since)
    facts = {name: done[name] for name in (*_DEDUP, "wall_s")}
    facts["threshold"] = done["threshold"]["similarity"]
    facts |= version.as_dict()
    return {**facts, "since": since.date if since else None, "since_refused": refused}


def identify(work: Work) -> Facts:
    """Search the gallery as it was before tonight's photos, and the watch list, for the probes.

    Where that version was compacted away, or the gallery was restored, the gallery is not searched, as its
    newest version holds tonight's photos.
    """
    how, facts = work.config.identify, {}
    probes = _probes(work)
    if probes is None:
        return nothing_done("no new probes")
    # Tonight's own photos would find themselves in the newest version.
    own = how.probes is None
    newest = gallery_version(work.config.gallery)
    before = (
        version_before_tonight(work, work.journal.gallery)
        if own
        else RecordedVersion(newest)
        if newest
        else None
    )
    if how.gallery.enabled and before and before.id.number:
        if opened(work.config.gallery, before) is None:
            other = changed(work.config.gallery, before)
            why = "is another one by now" if other else "was compacted meanwhile"
            work.say(f"warning: {before.id} of the gallery {why}: it is not searched")
        else:
            facts[GALLERY] = _search(work, probes, GALLERY, before.id.number if own else None)
    if how.watch_list.uri is not None:
        facts[WATCH_LIST] = _search(work, probes, WATCH_LIST, None)
    return facts or nothing_done("nobody was in the gallery to be found")


def newest_dedup(past: Sequence[Past]) -> Past | None:
    """Find the newest finished night that has looked for duplicates."""
    return next((night for night in reversed(past) if night.complete and night.did("dedup")), None)


def _since(work: Work, out: Folder) -> Past | None:
    """Find the night whose result is carried on; a run that was begun keeps its own."""
    newest, begun = newest_dedup(work.past), run.begun(out)
    date = work.journal.pin("dedup_since", newest.date if newest else None)
    if begun and begun["identity"]["since"] is None:
        return None
    return next((night for night in work.past if night.date == date), None)


def _duplicates(work: Work, out: Folder, version: int, since: Past | None) -> ReportResult:
    how, execution = work.config.dedup, work.config.execution
    return duplicates.Dedup(
        out.uri,
        gallery=work.config.gallery,
        version=version,
        threshold=how.threshold,
        card=card_of(how),
        since=since.folder.child(DEDUP).uri if since else None,
        execution=duplicates.DedupExecution(
            execution.workers,
            execution.kernel,
            max_pairs=how.max_pairs,
            cache=NodeCache(execution.cache_mb, execution.cache_dir),
            forms=execution.forms,
        ),
        runtime=work.runtime,
        say=work.say,
    ).run()


def _probes(work: Work) -> Folder | None:
    """Enroll the probes, and return their output; None where there are no new ones."""
    uri, place = work.config.identify.probes, work.folder.child(PROBES)
    before = work.before(PROBES)
    if uri is None:
        photos.carry_known(before, place)
        return work.folder.child(ENROLL) if work.did("enroll") else None
    if work.journal.record["pins"].get("probes") is None:
        roots = work.config.settings.storage.roots
        barred = suppressions(work.config.gallery)
        known = photos.known_of(before, barred)
        found = photos.look(uri, ScanStep(), known, barred, roots=roots, say=work.say)
        say_left_out(work, found)
        found.write(place)
        work.journal.pin("probes", found.facts())
    todo = work.journal.record["pins"]["probes"]
    if not todo["new"] + todo["changed"]:
        photos.write_again(place, None, before)
        return None
    out = place.child(ENROLL)
    enrolled(work, place, out, uri)
    photos.write_again(place, out, before)
    return out


def _search(work: Work, probes: Folder, name: str, version: int | None) -> Facts:
    how, execution = work.config.identify, work.config.execution
    watched = name == WATCH_LIST
    chosen: ThresholdSettings = how.watch_list if watched else how.gallery
    done = Identifying(
        probes.uri,
        str(how.watch_list.uri) if watched else work.config.gallery,
        work.folder.child(IDENTIFY).child(name).uri,
        version=version,
        k=how.top,
        threshold=chosen.threshold,
        card=card_of(chosen),
        config=work.config.settings,
        execution=SearchExecution(
            execution.workers,
            execution.kernel,
            cache=NodeCache(execution.cache_mb, execution.cache_dir),
            forms=execution.forms,
        ),
        runtime=work.runtime,
        say=work.say,
    ).run()
    facts = {key: done[key] for key in (*_FOUND, "wall_s", "probes_per_s")}
    facts |= {key: done[key] for key in _SEARCHED if key in done}
    return {**facts, "threshold": done["threshold"]["similarity"]}


def card_of(chosen: ThresholdSettings) -> ThresholdCard | None:
    """Load the threshold card that a step names. Raises ConfigError: it is not there, or no card."""
    return threshold_file.load(chosen.threshold_card) if chosen.threshold_card else None


def version_before_tonight(work: Work, base: RecordedVersion | None) -> RecordedVersion | None:
    """Find the version to search for tonight's photos, the same in all launches of tonight.

    base: the version at the start of tonight. Photos of an unfinished night come again tonight. Where they
    had reached the gallery, the version before that is searched, so that they do not find themselves. But not
    where the gallery was changed otherwise since: who was deleted must not be found, and who was enrolled
    must be.
    """
    if base is None or not base.id.number or changed(work.config.gallery, base):
        return base
    number: int = work.journal.pin(_PIN, _before(work, base.id.number))
    if number == base.id.number:
        return base
    gallery = Gallery.open(work.config.gallery)
    trace = gallery.catalog.trace(number)
    return RecordedVersion(VersionId(gallery.gallery_id, number, trace[0] if trace else None), base.made)


def _before(work: Work, base: int) -> int:
    last = work.last.date if work.last else ""
    runs = {run for night in work.past if night.date > last and (run := _run_of(night)) is not None}
    if not runs:
        return base
    entries = [entry for entry in Gallery.open(work.config.gallery).log() if entry.version <= base]
    own = [entry.version for entry in entries if _source(entry) in runs]
    if not own:
        return base
    before = min(own) - 1
    if len(own) < base - before:
        work.say(
            "warning: photos of an unfinished night have reached the gallery, which was changed otherwise "
            "since: they will find themselves"
        )
        return base
    work.say(f"searched as before the unfinished night whose photos come again: version {before}")
    return before


def _run_of(night: Past) -> str | None:
    """The run id of the photos of an unfinished night, as a gallery's log has it; None: not enrolled."""
    if night.complete or not night.did("enroll"):
        return None
    try:
        return FeatureRun.open(night.folder.child(ENROLL).uri).run_id
    except OutputError:
        return None


def _source(entry: LogEntry) -> str | None:
    """Read the enroll run whose faces a version added; None where `consolidate` did not make it."""
    kind, _, facts = entry.note.partition(" ")
    if entry.action != "enroll" or kind != "consolidate":
        return None
    try:
        found = json.loads(facts)["run"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(found)
