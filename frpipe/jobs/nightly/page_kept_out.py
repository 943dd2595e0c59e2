"""Render the faces of a night that their measures keep from the gallery."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from frpipe.jobs.nightly.page_table import card, table

Facts = dict[str, Any]
_HEADS = ("measure", "#limit", "#faces", "#worst", "#not assessed", "where")


def kept_out_section(report: Facts) -> Iterator[str]:
    """Render the faces held back by stages and kept out by the gate, by measure, and how to look at them.

    Empty where no face was held back and no gate is set.
    """
    enroll, done = (report["steps"].get(step, {}) for step in ("enroll", "consolidate"))
    held, gated = enroll.get("held_measures"), done.get("gated")
    if not held and gated is None:
        return
    yield "<h2>Faces held back and kept out</h2>"
    rows = [_row(each, "held back at enroll") for each in held or ()]
    rows += [_row(each, "kept out by the gate") for each in (gated or {}).get("measures", ())]
    yield table(_HEADS, rows) if rows else card("All faces are within their limits.")
    output = escape(report["output"])
    if held:
        yield (
            f"<p>Look at those held back: <code>frpipe sheet {output}/enroll -o held.png --held</code>. "
            "After a gate is loosened, a replay brings them in.</p>"
        )
    if gated and gated["faces"]:
        yield (
            f"<p>Those kept out are faces of <code>{output}/enroll</code> still, listed in "
            "<code>differences/gated.parquet</code>. With other limits <code>frpipe run consolidate "
            f"--features {output}/enroll --policy append</code> brings them in.</p>"
        )


def _row(each: Facts, where: str) -> tuple[str, ...]:
    worst = "" if each["worst"] is None else f"{each['worst']:.4g}"
    unassessed = f"{each['unassessed']:,}" if each["unassessed"] else ""
    measure = f"<code>{escape(each['measure'])}</code>"
    return measure, f"{each['limit']:g}", f"{each['faces']:,}", worst, unassessed, where
