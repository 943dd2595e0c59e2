"""Remove people from the candidates in the results of identify."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

_RANKED = ("subject_id", "similarity", "distance", "llr")
FOUND = [
    "candidates",
    *(f"rank1_{name}" for name in _RANKED),
    "decision",
    "threshold_similarity",
]
"""Columns that say who was found for a probe."""


def without_candidates(table: pa.Table, people: Callable[[pa.Array], set[str]]) -> tuple[pa.Table, int]:
    """Remove people from the candidates of probes, decide these anew, and return how many rows changed.

    people: returns those of some subjects who are to be removed. The next candidate becomes the first; no new
    one is searched for.
    """
    candidates = table["candidates"].combine_chunks()
    listed = candidates.flatten().field("subject_id") if len(table) else pa.array([], pa.string())
    gone = people(listed.unique())
    if not gone:
        return table, 0
    names = [name for name in FOUND if name in table.column_names]
    rows, changed = table.select(names).to_pylist(), 0
    for row in rows:
        before = row["candidates"] or []
        kept = [each for each in before if each["subject_id"] not in gone]
        if len(kept) == len(before):
            continue
        changed += 1
        row["candidates"] = [{**each, "rank": rank} for rank, each in enumerate(kept, 1)]
        best = kept[0] if kept else dict.fromkeys(_RANKED)
        for name in _RANKED:
            row[f"rank1_{name}"] = best.get(name)
        row["decision"] = _decision(row["threshold_similarity"], best["similarity"])
    for name in names:
        at = table.schema.get_field_index(name)
        values = pa.array([row[name] for row in rows], table.schema.field(at).type)
        table = table.set_column(at, table.schema.field(at), values)
    return table, changed


def _decision(threshold: float | None, similarity: float | None) -> str | None:
    """The decision on a probe. threshold: None in a closed set, where the nearest is named, if any."""
    if threshold is None:
        return None if similarity is None else "identified"
    return "identified" if similarity is not None and similarity >= threshold else "stranger"
