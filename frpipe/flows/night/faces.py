"""The first steps of a night: look for photos, enroll them, put their faces into the gallery."""

from __future__ import annotations

from frpipe.core.errors import GalleryDamaged, GalleryError, ManifestError
from frpipe.core.night_config import NightConfig
from frpipe.core.report import Report
from frpipe.flows.consolidate.job import Consolidation
from frpipe.flows.enroll.job import Enrollment
from frpipe.flows.night import photos
from frpipe.flows.night.history import Past
from frpipe.flows.night.journal import Facts
from frpipe.flows.night.work import ENROLL, SCAN, Work, nothing_done
from frpipe.flows.rejects.limit import too_many_rejected
from frpipe.gallery.gallery import GALLERY, Gallery
from frpipe.gallery.snapshot import Snapshot
from frpipe.gallery.suppression import Suppressions
from frpipe.io import run
from frpipe.io.folder import Folder

_REPORTED = ("rows", "ok", "no_face", "rejected", "faces", "reasons", "launch_rows", "wall_s", "rows_per_s")
_REPORTED_LOOKS = ("faces_refused", "photos_turned", "least_face_px")


def scan(work: Work) -> Facts:
    """List the photos, and write the manifest of tonight's. Raises ManifestError as `looked`."""
    found = looked(work.config, work.last)
    found.write(work.folder.child(SCAN), str(work.config.photos))
    facts = found.facts()
    work.say(scan_words(facts))
    if work.config.on("consolidate") and found.todo.num_rows and not found.people:
        work.say("warning: no folder is taken for a person's: no face of tonight will reach the gallery")
    return facts


def looked(config: NightConfig, last: Past | None) -> photos.Found:
    """The photos against those of last night. Raises ManifestError where there never were any."""
    known = photos.known_of(last.folder.child(SCAN) if last else None)
    found = photos.look(str(config.photos), config.scan, known, suppressions(config.gallery))
    if known is None and not found.listing.num_rows:
        raise ManifestError(f"no photos in {config.photos}", "check the settings photos and scan.glob")
    return found


def suppressions(uri: str) -> Suppressions:
    """Who must not come back into a gallery; nobody where there is no gallery yet."""
    there = Folder.at(uri).exists(GALLERY)
    return Gallery.open(uri).suppressions.read() if there else Suppressions(())


def scan_words(facts: Facts) -> str:
    """What a scan has found, in a line."""
    left_out, suppressed = facts.get("unreadable_names"), facts.get("suppressed")
    return (
        f"{facts['listed']:,} photos: {facts['new']:,} new, {facts['changed']:,} changed, "
        f"{facts['vanished']:,} vanished{f', {left_out:,} left out for their names' if left_out else ''}"
        f"{f', {suppressed:,} suppressed' if suppressed else ''}"
    )


def enroll(work: Work) -> Facts:
    """Enroll tonight's photos. Raises RejectRatioError where too many are rejected for `settings.run`."""
    place = work.folder.child(SCAN)
    scanned = work.journal.facts("scan") or {}
    if not scanned["new"] + scanned["changed"]:
        photos.write_again(place, None)
        return nothing_done("no new photos")
    report = enrolled(work, place, work.folder.child(ENROLL))
    bad = too_many_rejected(report, work.config.settings.run)
    if bad is not None:
        raise bad
    again = photos.write_again(place, work.folder.child(ENROLL))
    return {**_reported(report), "tried_again_tomorrow": again}


def enrolled(work: Work, place: Folder, out: Folder) -> Report:
    """The report of the photos that a look has written down in `place`, enrolled into `out`."""
    if run.complete(out) is None:
        work.join()
    manifest = f"{place.uri}/{photos.MANIFEST}"
    return Enrollment(manifest, out.uri, work.config.settings, work.address, work.say).run()


def consolidate(work: Work) -> Facts:
    """Put the faces of tonight's photos into the gallery."""
    if not work.did("enroll"):
        return nothing_done("nothing was enrolled")
    how = work.config.consolidate
    # What is committed cannot be taken back: once more, with a look into the storage.
    work.journal.lease.check()
    done = Consolidation(
        work.folder.child(ENROLL).uri, work.config.gallery, how.policy, how.templates, how.faces, work.say
    ).run()
    work.say(f"gallery: {done.added:,} templates added, version {done.version}")
    return {name: value for name, value in done.as_dict().items() if name != "gallery"}


def gallery_version(uri: str) -> int | None:
    """The newest version of a gallery; None where there is no gallery."""
    return Gallery.open(uri).catalog.head().number if Folder.at(uri).exists(GALLERY) else None


def opened(uri: str, version: int | None) -> Snapshot | None:
    """A version of a gallery; None where there is none, or a compaction has taken it."""
    if version is None:
        return None
    try:
        return Gallery.open(uri).snapshot(version)
    except GalleryDamaged:
        raise
    except GalleryError:
        return None


def _reported(report: Report) -> Facts:
    whole = report.as_dict()
    looks = _REPORTED_LOOKS if whole["least_face_px"] is not None else ()
    return {name: whole[name] for name in (*_REPORTED, *looks)}
