"""Render the page of a night: its report in, HTML out.

All texts are escaped, and the page loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from frpipe.core.counted import counted
from frpipe.jobs.nightly.gates import shown
from frpipe.jobs.nightly.page_kept_out import kept_out_section
from frpipe.jobs.nightly.page_table import card, table
from frpipe.jobs.nightly.summary import notes
from frpipe.jobs.unmet_limits import words

Facts = dict[str, Any]
_LISTS = {
    "person_new": ("new people", "people", "person_new"),
    "person_gone": ("people gone from the gallery", "people", "person_gone"),
    "person_without_photos": ("people without photos any more", "scan", "people_without_photos"),
    "cluster_new": ("new clusters of duplicates", "clusters", "cluster_new"),
    "cluster_grown": ("clusters of duplicates that have grown", "clusters", "cluster_grown"),
    "cluster_gone": ("clusters of duplicates that are gone", "clusters", "cluster_gone"),
    "face_unlike_own": ("new faces unlike all others of their person", "doubted", "unlike_own"),
    "face_like_another": ("new faces as like somebody else's", "doubted", "like_another"),
    "held_face": ("faces held back at enroll", "enroll", "faces_held"),
    "gated_face": ("faces kept out by the gate", "gated", "faces"),
    "photo_vanished": ("photos that have vanished", "scan", "vanished"),
    "photo_stray": ("photos that lie in no person's folder", "scan", "strays"),
}


STYLE = """
:root { --ink: #1d2430; --dim: #5f6978; --line: #dde1e8; --paper: #f5f6f8; --card: #fff; --good: #1c7a45;
  --bad: #b3261e; --warn: #8a5a00; --now: #2b5fb4; --then: #c6cdd8; --good-bg: #e3f3ea; --bad-bg: #fbe6e4;
  --warn-bg: #fbf0d9 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --dim: #9aa4b3; --line: #333a46; --paper: #14181f; --card: #1d222b; --good: #6ad098;
    --bad: #ff8f85; --warn: #e9b95c; --now: #85b0f5; --then: #4a5363; --good-bg: #16301f; --bad-bg: #3a1d1b;
    --warn-bg: #33270f } }
* { box-sizing: border-box }
body { margin: 0; padding: 28px 24px 40px; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, "Segoe UI", "Noto Sans", sans-serif; font-variant-numeric: tabular-nums }
main { max-width: 1120px; margin: auto }
h1 { font-size: 24px; margin: 0; letter-spacing: -.01em }
h2 { font-size: 16px; margin: 30px 0 10px }
p { margin: 4px 0; color: var(--dim) }
.top { display: flex; flex-wrap: wrap; gap: 8px 14px; align-items: center }
.chip { border-radius: 99px; padding: 2px 10px; font-size: 13px; font-weight: 600; white-space: nowrap }
.good { color: var(--good); background: var(--good-bg) } .bad { color: var(--bad); background: var(--bad-bg) }
.warn { color: var(--warn); background: var(--warn-bg) } .none { color: var(--dim); background: var(--paper) }
.tiles { display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(158px, 1fr));
  margin-top: 18px }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 16px;
  min-width: 0 }
.tile b { display: block; white-space: nowrap; font-size: 27px; line-height: 1.2; font-weight: 650;
  letter-spacing: -.02em }
.tile span { display: block; color: var(--dim); font-size: 13px }
.pair { display: grid; gap: 0 20px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)) }
.scroll { overflow-x: auto }
table { width: 100%; border-collapse: collapse; font-size: 14px }
th { font-weight: 500; color: var(--dim); text-align: left; font-size: 13px; white-space: nowrap }
th, td { padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); vertical-align: middle }
tr:last-child > td { border-bottom: 0 }
td.n, th.n { text-align: right; white-space: nowrap } td:last-child, th:last-child { padding-right: 0 }
code { font: 13px ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere }
.bar { position: relative; height: 10px; min-width: 90px; border-radius: 3px; background: var(--paper) }
.bar i { position: absolute; inset: 0 auto 0 0; border-radius: 3px; background: var(--now) }
.bar u { position: absolute; top: -3px; bottom: -3px; width: 2px; background: var(--ink) }
.charts { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)) }
.charts header { display: flex; justify-content: space-between; gap: 8px; align-items: baseline }
.charts h3 { font-size: 14px; margin: 0; font-weight: 600 }
.charts p { font-size: 13px }
svg { display: block; width: 100%; height: auto; margin-top: 10px }
svg .then { fill: var(--then) } svg .now { fill: none; stroke: var(--now); stroke-width: 1.8 }
svg text { fill: var(--dim); font-size: 9.5px } svg .base { stroke: var(--line) }
.key { display: inline-block; width: 12px; height: 9px; border-radius: 2px; margin: 0 5px 0 10px }
details { border-bottom: 1px solid var(--line); padding: 8px 0 } details:last-child { border: 0 }
summary { cursor: pointer } details code { display: block; color: var(--dim); padding: 2px 0 0 18px }
footer { margin-top: 30px; color: var(--dim); font-size: 13px; overflow-wrap: anywhere }
@media (max-width: 480px) { body { padding: 16px 12px 28px } .tile b { font-size: 22px }
  .tiles { grid-template-columns: 1fr 1fr; gap: 8px } .card { padding: 11px 12px } }
