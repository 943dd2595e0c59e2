"""What an identification run did: counted from its published rows, never from what workers said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import pyarrow.compute as pc

from frpipe.core.errors import InvariantError
from frpipe.io.folder import Folder
from frpipe.io.probes import Parts, probe_rows
from frpipe.io.units import Units
from frpipe.matching.limit import Limit


def report_of(
    done: Units, probes: Folder, units: Iterable[Parts], limit: Limit | None, facts: dict[str, Any]
) -> dict[str, Any]:
    """Counts, then the facts. Raises InvariantError unless each face and each photo without one has a row."""
    statuses, decisions, rows = Counter[str](), Counter[str](), 0
    for table in done.tables():
        rows += table.num_rows
        statuses.update(table["status"].to_pylist())
        decisions.update(value or "none" for value in table["decision"].to_pylist())
    expected = sum(_rows_of(probes, parts) for parts in units)
    if rows != expected:
        raise InvariantError(f"{rows} rows came out, not {expected}", "keep the output and report this")
    return {
        "rows": rows,
        "probes": statuses["ok"],
        "photos_without_probe": rows - statuses["ok"],
        "identified": decisions["identified"],
        "strangers": decisions["stranger"],
        "no_decision": decisions["none"],
        "threshold": None if limit is None else asdict(limit),
        **facts,
    }


def report_text(report: dict[str, Any]) -> str:
    """A report, for people."""
    limit = report["threshold"]
    accepted = f"similarity >= {limit['similarity']:g}: {limit['source']}" if limit else "always the nearest"
    warned = f"\nwarning    {limit['warning']}" if limit and limit["warning"] else ""
    return (
        f"rows       {report['rows']:,}: {report['probes']:,} probes, "
        f"{report['photos_without_probe']:,} photos without one\n"
        f"decisions  {report['identified']:,} identified, {report['strangers']:,} strangers\n"
        f"gallery    version {report['gallery_version']}, {report['templates']:,} templates\n"
        f"accepted   {accepted}{warned}\n"
        f"time       {report['wall_s']:,.1f} s"
    )


def _rows_of(probes: Folder, parts: Parts) -> int:
    images, faces = probe_rows(probes, parts, ["faces"], ["face_index"])
    return int(faces.num_rows + pc.sum(pc.equal(images["faces"], 0), min_count=0).as_py())
