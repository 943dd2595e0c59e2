"""The look of the page of a night."""

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
