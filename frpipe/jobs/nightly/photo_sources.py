"""Sources of the photos of nights: what their ids belong to, in published tables and in the gallery.

Nights know a photo by its id, wherever it lies. So a night has the source of the night before, unless
`consolidate.source` names one. `run.json` of each night records all sources until then: older nights are
removed, and the suppression list holds for what was published of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly.history import Past
from frpipe.jobs.publish.moved_sources import MovedSources
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.schema import MATCHES, MONTH, RUNS
from frpipe.jobs.publish.sources import NIGHT, gallery_source, source_of

Facts = dict[str, Any]
Sources = dict[str, list[str]]
"""Prefixes of ids in the gallery, by source; "" is none."""
_OF_NIGHTS = ["run_id", "kind", "source", "night", "output", "gallery_prefix", "probe_source"]


def sources_tonight(identity: Facts, last: Past | None, past: Iterable[Past]) -> Facts:
    """Make the facts for the base of a night: its `source`, and all `sources` of nights until then."""
    goes_on = last is not None and not gallery_source(identity) and not gallery_source(last.identity)
    before = _source_of(last.identity, last.base) if last is not None and goes_on else None
    source = _source_of(identity, {"source": before})
    own = {source: [gallery_source(identity)]} if source else {}
    return {"source": source, "sources": joined([sources_of(past), own])}


def sources_of(past: Iterable[Past]) -> Sources:
    """Collect the sources of the photos and probes of these nights, and of those before them."""
    found: list[Mapping[str, Iterable[str]]] = []
    for night in past:
        probes = (night.identity.get("identify") or {}).get("probes")
        source = _source_of(night.identity, night.base)
        found += [
            night.base.get("sources") or {},
            {source: [gallery_source(night.identity)]} if source else {},
            {str(probes): [""]} if probes else {},
        ]
    return joined(found)


def prefixes_of(past: Iterable[Past]) -> set[str]:
    """Collect what the gallery may have before the ids of these nights' photos; "" is nothing."""
    return {"", *(prefix for prefixes in sources_of(past).values() for prefix in prefixes)}


def published_sources(root: Root, runs: Folder, prefixes: Iterable[str] = ()) -> Sources:
    """Read the sources of the published nights of a folder, also of nights that were removed.

    prefixes: of nights that are there. An older frpipe has not recorded what the gallery has before the ids
    of a night: it is nothing, the source itself or one that was moved to it, or one of these.
    """
    told = root.table(RUNS).rows(_OF_NIGHTS)
    above = pc.replace_substring_regex(told["output"], "/[^/]*$", "")
    mine = told.filter(pc.and_(pc.equal(told["kind"], NIGHT), pc.equal(above, runs.uri.rstrip("/"))))
    found: list[Mapping[str, Iterable[str]]] = []
    unrecorded: set[str] = set()
    for night in mine.to_pylist():
        if night["gallery_prefix"] is None:
            unrecorded.add(night["source"])
            continue
        found += [{night["source"]: [night["gallery_prefix"]]}] if night["source"] else []
        found += [{night["probe_source"]: [""]}] if night["probe_source"] else []
    unrecorded |= _of_matches(root, mine.filter(pc.is_null(mine["gallery_prefix"])))
    moves = MovedSources.read(root.folder)
    found += [
        {name: ["", *sorted(moves.names_of(name)), *sorted(prefixes)]} for name in sorted(unrecorded - {None})
    ]
    return joined(found)


def _of_matches(root: Root, nights: pa.Table) -> set[str]:
    """Read the sources of the probes of some nights; no files are read but those of their months."""
    ids, months = nights["run_id"].combine_chunks(), {f"{day:%Y-%m}" for day in nights["night"].to_pylist()}
    matches, found = root.table(MATCHES), set[str]()
    head = matches.head()
    for file in head.files.values():
        if file.partition.get(MONTH) in months:
            rows = matches.read(head, file, ["source", "run_id"])
            found |= {*rows.filter(pc.is_in(rows["run_id"], value_set=ids))["source"].to_pylist()}
    return found


def joined(each: Iterable[Mapping[str, Iterable[str]]]) -> Sources:
    """Join records of sources."""
    found: dict[str, dict[str, None]] = {}
    for sources in each:
        for source, prefixes in sources.items():
            found.setdefault(source, {}).update(dict.fromkeys(prefixes))
    return {source: [*prefixes] for source, prefixes in found.items()}


def _source_of(identity: Facts, base: Facts) -> str | None:
    """The source of a night; None where it names no photos, as without the step `scan`."""
    named = base.get("source") or gallery_source(identity) or identity.get("photos")
    return source_of(identity, base) if named else None
