"""Nights as they are published: all that a finished night holds, and what it cost."""

from __future__ import annotations

from datetime import date
from typing import Any

from frpipe.core.errors import ConfigError, OutputError
from frpipe.core.night_config import NightConfig
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.nightly import photos
from frpipe.jobs.nightly.history import Past, nights
from frpipe.jobs.nightly.journal import NightJournal
from frpipe.jobs.nightly.report import rewrite
from frpipe.jobs.nightly.tables import read_table
from frpipe.jobs.nightly.work import DEDUP, ENROLL, IDENTIFY, PROBES, SCAN, Say
from frpipe.jobs.obeying import suppressions
from frpipe.jobs.publish.job import Publishing
from frpipe.jobs.publish.merge import Barred
from frpipe.jobs.publish.sources import (
    NIGHT,
    Publication,
    Search,
    created_at,
    digest_of,
    models_of,
    run_id,
    source_of,
)

_STEP = "publish"
Facts = dict[str, Any]


def publish(config: NightConfig, journal: NightJournal, report: Facts, say: Say) -> Facts:
    """Publish this finished night, and those before it that are not.

    Returns its report with what that cost.
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
    """The publication of all finished nights of a configuration; its gallery says who is suppressed."""
    how = config.publish
    if how.tables is None:
        raise ConfigError("the configuration names no tables", "set publish.tables, or give --tables")
    source = config.consolidate.source
    where = source or config.photos or "photos"
    settings: dict[str, Any] = {
        "layout": how.layout,
        "embeddings": how.embeddings,
        "target_bytes": how.target_mb << 20,
        "keep_hours": how.keep_hours,
    }
    return Publishing(
        how.tables,
        lambda: nights_at(config.runs, None),
        Barred(suppressions(config.gallery), where, source or ""),
        say=say,
        **{**settings, **options},
    )


def nights_at(uri: str, source: str | None) -> tuple[list[Publication], list[str]]:
    """The finished nights of a folder of nights, oldest first; and the dates of those that have not ended."""
    known = nights(Folder.at(uri))
    if not known:
        raise OutputError(f"{uri} holds no nights", "give the `runs` of a configuration of nights")
    ended = [night for night in known if night.complete]
    return [night_of(night, source) for night in ended], [n.date for n in known if not n.complete]


def night_of(night: Past, source: str | None) -> Publication:
    """A finished night. Raises OutputError: a step of it is damaged."""
    folder, identity = night.folder, night.identity
    where = source or source_of(identity)
    mine = run_id(folder)
    digests, features, searches, dedup = {}, None, [], None
    enroll = folder.child(ENROLL)
    if night.did("enroll") and run.begun(enroll):
        features = FeatureRun.open(enroll.uri)
        digests[ENROLL] = run.digest(enroll)
    own_probes = not (identity.get("identify") or {}).get("probes")
    probes_from = where if own_probes else str(identity["identify"]["probes"])
    for name, found in (night.steps.get("identify") or {}).items():
        sub = folder.child(IDENTIFY).child(name)
        if isinstance(found, dict) and run.complete(sub) is not None:
            photo_run = mine if own_probes else run_id(folder.child(PROBES).child(ENROLL))
            searches.append(Search(name, sub, probes_from, photo_run))
            digests[f"{IDENTIFY}/{name}"] = run.digest(sub)
    if night.did("dedup") and run.complete(folder.child(DEDUP)) is not None:
        dedup = folder.child(DEDUP)
        digests[DEDUP] = run.digest(dedup)
    vanished = _vanished(folder)
    if vanished:
        digests[SCAN] = digest_of(sorted(vanished))
    begun = run.begun(folder)
    when = created_at(begun, folder, night.date)
    return Publication(
        mine,
        NIGHT,
        digest_of(digests),
        where,
        date.fromisoformat(night.date),
        when,
        when,
        features,
        tuple(vanished),
        tuple(searches),
        dedup,
        _night_facts(night, features, len(vanished)),
    )


def _vanished(folder: Folder) -> list[str]:
    name = f"{SCAN}/{photos.VANISHED}"
    if not folder.exists(name):
        return []
    found: list[str] = read_table(folder, name, ["image_id"])["image_id"].to_pylist()
    return found


def _night_facts(night: Past, features: FeatureRun | None, vanished: int) -> dict[str, Any]:
    report = run.complete(night.folder) or {}
    cost, enroll = report.get("cost") or {}, night.steps.get("enroll") or {}
    searches = [each for each in (night.steps.get("identify") or {}).values() if isinstance(each, dict)]
    found = {
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
    }
    if features is not None:
        found |= models_of(features, run.complete(features.folder) or {})
    return found
