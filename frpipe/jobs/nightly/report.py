"""Write the report of a night: report.json, report.md and report.html in its folder."""

from __future__ import annotations

from collections.abc import Iterator

from frpipe.core.counted import counted
from frpipe.core.errors import FileDamaged, OutputError
from frpipe.core.night_config import Gates
from frpipe.gallery.catalog import VersionId
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import read_json
from frpipe.jobs.nightly import photos
from frpipe.jobs.nightly.differences import CHANGES
from frpipe.jobs.nightly.doubts import DOUBTS
from frpipe.jobs.nightly.drift import SAMPLES
from frpipe.jobs.nightly.gates import GateResult, judged, shown
from frpipe.jobs.nightly.journal import Facts, encoded
from frpipe.jobs.nightly.kept_out import GATED
from frpipe.jobs.nightly.page import page
from frpipe.jobs.nightly.summary import notes
from frpipe.jobs.nightly.tables import as_file
from frpipe.jobs.nightly.work import PROBES, SCAN
from frpipe.jobs.unmet_limits import words

PAGE = "report.html"
_PHOTOS = (photos.LISTING, photos.MANIFEST, photos.VANISHED, photos.AGAIN, photos.WAITING)
_TABLES = (
    *(f"{sub}/{name}" for sub in (SCAN, PROBES) for name in _PHOTOS),
    SAMPLES,
    CHANGES,
    DOUBTS,
    GATED,
)


def write_report(folder: Folder, report: Facts, *, whole: bool) -> None:
    """Write the report for people and for programs.

    whole: whether nothing was held back; the night is then complete.
    """
    folder.write(PAGE, page(report).encode())
    if whole:
        files = [as_file(folder, name) for name in _TABLES if folder.exists(name)]
        run.seal(folder, files, report, report_text(report))
        return
    folder.write(run.REPORT, encoded(report))
    folder.write(run.REPORT_TEXT, report_text(report).encode())


def rejudged(folder: Folder, gates: Gates) -> tuple[Facts, list[GateResult]]:
    """Read the report of a finished night, and judge it by the gates as they are now."""
    try:
        report: Facts = read_json(folder, run.REPORT)
    except (FileNotFoundError, FileDamaged):
        raise OutputError(f"{run.REPORT} of the night cannot be read", "move its folder away") from None
    verdicts = judged(gates, report["steps"])
    told = [verdict.as_dict() for verdict in verdicts]
    if told != report["gates"]:
        report["gates"] = told
        rewrite(folder, report)
    return report, verdicts


def rewrite(folder: Folder, report: Facts) -> None:
    """Write the report of a finished night, replacing the one that is there."""
    folder.write(PAGE, page(report).encode())
    folder.write(run.REPORT, encoded(report))
    folder.write(run.REPORT_TEXT, report_text(report).encode())


