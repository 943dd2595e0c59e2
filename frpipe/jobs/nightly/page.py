"""The page of a night: its report in, HTML out. All texts are escaped; nothing is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from frpipe.jobs.nightly.charts import bar, measure
from frpipe.jobs.nightly.gates import shown
from frpipe.jobs.nightly.style import STYLE
from frpipe.jobs.nightly.summary import notes

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
    "photo_vanished": ("photos that have vanished", "scan", "vanished"),
}


def page(report: Facts) -> str:
    """The whole page."""
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
            turned = f"{enroll['photos_turned']:,} photos lay turned"
            yield _tile(enroll["faces_refused"], "faces refused", turned)
        was = _was(f"{before['rejected'] / before['rows']:.2%}" if before.get("rows") else None)
        yield _tile(f"{enroll['rejected'] / enroll['rows']:.2%}", "rejected", was)
    people, gallery, clusters = (changes.get(name) for name in ("people", "gallery", "clusters"))
    if people and gallery:
        gone = f"{people['person_gone']:,} gone, {gallery['people']:,} in all"
        yield _tile(people["person_new"], "new people", gone)
    done = steps.get("consolidate", {})
    if "superseded" in done:
        unread = f"{done['unread']:,} photos could not be read, and keep theirs"
        yield _tile(done["superseded"], "templates superseded", unread)
    if "clusters" in steps.get("dedup", {}):
        total = steps["dedup"]["clusters"]
        if clusters:
            fresh = clusters["cluster_new"] + clusters["cluster_grown"]
            yield _tile(
                fresh, "new duplicates", f"{clusters['cluster_gone']:,} gone, {total:,} clusters in all"
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
    if outside := scan.get("links_outside"):
        note += f"; {outside:,} links that lead out of the folder are not followed"
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
    yield _table(("gate", "#limit", "#tonight", "#"), rows) if rows else _card("No gates are set.")


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
        _table(("reason", "mark: last night", "#tonight", "#last night"), rows)
        if rows
        else _card("No photo was rejected.")
    )


def _drift(drift: Facts) -> Iterator[str]:
    if "measures" not in drift:
        return
    nights = drift["nights"]
    before = f"{len(nights)} nights since {escape(nights[0])}" if nights else "no night to compare with yet"
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
    yield _table(("step", "what", "#time", "#rate"), rows)


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
    yield _table(("searched", "#probes", "#identified", "#strangers", "#similarity from"), rows)


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
    totals: Facts = steps["scan"] if where == "scan" else steps["differences"][where]
    return totals


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Heads that begin with # are of numbers. Cells are HTML."""
    numbers = [head.startswith("#") for head in heads]
    top = "".join(_cell("th", head.lstrip("#"), is_n) for head, is_n in zip(heads, numbers, strict=True))
    body = "".join(
        f"<tr>{''.join(_cell('td', cell, is_n) for cell, is_n in zip(row, numbers, strict=True))}</tr>"
        for row in rows
    )
    return f'<div class="card scroll"><table><tr>{top}</tr>{body}</table></div>'


def _cell(tag: str, content: str, is_number: bool) -> str:
    return f"<{tag}{' class=n' if is_number else ''}>{content}</{tag}>"


def _card(words: str) -> str:
    return f'<div class="card"><p>{words}</p></div>'


def _clock(seconds: float) -> str:
    for least, divisor, unit in ((5400, 3600, "h"), (90, 60, "min")):
        if seconds >= least:
            return f"{seconds / divisor:,.1f} {unit}"
    return f"{seconds:.1f} s"


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}/s" if per_s >= 100 else f"{per_s:.1f}/s"
