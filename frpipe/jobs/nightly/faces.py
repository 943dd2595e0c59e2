"""The first steps of a night: scan the photos, enroll the new ones, put their faces into the gallery."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow as pa

from frpipe.core.counted import counted
from frpipe.core.errors import GalleryDamaged, GalleryError, ManifestError
from frpipe.core.night_config import NightConfig
from frpipe.core.report import Report
from frpipe.gallery.catalog import OtherVersion, VersionId
from frpipe.gallery.compact import merge_shards
from frpipe.gallery.gallery import GALLERY, Gallery
from frpipe.gallery.likeness import DOUBTED
from frpipe.gallery.snapshot import Snapshot
from frpipe.io.storage.folder import Folder
from frpipe.jobs.consolidate.job import COUNTED, Consolidation, without_photos
from frpipe.jobs.enroll.job import Enrollment
from frpipe.jobs.face_gate import FaceGate
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.nightly import photos
from frpipe.jobs.nightly.doubts import write_doubts
from frpipe.jobs.nightly.history import Past
from frpipe.jobs.nightly.journal import Facts
from frpipe.jobs.nightly.kept_out import held_facts, write_gated
from frpipe.jobs.nightly.known_photos import KnownPhotos
from frpipe.jobs.nightly.photo_table import taken
from frpipe.jobs.nightly.work import ENROLL, SCAN, Say, Work, nothing_done
from frpipe.jobs.obeying import suppressions
from frpipe.jobs.publish.sources import gallery_source
from frpipe.jobs.recorded_version import RecordedVersion
from frpipe.jobs.rejects import too_many_rejected
from frpipe.stages.obeyed import Obeyed

_REPORTED = ("rows", "ok", "no_face", "rejected", "faces", "reasons", "launch_rows", "wall_s", "rows_per_s")
_REPORTED_LOOKS = ("faces_refused", "photos_turned", "least_face_px")


def scan(work: Work) -> Facts:
    """List the photos, and write the manifest of those to enroll. Raises ManifestError as `looked`."""
    found = looked(work.config, work.last, work.say)
    found.write(work.folder.child(SCAN))
    facts = found.facts()
    work.say(scan_words(facts))
    say_left_out(work, found)
    _warn(work, found, facts)
    return facts


def looked(config: NightConfig, last: Past | None, say: Say = lambda _: None) -> photos.PhotoScan:
    """Compare the photos with those of last night.

    Raises ManifestError where there never were any, or none has an id that is known; and as `taken`, `look`.
    """
    roots, barred = config.settings.storage.roots, suppressions(config.gallery)
    before = last.folder.child(SCAN) if last else None
    known, source = photos.known_of(before, barred), source_of(config)
    found: photos.PhotoScan
    if config.photo_table is not None:
        found = taken(config, before, known, barred, say, source=source)
        _refuse_other_ids(config, last, known, found)
        return found
    found = photos.look(config.photo_place, config.scan, known, barred, source=source, roots=roots, say=say)
    _refuse_other_ids(config, last, known, found)
    if known is None and not found.counts.listed:
        seen = "; ".join(found.left_out.lines("scan.system"))
        raise ManifestError(
            f"no photos in {config.photo_place}{seen and f' ({seen})'}",
            "check the settings photos, scan.glob and scan.exclude",
        )
    return found


def _refuse_other_ids(
    config: NightConfig, last: Past | None, known: KnownPhotos | None, found: photos.PhotoScan
) -> None:
    """Raise ManifestError where a folder became a table, or the other way, and no id is known any more."""
    if last is None or known is None:
        return
    # Of the last night that read photos: in one without `scan` the configuration may have changed already.
    was_table = bool(known.seen)
    if was_table == (config.photo_table is not None):
        return
    if gallery_source(last.identity) != source_of(config) or not found.has_other_ids():
        return
    then, now, remedy = (
        ("a table", "folder", "name the folder below which the paths are the ids of the table")
        if was_table
        else ("a folder", "table", "let image_id of the table be the path below that folder")
    )
    raise ManifestError(
        f"photos was {then} until {last.date}, and of the {counted(found.counts.listed, 'photos')} of the "
        f"{now} none is known by its id: the same photos would come twice",
        f"{remedy}; where these are other photos, give them a consolidate.source, or `runs`, of their own",
    )


def source_of(config: NightConfig) -> str:
    """The prefix that the ids of the photos have in the gallery."""
    return config.consolidate.source or ""


def scan_words(facts: Facts) -> str:
    """Describe the result of a scan in a line."""
    left_out, behind = facts.get("unreadable_names"), facts.get("vanished_behind_links")
    suppressed = facts.get("suppressed")
    repeated = counted(facts.get("repeated") or 0, "rows")
    return (
        f"{counted(facts['listed'], 'photos')}: {facts['new']:,} new, {facts['changed']:,} changed, "
        f"{facts['vanished']:,} vanished"
        f"{f' ({behind:,} of them behind links that lead out)' if behind else ''}"
        f"{f', {left_out:,} left out for their names' if left_out else ''}"
        f"{f', {suppressed:,} suppressed' if suppressed else ''}"
        f"{f'; {repeated} left out, as the photo has a later one' if facts.get('repeated') else ''}"
    )


def say_left_out(work: Work, found: photos.PhotoScan) -> None:
    """Tell what the scan left out, and why: links, files made by systems, files that are no photos."""
    links = found.links.lines("settings.storage.roots", named=False)
    for line in (*links, *found.left_out.lines("scan.system")):
        work.say(line)


def _warn(work: Work, found: photos.PhotoScan, facts: Facts) -> None:
    if work.config.photo_table is not None:
        _warn_of_table(work, found, facts)
        return
    if work.config.on("consolidate") and found.todo.rows and not found.names_people:
        work.say(
            "warning: no folder is taken for a person's: no face of tonight will reach the gallery. Leave "
            'photos out that do not lie one folder down, with scan.glob: "*/*", or see scan.subject_from'
        )
    if strays := facts["strays"]:
        work.say(
            f"warning: {counted(strays, 'photos')} in no person's folder, kept out of the gallery. The page "
            'names them; move them, or leave them out with scan.glob: "*/*"'
        )
    if found.counts.no_longer_taken:
        work.say(
            f"warning: {counted(found.counts.no_longer_taken, 'photos')} known before: left out now, by "
            "scan.glob, scan.exclude or as systems make them: they do not count as vanished, and stay in the "
            "gallery"
        )


def _warn_of_table(work: Work, found: photos.PhotoScan, facts: Facts) -> None:
    if work.config.on("consolidate") and found.todo.rows and not found.names_people:
        work.say(
            "warning: no row of tonight says whose photo it is: no face will reach the gallery. Give the "
            "manifest a column subject_id"
        )
    if undated := facts["undated"]:
        work.say(
            f"warning: {counted(undated, 'rows')} without a value of photos.arrived: they are never taken. "
            "One night with photos.new: unseen takes them"
        )
    if other := facts["other_subject"]:
        how = work.config.photo_table
        remedy = "give them a later value of" if how is not None and how.arrived else "name a column as"
        work.say(
            f"warning: {counted(other, 'rows')} of known photos name another person than before, and are "
            f"left alone: {remedy} photos.arrived"
        )


def enroll(work: Work) -> Facts:
    """Enroll tonight's photos. Raises RejectRatioError where too many are rejected for `settings.run`."""
    place, before = work.folder.child(SCAN), work.before(SCAN)
    scanned = work.journal.facts("scan") or {}
    if not scanned["new"] + scanned["changed"]:
        photos.write_again(place, None, before)
        return nothing_done("no new photos")
    source = source_of(work.config)
    uri = None if work.config.photo_table else work.config.photo_place
    report = enrolled(work, place, work.folder.child(ENROLL), uri, source)
    bad = too_many_rejected(report, work.config.settings.run)
    if bad is not None:
        raise bad
    again = photos.write_again(place, work.folder.child(ENROLL), before)
    held = held_facts(work.folder.child(ENROLL))
    return {**_reported(report), **held, "tried_again_tomorrow": again}


