"""Publish finished nights: all that each holds, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from types import MappingProxyType
from typing import Any

from frpipe.core.errors import ConfigError, OutputError
from frpipe.core.night_config import NightConfig
from frpipe.gallery.gallery import GALLERY as GALLERY_JSON
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.suppression import Suppressions
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.nightly.drift import MOVED
from frpipe.jobs.nightly.history import Past, nights
from frpipe.jobs.nightly.journal import NightJournal
from frpipe.jobs.nightly.photo_sources import joined, prefixes_of, published_sources, sources_of
from frpipe.jobs.nightly.report import rewrite
from frpipe.jobs.nightly.searches import GALLERY
from frpipe.jobs.nightly.vanished_photos import VanishedPhotos
from frpipe.jobs.nightly.work import DEDUP, ENROLL, IDENTIFY, PROBES, SCAN, Say
from frpipe.jobs.obeying import suppressions
from frpipe.jobs.publish.job import Publishing
from frpipe.jobs.publish.merge import Barred
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.sources import (
    NIGHT,
    Publication,
    Search,
    created_at,
    digest_of,
    found_by,
    gallery_source,
    models_of,
    run_id,
    source_of,
)

_STEP = "publish"
_MEANS = ("detection_score", "quality", "mated_similarity")
"""The measures of a night whose means the table of runs has."""
Facts = dict[str, Any]


def publish(config: NightConfig, journal: NightJournal, report: Facts, say: Say) -> Facts:
    """Publish this finished night, and earlier ones that are not published yet.

    Returns its report with the cost of publishing.
    """
    if journal.facts(_STEP) is not None:
        return report
    say(f"publishing to {config.publish.tables}")
    facts = publishing(config, say).run().cost()
    journal.finish(_STEP, facts)
    rate = {
        "step": _STEP,
        "count": facts["rows"],
        "of": "rows",
        "seconds": facts["seconds"],
        "per_s": round(facts["rows"] / max(facts["seconds"], 1e-3), 1),
        "not_done": None,
    }
    others = [each for each in report["throughput"] if each["step"] != _STEP]
    report = {**report, "steps": journal.record["steps"], "throughput": [*others, rate]}
    rewrite(journal.folder, report)
    return report


def publishing(config: NightConfig, say: Say, **options: Any) -> Publishing:
    """Make the publication of all finished nights of a configuration, without whom its gallery suppresses."""
    how = config.publish
    if how.tables is None:
        raise ConfigError("the configuration names no tables", "set publish.tables, or give --tables")
    runs, barred = Folder.at(config.runs), suppressions(config.gallery)
    identity, past = config.model_dump(mode="json", include={"photos", "consolidate"}), nights(runs)
    sources = [sources_of(past), {source_of(identity, {}): [gallery_source(identity)]}]
    if barred and (root := Root.opened(how.tables)) is not None:
        sources.append(published_sources(root, runs, prefixes_of(past)))
    settings: dict[str, Any] = {
        "layout": how.layout,
        "embeddings": how.embeddings,
        "target_bytes": how.target_mb << 20,
        "keep_hours": how.keep_hours,
    }
    return Publishing(
        how.tables,
        lambda known: nights_at(config.runs, None, known),
        Barred(barred, joined(sources), galleries=_lists(config, past)),
        say=say,
        **{**settings, **options},
    )


def _lists(config: NightConfig, past: Sequence[Past]) -> dict[str, Suppressions]:
    """Read the suppression lists of the galleries that nights search, by the gallery's id.

    One that lay at the gallery's place on an earlier night, under another id, obeys the list that is there.
    """
    found = {}
    for uri in (config.identify.watch_list.uri, config.gallery):
        if uri and Folder.at(uri).exists(GALLERY_JSON):
            found[Gallery.open(uri).gallery_id] = suppressions(uri)
    own = suppressions(config.gallery)
    for night in past:
        searched = (night.steps.get(IDENTIFY) or {}).get(GALLERY)
        for facts in (night.steps.get(DEDUP), searched):
            if isinstance(facts, dict) and facts.get("gallery_id"):
                found.setdefault(facts["gallery_id"], own)
    return found


def nights_at(
    uri: str, source: str | None, published: Mapping[str, str] = MappingProxyType({})
) -> tuple[list[Publication], list[str]]:
    """Find the finished nights of a folder, oldest first, and the dates of those that have not ended.

    published: content of each published run, by its id.
    """
    known = nights(Folder.at(uri))
    if not known:
        raise OutputError(f"{uri} holds no nights", "give the `runs` of a configuration of nights")
    ended = [night for night in known if night.complete]
    return [night_of(each, source, published) for each in ended], [n.date for n in known if not n.complete]


def night_of(night: Past, source: str | None, published: Mapping[str, str]) -> Publication:
    """Make the publication of a finished night; of one that is published as it is, without its content.

    Raises OutputError: it is damaged.
    """
    folder, mine, searches = night.folder, run_id(night.folder), _searches(night, source)
    enroll, dedup = folder.child(ENROLL), folder.child(DEDUP)
    enrolled = night.did("enroll")
    has_dedup = night.did("dedup") and run.complete(dedup) is not None
    vanished = VanishedPhotos.of(folder.child(SCAN))
    digests = {
        **({ENROLL: run.digest(enroll)} if enrolled and run.begun(enroll) else {}),
        **{f"{IDENTIFY}/{each.name}": run.digest(each.folder) for each in searches},
        **({DEDUP: run.digest(dedup)} if has_dedup else {}),
        **({SCAN: vanished.digest} if vanished else {}),
    }
    content = digest_of(digests)
    if enrolled and ENROLL not in digests and mine in published:
        # Its photos were removed by hand since: what is published of it stays.
        content = published[mine]
    when = created_at(run.begun(folder), folder, night.date)
    day, where = date.fromisoformat(night.date), source or source_of(night.identity, night.base)
    if published.get(mine) == content:
        return Publication(mine, NIGHT, content, where, day, when, when)
    features = FeatureRun.open(enroll.uri) if enrolled else None
    return Publication(
        mine,
        NIGHT,
        content,
        where,
        day,
        when,
        when,
        features,
        vanished,
        searches,
        dedup if has_dedup else None,
        _night_facts(night, features, vanished.count if vanished else 0),
    )


def _searches(night: Past, source: str | None) -> tuple[Search, ...]:
    """Find the finished results of identify of a night."""
    probes = (night.identity.get("identify") or {}).get("probes")
    where = str(probes) if probes else source or source_of(night.identity, night.base)
    found = []
    for name, facts in (night.steps.get("identify") or {}).items():
        sub = night.folder.child(IDENTIFY).child(name)
        if isinstance(facts, dict) and run.complete(sub) is not None:
            place = night.folder.child(PROBES).child(ENROLL)
            faces = found_by(place) if run.begun(place) else None
            if not probes:
                faces = found_by(night.folder.child(ENROLL), night.folder)
            found.append(Search(name, sub, where, faces))
    return tuple(found)


def _night_facts(night: Past, features: FeatureRun | None, vanished: int) -> dict[str, Any]:
    report = run.complete(night.folder) or {}
    cost, enroll = report.get("cost") or {}, night.steps.get("enroll") or {}
    searches = [each for each in (night.steps.get("identify") or {}).values() if isinstance(each, dict)]
    probes = (night.identity.get("identify") or {}).get("probes")
    found = {
        "gallery_prefix": gallery_source(night.identity),
        "probe_source": str(probes) if probes else None,
        "photos": enroll.get("rows"),
        **{name: enroll.get(name) for name in ("ok", "no_face", "rejected", "faces")},
        "probes": sum(each["probes"] for each in searches) if searches else None,
        "identified": sum(each["identified"] for each in searches) if searches else None,
        "clusters": (night.steps.get("dedup") or {}).get("clusters"),
        "vanished": vanished,
        "seconds": cost.get("spent_s"),
        "nodes": cost.get("nodes"),
        "cost": cost.get("night"),
        "currency": cost.get("currency"),
        "output": night.folder.uri,
        "photos_per_s": enroll.get("rows_per_s"),
        **_gate_facts(report.get("gates") or []),
        **_drift_facts((night.steps.get("drift") or {}).get("measures")),
    }
    if features is not None:
        found |= models_of(features, run.complete(features.folder) or {})
    return found


def _gate_facts(gates: Sequence[Facts]) -> Facts:
    """Say whether all gates hold, and name those that do not."""
    if not gates:
        return {}
    broken = sorted(gate["gate"] for gate in gates if not gate["holds"])
    return {"gates_hold": not broken, "gates_broken": broken}


def _drift_facts(measures: Mapping[str, Facts] | None) -> Facts:
    """Give the means of measures, their largest distance, and the names of those that have moved."""
    if measures is None:
        return {}
    apart = [each["distance"] for each in measures.values() if each["distance"] is not None]
    means = {f"{name}_mean": measures[name]["tonight"]["mean"] for name in _MEANS if name in measures}
    moved = sorted(name for name, each in measures.items() if each["verdict"] == MOVED)
    return {**means, "drift_distance": max(apart, default=None), "drift_moved": moved}