def report_text(report: Facts) -> str:
    """Render the report as a few lines of text."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Facts) -> Iterator[str]:
    steps = report["steps"]
    last = report["last_night"]
    yield f"night      {report['night']}, compared with {last or 'none: it is the first'}"
    scan, enroll = steps.get("scan", {}), steps.get("enroll", {})
    if "listed" in scan:
        yield from _photo_lines(scan)
    if "rows" in enroll:
        reasons = ", ".join(f"{name} {count:,}" for name, count in enroll["reasons"].items())
        yield (
            f"enrolled   {enroll['ok']:,} ok, {enroll['no_face']:,} without a face, "
            f"{enroll['rejected']:,} rejected{f' ({reasons})' if reasons else ''}"
        )
        if "faces_refused" in enroll:
            yield (
                f"refused    {counted(enroll['faces_refused'], 'faces')}, implausible or on no photograph; "
                f"{counted(enroll['photos_turned'], 'photos')} lay turned"
            )
        if enroll.get("faces_held"):
            yield f"held back  {counted(enroll['faces_held'], 'faces')} ({held_words(enroll)})"
    yield from (f"note       {note}" for note in notes(steps))
    yield from _gallery_lines(steps)
    for name, measure in steps.get("drift", {}).get("measures", {}).items():
        if measure["verdict"] == "moved":
            apart, by_chance = measure["distance"], measure["chance"]
            yield f"drift      {name} has moved: distance {apart:.3f}, by chance up to {by_chance:.3f}"
    for step in report["throughput"]:
        if step["not_done"]:
            yield f"not done   {step['step']}: {step['not_done']}"
    if told := steps.get("publish"):
        yield (
            f"published  {counted(told['rows'], 'rows')} in {counted(told['files'], 'files')}, "
            f"{told['bytes'] / 1e6:,.1f} MB, {told['seconds']:,.1f} s, to {told['tables']}"
        )
    for gate in report["gates"]:
        bad = "" if gate["holds"] else ", does NOT hold"
        yield f"gate       {gate['gate']} {shown(gate['limit'])}: {shown(gate['value'])}{bad}"
    cost = report["cost"]
    per_million = cost.get("per_million_photos")
    price = f", {per_million:,.2f} {cost['currency']} a million photos" if per_million is not None else ""
    yield f"spent      {cost['spent_s']:,.0f} s on {cost['nodes']} node{'s' * (cost['nodes'] > 1)}{price}"
    yield f"output     {report['output']}"


def held_words(enroll: Facts) -> str:
    """List the reasons why faces are held back, with counts."""
    return ", ".join(f"{reason} {count:,}" for reason, count in enroll["held"].items())


def _photo_lines(scan: Facts) -> Iterator[str]:
    alone = scan["people_without_photos"]
    yield (
        f"photos     {scan['listed']:,}: {scan['new']:,} new, {scan['changed']:,} changed, "
        f"{scan['vanished']:,} vanished{f'; people without any more: {alone:,}' if alone else ''}"
    )
    if left_out := scan.get("unreadable_names"):
        yield f"left out   {counted(left_out, 'photos')}: their names cannot stand in a manifest"
    if others := scan.get("left_out"):
        yield f"left out   {', '.join(f'{name} {count:,}' for name, count in others.items())}"
    if repeated := scan.get("repeated"):
        yield f"left out   {counted(repeated, 'rows')}, as the photo has a later one"
    if strays := scan.get("strays"):
        yield f"nobody's   {counted(strays, 'photos')} in no person's folder, kept out of the gallery"
    if no_longer := scan.get("no_longer_taken"):
        yield (
            f"left out   {counted(no_longer, 'photos')} known before, now excluded by scan.glob, "
            "scan.exclude, or as a system's"
        )
    if outside := scan.get("links_outside"):
        behind = scan["vanished_behind_links"]
        yield (
            f"left out   {counted(outside, 'links')} out of the folder"
            f"{f'; {behind:,} of the vanished photos lie behind them' if behind else ''}"
        )
    if suppressed := scan.get("suppressed"):
        yield f"suppressed {counted(suppressed, 'photos')}: the gallery's list names them or their people"


def _gallery_lines(steps: Facts) -> Iterator[str]:
    changes = steps.get("differences", {})
    people, clusters, gallery = (changes.get(name) for name in ("people", "clusters", "gallery"))
    if people and gallery:
        yield (
            f"gallery    {VersionId.read(gallery)}, {counted(gallery['people'], 'people')}: "
            f"{people['person_new']:,} new, {people['person_gone']:,} gone"
        )
    done = steps.get("consolidate", {})
    if gated := done.get("gated"):
        why = f" ({words(gated['measures'])})" if gated["faces"] else ""
        yield f"kept out   {counted(gated['faces'], 'faces')} by the gate of the gallery{why}"
    if done.get("superseded") or done.get("unread"):
        yield (
            f"superseded {done['superseded']:,} older templates, of photos that have become something else; "
            f"{counted(done['unread'], 'photos')} could not be read, and stay as they were"
        )
    if any((counts := done.get("doubted") or {}).values()):
        found = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
        yield f"doubted    new faces: {found}"
    dedup = steps.get("dedup", {})
    if "clusters" in dedup:
        new = f", {clusters['cluster_new']:,} new, {clusters['cluster_grown']:,} grown" if clusters else ""
        yield f"duplicates {counted(dedup['clusters'], 'clusters')}{new}"
    for name, search in steps.get("identify", {}).items():
        if isinstance(search, dict):
            yield (
                f"identified {search['identified']:,} of {search['probes']:,} probes in the {name}, "
                f"{counted(search['strangers'], 'strangers')}"
            )
