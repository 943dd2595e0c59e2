"""Make the report of a night as data: what happened, compared with the night before."""

from __future__ import annotations

from itertools import islice
from typing import Any

from frpipe.core.night_config import STEPS, NightConfig
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly.differences import CHANGES
from frpipe.jobs.nightly.doubts import doubted
from frpipe.jobs.nightly.gates import GateResult
from frpipe.jobs.nightly.history import Past
from frpipe.jobs.nightly.journal import Facts, NightJournal
from frpipe.jobs.nightly.kept_out import kept_out
from frpipe.jobs.nightly.photos import VANISHED, strays
from frpipe.jobs.nightly.tables import table_blocks
from frpipe.jobs.nightly.work import SCAN

# Names of what a step counts and of its time, and the unit. `took_s`: all of the step, in the last launch.
_RATES = {
    "scan": ("listed", "took_s", "photos"),
    "enroll": ("launch_rows", "wall_s", "photos"),
    "consolidate": ("templates", "took_s", "templates"),
    "dedup": ("pairs_compared", "wall_s", "pairs"),
}


def summary(
    config: NightConfig, date: str, journal: NightJournal, last: Past | None, verdicts: list[GateResult]
) -> Facts:
    """Collect all data for page, text and later launches; at most `report.ids` ids of each list."""
    steps = journal.record["steps"]
    before = last.steps if last else {}
    return {
        "night": date,
        "last_night": last.date if last else None,
        "held_back": "consolidate" not in steps,
        "steps": steps,
        "last_steps": {name: before.get(name) for name in ("scan", "enroll", "consolidate", "dedup")},
        "reasons": rejected_by_reason(steps.get("enroll", {}), before.get("enroll", {})),
        "throughput": throughput(steps),
        "cost": cost(config, journal.record, steps),
        "gates": [verdict.as_dict() for verdict in verdicts],
        "lists": _lists(journal.folder, steps.get("scan", {}), config.report.ids),
        "output": journal.folder.uri,
    }


def since_last_night(why: str) -> str:
    """Make the message for a gallery that is not last night's any more, and what to do."""
    return (
        f"the gallery is not the one of last night: {why}; faces that later nights put into it are missing: "
        "give jobs/consolidate.py the enroll/ of each night since"
    )


def notes(steps: Facts) -> list[str]:
    """Make the notes on the gallery that a reader should see before the numbers."""
    other = steps.get("differences", {}).get("gallery_changed")
    refused = steps.get("dedup", {}).get("since_refused")
    found = [since_last_night(other)] if other else []
    return [*found, *([f"all pairs were compared: {refused}"] if refused else [])]


def throughput(steps: Facts) -> list[Facts]:
    """Compute work and speed of each step; `not_done` says why it did nothing."""
    return [_rate(name, steps.get(name)) for name in STEPS]


def cost(config: NightConfig, record: Facts, steps: Facts) -> Facts | None:
    """Compute the node hours of all launches of the night, their price, and the price of a million photos."""
    price, photos = config.cost.node_hour, steps.get("enroll", {}).get("rows")
    nodes = record["nodes"] or 1
    hours = nodes * record["spent_s"] / 3600
    found: Facts = {"nodes": nodes, "spent_s": record["spent_s"], "node_hours": round(hours, 6)}
    if price is None:
        return found
    total = hours * price
    per_million = round(total / photos * 1e6, 2) if photos else None
    return {
        **found,
        "currency": config.cost.currency,
        "node_hour": price,
        "night": round(total, 4),
        "per_million_photos": per_million,
    }


def _rate(name: str, facts: Facts | None) -> Facts:
    found: Facts = {"step": name, "count": None, "of": None, "seconds": None, "per_s": None, "not_done": None}
    if facts is None:
        return {**found, "not_done": "held back"}
    if "not_done" in facts:
        return {**found, "not_done": facts["not_done"]}
    if name == "identify":
        searches = [each for each in facts.values() if isinstance(each, dict)]
        return _timed(found, sum(s["probes"] for s in searches), sum(s["wall_s"] for s in searches), "probes")
    if name not in _RATES:
        return {**found, "seconds": facts["took_s"]}
    count, seconds, word = _RATES[name]
    return _timed(found, facts[count], facts[seconds], word)


def _timed(found: Facts, count: int, seconds: float, word: str) -> Facts:
    return {
        **found,
        "count": count,
        "of": word,
        "seconds": seconds,
        "per_s": round(count / max(seconds, 1e-3), 1),
    }


def rejected_by_reason(tonight: Facts, last: Facts) -> list[Facts]:
    """Count the rejected photos by reason, tonight and last night, most first."""
    now, then = tonight.get("reasons", {}), last.get("reasons", {})
    names = sorted(now.keys() | then.keys(), key=lambda name: (-now.get(name, 0), name))
    return [{"reason": name, "tonight": now.get(name, 0), "last": then.get(name, 0)} for name in names]


def _lists(folder: Folder, scan: Facts, most: int) -> dict[str, Any]:
    lists: dict[str, list[str]] = {}
    if folder.exists(CHANGES):
        for row in (row for table in table_blocks(folder, CHANGES) for row in table.to_pylist()):
            names = lists.setdefault(row["kind"], [])
            if len(names) < most:
                names.append(row["id"])
    lists |= doubted(folder) | kept_out(folder)
    vanished = f"{SCAN}/{VANISHED}"
    if folder.exists(vanished):
        blocks = table_blocks(folder, vanished, ["image_id"])
        lists["photo_vanished"] = list(islice((n for t in blocks for n in t["image_id"].to_pylist()), most))
    if scan.get("strays"):
        lists["photo_stray"] = strays(folder.child(SCAN), most)
    return {kind: names[:most] for kind, names in lists.items() if names and most}
