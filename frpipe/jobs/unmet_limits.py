"""Count faces beyond limits, by measure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

Unmet = tuple[str, float | None, float]
"""Measure, value (None or NaN where it could not be assessed), and the limit that it does not meet."""


def by_measure(unmet: Iterable[Unmet]) -> list[dict[str, Any]]:
    """Count faces by measure and limit, most first.

    Each row: measure, limit, faces, worst (the value furthest from the limit; None where none was assessed)
    and unassessed (how many of the faces have no value).
    """
    found: dict[tuple[str, float], dict[str, Any]] = {}
    for measure, value, limit in unmet:
        row = found.setdefault(
            (measure, limit),
            {"measure": measure, "limit": limit, "faces": 0, "worst": None, "unassessed": 0},
        )
        row["faces"] += 1
        if value is None or math.isnan(value):
            row["unassessed"] += 1
        elif row["worst"] is None or abs(value - limit) > abs(row["worst"] - limit):
            row["worst"] = value
    return sorted(found.values(), key=lambda row: (-row["faces"], row["measure"], row["limit"]))


def words(rows: Iterable[dict[str, Any]]) -> str:
    """Describe measures, and how many faces each kept out."""
    return ", ".join(f"{row['measure']} {row['faces']:,}" for row in rows)