def enrolled(work: Work, place: Folder, out: Folder, uri: str | None, source: str = "") -> Report:
    """Enroll the photos that a scan has listed in `place` into `out`; returns the report.

    uri: the folder of these photos; None: a table names them.  source: the prefix of their ids in the
    gallery.

    Without `storage.roots` the folder is the root, so that a photo is not read which became a link out of it
    after the scan.
    """
    manifest = f"{place.uri}/{photos.MANIFEST}"
    settings = work.config.settings
    if uri is not None and not settings.storage.roots:
        storage = settings.storage.model_copy(update={"roots": (Folder.at(uri).uri,)})
        settings = settings.model_copy(update={"storage": storage})
    obeyed = Obeyed.of([suppressions(work.config.gallery)], source)
    return Enrollment(manifest, out.uri, settings, work.runtime, work.say, obeyed).run()


def consolidate(work: Work) -> Facts:
    """Put the faces of tonight's photos into the gallery; remove those of vanished ones if so configured."""
    how = work.config.consolidate
    vanished = photos.vanished_at(work.folder.child(SCAN), work.config) if how.vanished == "remove" else None
    if not work.did("enroll"):
        return _without(work, vanished)
    # A commit cannot be undone, so the lease is checked in the storage.
    work.journal.lease.check()
    join_shards(work)
    features, gate = work.folder.child(ENROLL).uri, FaceGate.of(how.gates)
    kept_out: list[pa.Table] = []
    job = Consolidation(
        features,
        work.config.gallery,
        how.policy,
        how.templates,
        how.faces,
        work.say,
        how.source or "",
        how.same_photos,
        how.strict,
        vanished=vanished,
        doubts_to=lambda doubts: write_doubts(work.folder, doubts),
        gate=gate,
        gated_to=kept_out.append,
        runtime=work.runtime,
        forms=how.forms,
    )
    done = job.run()
    work.say(
        f"gallery: {counted(done.added, 'templates')} added, {done.superseded:,} "
        f"superseded, version {done.version}"
    )
    apart = ("gallery", "doubts", "gated", "forms", "plan")
    facts = {name: value for name, value in done.as_dict().items() if name not in apart}
    if done.gated is not None:
        write_gated(work.folder, kept_out)
        facts["gated"] = done.gated.counts()
        work.say("".join(done.gated.lines()))
    if done.forms is not None:
        facts["forms"] = asdict(done.forms)
        work.say(done.forms.line())
    facts |= _committed(work.config.gallery, done.version)
    facts["doubted"] = done.doubts.counts() if done.doubts is not None else None
    if not done.added + done.replaced + done.superseded:
        facts |= _counted_before(work, FeatureRun.open(features).run_id)
    return facts


