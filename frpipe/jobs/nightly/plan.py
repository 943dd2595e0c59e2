"""Describe what a night would do. Nothing is written, no lease is taken, no cluster is joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from frpipe.core.counted import counted
from frpipe.core.night_config import STEPS as NAMES
from frpipe.core.night_config import NightConfig
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.enroll.job import run_spec
from frpipe.jobs.face_gate import FaceGate
from frpipe.jobs.going_on import for_night
from frpipe.jobs.nightly.costs import NightCost, NightCosts
from frpipe.jobs.nightly.differences import last_gallery
from frpipe.jobs.nightly.faces import changed, gallery_version, looked, scan_words
from frpipe.jobs.nightly.history import Past, last_before, nights
from frpipe.jobs.nightly.job import STEPS
from frpipe.jobs.nightly.journal import JOB, read_record, untouched
from frpipe.jobs.nightly.photos import PhotoScan
from frpipe.jobs.nightly.preflight import check
from frpipe.jobs.nightly.retention import expired
from frpipe.jobs.nightly.searches import newest_dedup
from frpipe.jobs.nightly.summary import since_last_night
from frpipe.jobs.nightly.work import Say, nothing_done

_OWN = "tonight's photos"


def night_plan(config: NightConfig, date: str, say: Say = lambda _: None) -> DryRun:
    """Describe what each step would do. The photos are listed, models and galleries are checked.

    say: told how far the listing of photos is.

    Raises OutputError where the date was begun with another configuration, and what `preflight.check` and the
    scan raise.
    """
    config = for_night(config, date)
    check(config)
    runs = Folder.at(config.runs)
    past, folder = nights(runs), runs.child(date)
    if not untouched(folder):
        run.check_claim(folder, {"job": JOB, "date": date, **config.identity()})
    last = last_before(past, date)
    done = read_record(folder).get("steps", {})
    found = looked(config, last, say) if config.on("scan") else None
    words = _words(config, date, past, found)
    left = [name for name, _ in STEPS if name not in done]
    cost = _cost(config, _since(date, past), last, found, left) if found is not None else None
    other = changed(config.gallery, last_gallery(last))
    steps = {name: "done already" if name in done else words[name] for name, _ in STEPS}
    gates = {name: value for name, value in config.gates.model_dump().items() if value is not None}
    removed = [night.date for night in expired(_with_tonight(config, date, past), date, config)]
    lines = [
        f"night        {date} in {folder.uri}",
        f"compared to  {f'the night of {last.date}' if last else 'nothing: it is the first'}",
        *([f"warning      {since_last_night(other)}"] if other else []),
        *(f"{name:<12} {step}" for name, step in steps.items()),
        *(cost.lines() if cost is not None else []),
        *([f"publish      to {config.publish.tables}, once it has ended"] if config.publish.tables else []),
        f"gates        {', '.join(f'{name} {value:g}' for name, value in gates.items()) or 'none'}",
        f"removed      {', '.join(removed) or 'nothing'}, by retention once the night is complete",
    ]
    facts = {
        "job": JOB,
        "night": date,
        "folder": folder.uri,
        "compared_to": last.date if last else None,
        "gallery_changed": other,
        "steps": steps,
        "gates": gates,
        "removed": removed,
        "cost": cost.as_dict() if cost is not None else None,
    }
    return DryRun(lines, facts)


def _cost(
    config: NightConfig, since: Past | None, last: Past | None, found: PhotoScan, left: Sequence[str]
) -> NightCost:
    """Estimate the steps that are left, with as many faces a photo as there were last night."""
    enrolled = (last.steps.get("enroll") or {}) if last else {}
    faces = (enrolled.get("faces") or 0) / max(1, enrolled.get("rows") or 0)
    return NightCosts(config, found, since is not None, left, faces or 1.0).cost()


def _since(date: str, past: list[Past]) -> Past | None:
    return newest_dedup([night for night in past if night.date < date])


def _words(config: NightConfig, date: str, past: list[Past], scanned: PhotoScan | None) -> dict[str, str]:
    """Describe each step that is switched on."""
    version = gallery_version(config.gallery)
    gallery = f"{config.gallery}, {'to be made' if version is None else version}"
    since = _since(date, past)
    words: dict[str, Callable[[], str]] = {
        "scan": lambda: f"{config.photo_place}, {scan_words(scanned.facts() if scanned else {})}",
        "enroll": lambda: _enroll_words(config),
        "consolidate": lambda: f"into {gallery}, {_gallery_words(config)}",
        "dedup": lambda: (
            f"{gallery}; {f'on the result of {since.date}' if since else 'all pairs are compared'}"
        ),
        "identify": lambda: _identify_words(config),
        "drift": lambda: (
            f"against {config.drift.nights} nights, from {counted(config.drift.least_values, 'values')} on"
        ),
    }
    found = {name: say() if config.on(name) else "switched off" for name, say in words.items()}
    return {**found, "differences": "people, duplicates and photos against last night"}


def _identify_words(config: NightConfig) -> str:
    how = config.identify
    searched = (config.gallery if how.gallery.enabled else None, how.watch_list.uri)
    return f"{how.probes or _OWN} in {' and in '.join(uri for uri in searched if uri) or 'no gallery'}"


def _gallery_words(config: NightConfig) -> str:
    gate = FaceGate.of(config.consolidate.gates)
    limits = f"; faces must meet: {gate.words()}" if gate else ""
    return f"who is there already: {config.consolidate.policy}{limits}"


def _enroll_words(config: NightConfig) -> str:
    spec = run_spec(config.settings, "")
    return f"the new and changed ones with {spec.detector.name} and {spec.embedder.name}"


def _with_tonight(config: NightConfig, date: str, past: list[Past]) -> list[Past]:
    """Make the list of nights as it will be once tonight has ended well."""
    steps = {name: {} if config.on(name) else nothing_done("switched off") for name in NAMES}
    tonight = Past(date, Folder.at(config.runs).child(date), config.identity(), {"night": None}, True, steps)
    return [*(night for night in past if night.date < date), tonight]
