"""The gallery as it was before tonight's photos: those of nights that never finished are among them."""

from __future__ import annotations

import json

from frpipe.core.errors import OutputError
from frpipe.gallery.catalog import Entry, VersionId
from frpipe.gallery.gallery import Gallery
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.nightly.faces import changed
from frpipe.jobs.nightly.history import Past
from frpipe.jobs.nightly.work import ENROLL, Work
from frpipe.jobs.recorded_version import RecordedVersion

_PIN = "searched_version"


def version_before_tonight(work: Work, base: RecordedVersion | None) -> RecordedVersion | None:
    """The version in which tonight's own photos are searched, the same for all launches of tonight.

    base: the version as tonight began. Photos of an unfinished night come again tonight; where they had
    reached the gallery, it is the version before, so that they do not find themselves. But not where anything
    else was done to the gallery since: who was deleted must not be found, and who was enrolled must be.
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
    """What a gallery's log calls the photos of an unfinished night; None where they were not enrolled."""
    if night.complete or not night.did("enroll"):
        return None
    try:
        return FeatureRun.open(night.folder.child(ENROLL).uri).run_id
    except OutputError:
        return None


def _source(entry: Entry) -> str | None:
    """Of what enroll run a version holds the faces, where it came of `consolidate`."""
    kind, _, facts = entry.note.partition(" ")
    if entry.action != "enroll" or kind != "consolidate":
        return None
    try:
        found = json.loads(facts)["run"]
    except (ValueError, KeyError, TypeError):
        return None
    return str(found)