def join_shards(work: Work) -> None:
    """Join the small shards of many nights. The commit of tonight's faces comes after it, as the last."""
    most = work.config.consolidate.merge_shards_over
    if most is None or gallery_version(work.config.gallery) is None:
        return
    gallery = Gallery.open(work.config.gallery)
    before = gallery.newest().number
    done = merge_shards(gallery, most, note="night")
    if done.version != before:
        work.say(f"gallery: small shards joined, {counted(done.shards, 'shards are')} left")


def _counted_before(work: Work, run_id: str) -> Facts:
    """Read from the log the counts of an earlier launch of tonight that was killed after its commit."""
    since = work.journal.base.get("gallery_version") or 0
    for entry in reversed(Gallery.open(work.config.gallery).log()):
        if entry.version > since and entry.note.startswith(f'consolidate {{"run": "{run_id}"'):
            counts = entry.counts
            doubted = {name: counts[name] for name in DOUBTED if name in counts}
            return {name: counts.get(name, 0) for name in COUNTED} | {"doubted": doubted or None}
    return {}


def _without(work: Work, vanished: pa.Table | None) -> Facts:
    """Remove the templates of vanished photos, if there are any, where nothing was enrolled."""
    if vanished is None or not vanished.num_rows or gallery_version(work.config.gallery) is None:
        return nothing_done("nothing was enrolled")
    work.journal.lease.check()
    how = work.config.consolidate
    done = without_photos(Gallery.open(work.config.gallery), vanished, how.source or "", how.same_photos)
    work.say(
        f"gallery: {counted(done.superseded, 'templates of vanished photos are')} gone, "
        f"version {done.version}"
    )
    facts = {"templates": 0, "added": 0, "superseded": done.superseded, "unread": 0, "version": done.version}
    return {**facts, **_committed(work.config.gallery, done.version)}


def gallery_version(uri: str) -> VersionId | None:
    """Find the newest version of a gallery; None where there is no gallery."""
    return Gallery.open(uri).newest() if Folder.at(uri).exists(GALLERY) else None


def changed(uri: str, recorded: RecordedVersion | None) -> str | None:
    """Say why a gallery is not the one whose version was recorded: restored, copied, made anew or gone.

    None where it is the same, also if the version was compacted away.
    """
    if recorded is None:
        return None
    if not Folder.at(uri).exists(GALLERY):
        return f"there is no gallery at {uri} any more"
    try:
        recorded.keeps(Gallery.open(uri))
    except OtherVersion as error:
        return error.message
    return None


def opened(uri: str, recorded: RecordedVersion | None) -> Snapshot | None:
    """Open a version of a gallery; None where that is purged, or another one, or there is no gallery."""
    if recorded is None:
        return None
    try:
        return recorded.find(Gallery.open(uri))
    except GalleryDamaged:
        raise
    except GalleryError:
        return None


def _committed(uri: str, version: int | None) -> Facts:
    """Read the identity of a version that was just committed, beside its number."""
    gallery = Gallery.open(uri)
    trace = None if version is None else gallery.catalog.trace(version)
    return {} if trace is None else {"gallery_id": gallery.gallery_id, "commit": trace[0]}


def _reported(report: Report) -> Facts:
    whole = report.as_dict()
    looks = _REPORTED_LOOKS if whole["least_face_px"] is not None else ()
    return {name: whole[name] for name in (*_REPORTED, *looks)}