@media print { .card { break-inside: avoid } details { display: none } }
"""


_WIDTH, _HEIGHT, _FLOOR = 240, 84, 68
_NAMES = {
    "rejected": "Rejected photos",
    "no_face": "Photos without a face",
    "detection_score": "Detection score",
    "quality": "Face quality",
    "quality_score": "Quality score, 0 to 100",
    "pose_yaw_deg": "Yaw, degrees",
    "pad_score": "Bona fide score",
    "rank1_similarity_gallery": "Rank-1 similarity, gallery",
    "rank1_similarity_watch-list": "Rank-1 similarity, watch list",
    "mated_similarity": "Mated similarity",
}
_CHIPS = {"steady": "good", "moved": "warn", "insufficient data": "none"}
SHARES = ("rejected", "no_face")


def page(report: Facts) -> str:
    """Render the whole page."""
    return "\n".join(_page(report)) + "\n"


def _page(report: Facts) -> Iterator[str]:
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f'<meta name="robots" content="noindex"><title>Night of {escape(report["night"])}</title>'
    yield f"<style>{STYLE}</style></head><body><main>"
    yield f'<div class="top"><h1>Night of {escape(report["night"])}</h1>{_verdict(report)}</div>'
    last = report["last_night"]
    yield f"<p>{f'compared with the night of {escape(last)}' if last else 'the first night'}</p>"
    yield from (f'<p class="warn">{escape(note)}</p>' for note in notes(report["steps"]))
    yield f'<div class="tiles">{"".join(_tiles(report))}</div>'
    yield '<div class="pair">'
    yield f"<section>{''.join(_gates(report))}</section><section>{''.join(_reasons(report))}</section></div>"
    yield from kept_out_section(report)
    yield from _drift(report["steps"].get("drift", {}))
    yield '<div class="pair">'
    yield f"<section>{''.join(_steps(report))}</section><section>{''.join(_searches(report))}</section></div>"
    yield from _lists(report)
    output = escape(report["output"])
    yield f"<footer>{output}. Ids are shown, and no faces; a similarity is no proof.</footer>"
    yield "</main></body></html>"


def _verdict(report: Facts) -> str:
    bad = sum(not gate["holds"] for gate in report["gates"])
    if report["held_back"]:
        return '<span class="chip bad">kept from the gallery</span>'
    if bad:
        return f'<span class="chip bad">{bad} gate{"s do" if bad > 1 else " does"} not hold</span>'
    words = "all gates hold" if report["gates"] else "complete, no gates"
    return f'<span class="chip good">{words}</span>'


def _tiles(report: Facts) -> Iterator[str]:
    steps, last = report["steps"], report["last_steps"]
    scan, enroll, before = steps.get("scan", {}), steps.get("enroll", {}), last.get("enroll") or {}
    changes = steps.get("differences", {})
    if "listed" in scan:
        yield _tile(scan["new"], "new photos", _photos_note(scan))
    if "rows" in enroll:
        yield _tile(enroll["faces"], "faces", _was(before.get("faces")))
        if "faces_refused" in enroll:
            turned = f"{counted(enroll['photos_turned'], 'photos')} lay turned"
            yield _tile(enroll["faces_refused"], "faces refused", turned)
        if "faces_held" in enroll:
            why = ", ".join(f"{reason} {count:,}" for reason, count in enroll["held"].items())
            yield _tile(enroll["faces_held"], "faces held back", escape(why))
        was = _was(f"{before['rejected'] / before['rows']:.2%}" if before.get("rows") else None)
        yield _tile(f"{enroll['rejected'] / enroll['rows']:.2%}", "rejected", was)
    people, gallery, clusters = (changes.get(name) for name in ("people", "gallery", "clusters"))
    if people and gallery:
        gone = f"{people['person_gone']:,} gone, {gallery['people']:,} in all"
        yield _tile(people["person_new"], "new people", gone)
    done = steps.get("consolidate", {})
    if gated := done.get("gated"):
        yield _tile(gated["faces"], "faces kept out", f"by the gate: {escape(words(gated['measures']))}")
    if "superseded" in done:
        unread = f"{counted(done['unread'], 'photos')} could not be read, and stay as they were"
        yield _tile(done["superseded"], "templates superseded", unread)
    if "clusters" in steps.get("dedup", {}):
        total = steps["dedup"]["clusters"]
        if clusters:
            fresh = clusters["cluster_new"] + clusters["cluster_grown"]
            yield _tile(
                fresh,
                "new duplicates",
                f"{clusters['cluster_gone']:,} gone, {counted(total, 'clusters')} in all",
            )
        else:
            yield _tile(total, "duplicates", "clusters; none to compare with")
    yield _cost_tile(report["cost"])


def _photos_note(scan: Facts) -> str:
    note = f"{scan['changed']:,} changed, {scan['vanished']:,} vanished, {scan['listed']:,} in all"
    if suppressed := scan.get("suppressed"):
        note += f"; {suppressed:,} suppressed"
    if left_out := scan.get("unreadable_names"):
        note += f"; {left_out:,} more left out for their names"
    if others := sum(scan.get("left_out", {}).values()):
        note += f"; {counted(others, 'names')} left out"
    if outside := scan.get("links_outside"):
        note += f"; {counted(outside, 'links out of the folder are')} not followed"
    return note


def _cost_tile(cost: Facts) -> str:
    nodes = f"on {cost['nodes']:,} node{'s' if cost['nodes'] != 1 else ''}"
    if cost.get("per_million_photos") is None:
        return _tile(_clock(cost["spent_s"]), "spent", nodes)
    per_million = f"{cost['per_million_photos']:,.2f} {escape(cost['currency'])} a million photos"
    return _tile(_clock(cost["spent_s"]), f"spent {nodes}", per_million)


def _tile(value: float | str, title: str, note: str) -> str:
    shown = value if isinstance(value, str) else f"{value:,}"
    return f'<div class="card tile"><b>{shown}</b>{title}<span>{note}</span></div>'


def _was(value: float | str | None) -> str:
    shown = value if isinstance(value, str) else None if value is None else f"{value:,}"
    return "&nbsp;" if shown is None else f"last night {shown}"


def _gates(report: Facts) -> Iterator[str]:
    yield "<h2>Gates</h2>"
    rows = []
    for gate in sorted(report["gates"], key=lambda each: bool(each["holds"])):
        chip = (
            '<span class="chip good">holds</span>'
            if gate["holds"]
            else '<span class="chip bad">broken</span>'
        )
        rows.append((f"<code>{gate['gate']}</code>", shown(gate["limit"]), shown(gate["value"]), chip))
    yield table(("gate", "#limit", "#tonight", "#"), rows) if rows else card("No gates are set.")


def _reasons(report: Facts) -> Iterator[str]:
    yield "<h2>Rejected, by reason</h2>"
    most = max([each[name] for each in report["reasons"] for name in ("tonight", "last")], default=0)
    rows = [
        (
            f"<code>{escape(each['reason'])}</code>",
            bar(each["tonight"], each["last"], most),
            f"{each['tonight']:,}",
            f"{each['last']:,}",
        )
        for each in report["reasons"]
    ]
    yield (
        table(("reason", "mark: last night", "#tonight", "#last night"), rows)
        if rows
        else card("No photo was rejected.")
    )


def _drift(drift: Facts) -> Iterator[str]:
    if "measures" not in drift:
        return
    nights = drift["nights"]
    before = (
        f"{counted(len(nights), 'nights')} since {escape(nights[0])}"
        if nights
        else "no night to compare with yet"
    )
    yield "<h2>Against the nights before</h2>"
    yield (
        f'<p><span class="key" style="background:var(--now);margin-left:0"></span>tonight'
        f'<span class="key" style="background:var(--then)"></span>'
        f"{before}</p>"
    )
    yield '<div class="charts">'
    for name, facts in drift["measures"].items():
        yield measure(name, facts)
    yield "</div>"


def _steps(report: Facts) -> Iterator[str]:
    yield "<h2>Steps</h2>"
    rows = []
    for step in report["throughput"]:
        if step["not_done"]:
            rows.append((step["step"], escape(step["not_done"]), "", ""))
            continue
        count = "" if step["count"] is None else f"{step['count']:,} {step['of']}"
        rate = "" if step["per_s"] is None else _rate(step["per_s"])
        rows.append((step["step"], count, _clock(step["seconds"]), rate))
    yield table(("step", "what", "#time", "#rate"), rows)


def _searches(report: Facts) -> Iterator[str]:
    searches = [(n, s) for n, s in report["steps"].get("identify", {}).items() if isinstance(s, dict)]
    if not searches:
        return
    yield "<h2>Who was seen</h2>"
    rows = [
        (
            escape(name.replace("-", " ")),
            f"{each['probes']:,}",
            f"{each['identified']:,}",
            f"{each['strangers']:,}",
            f"{each['threshold']:.3f}",
        )
        for name, each in searches
    ]
    yield table(("searched", "#probes", "#identified", "#strangers", "#similarity from"), rows)


def _lists(report: Facts) -> Iterator[str]:
    shown = [(kind, names) for kind, names in report["lists"].items() if kind in _LISTS]
    if not shown:
        return
    yield '<h2>Which</h2><div class="card">'
    for kind, names in shown:
        title, where, count = _LISTS[kind]
        steps = report["steps"]
        total = _totals(steps, where)[count]
        more = f"<code>and {total - len(names):,} more</code>" if total > len(names) else ""
        ids = "".join(f"<code>{escape(name)}</code>" for name in names)
        yield f"<details><summary>{total:,} {title}</summary>{ids}{more}</details>"
    yield "</div>"


def _totals(steps: Facts, where: str) -> Facts:
    if where == "doubted":
        found = steps["consolidate"].get("doubted") or {}
        return {"unlike_own": 0, "like_another": 0, **found}
    if where == "gated":
        return dict(steps["consolidate"]["gated"])
    totals: Facts = steps[where] if where in ("scan", "enroll") else steps["differences"][where]
    return totals


def _clock(seconds: float) -> str:
    for least, divisor, unit in ((5400, 3600, "h"), (90, 60, "min")):
        if seconds >= least:
            return f"{seconds / divisor:,.1f} {unit}"
    return f"{seconds:.1f} s"


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}/s" if per_s >= 100 else f"{per_s:.1f}/s"


def bar(value: float, mark: float, most: float) -> str:
    """Render a bar with a mark for the night before."""
    now, then = (100 * each / most if most else 0 for each in (value, mark))
    tick = f'<u style="left:min({then:.1f}%, calc(100% - 2px))"></u>' if mark else ""
    return f'<div class="bar"><i style="width:{now:.1f}%"></i>{tick}</div>'


def measure(name: str, facts: dict[str, Any]) -> str:
    """Render one measure: its verdict, both distributions, and their distance."""
    verdict, before, tonight = facts["verdict"], facts["before"], facts["tonight"]
    if facts["distance"] is None:
        apart = f"{counted(tonight['count'], 'values')} tonight, {before['count']:,} before"
    else:
        apart = f"distance {facts['distance']:.3f}; by chance up to {facts['chance']:.3f}"
    drawn = _share(tonight, before) if name in SHARES else _histogram(facts)
    return (
        f'<div class="card"><header><h3>{escape(_NAMES.get(name, name))}</h3>'
        f'<span class="chip {_CHIPS[verdict]}">{verdict}</span></header>{drawn}<p>{apart}</p></div>'
    )


def _share(tonight: dict[str, Any], before: dict[str, Any]) -> str:
    """Render a share as two bars, tonight and before: it has no distribution to draw."""
    most = max(tonight["mean"] or 0, before["mean"] or 0, 1e-9)
    rows = []
    for y, style, each in ((8, "then", before), (38, "tonight", tonight)):
        share = each["mean"]
        fill = ' class="then"' if style == "then" else ' style="fill:var(--now)"'
        text = "no nights before" if share is None else f"{share:.2%}"
        rows.append(
            f'<rect x="0" y="{y}" height="20" rx="3" width="{(share or 0) / most * 160:.1f}"{fill}/>'
            f'<text x="{(share or 0) / most * 160 + 8:.1f}" y="{y + 14}">{text}</text>'
        )
    return f'<svg viewBox="0 0 {_WIDTH} 66" role="img" aria-label="shares">{"".join(rows)}</svg>'


def _histogram(facts: dict[str, Any]) -> str:
    then, now = facts["before_shares"], facts["tonight_shares"]
    most = max([*then, *now, 1e-9])
    low, high = facts["edges"]
    width = _WIDTH / len(then)
    bars = "".join(
        f'<rect class="then" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_FLOOR - y:.1f}"/>'
        for x, y in _points(then, most)
        if y < _FLOOR
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="distribution">{bars}'
        f'<path class="now" d="{_outline(now, most)}"/>'
        f'<line class="base" x1="0" y1="{_FLOOR}" x2="{_WIDTH}" y2="{_FLOOR}"/>'
        f'<text x="0" y="{_HEIGHT - 2}">{low:.2f}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT - 2}" text-anchor="end">{high:.2f}</text></svg>'
    )


def _points(shares: Sequence[float], most: float) -> list[tuple[float, float]]:
    step = _WIDTH / len(shares)
    return [(number * step, _FLOOR - share / most * (_FLOOR - 4)) for number, share in enumerate(shares)]


def _outline(shares: Sequence[float], most: float) -> str:
    step = _WIDTH / len(shares)
    steps = "".join(f"L{x:.1f},{y:.1f}L{x + step:.1f},{y:.1f}" for x, y in _points(shares, most))
    return f"M0,{_FLOOR}{steps}L{_WIDTH},{_FLOOR}"
