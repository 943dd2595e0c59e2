"""The look of the page: light, dark, narrow and printed."""

from __future__ import annotations

from frpipe.evaluation.plots.style import ROLES, SERIES

_MORE = {
    "paper": ("#f4f6f9", "#14181f"),
    "accent": ("#0b5c94", "#79c0f2"),
    "warn": ("#8a4b00", "#f2b866"),
    "warn-card": ("#fff6e6", "#2e2617"),
    "good": ("#17683f", "#5ccf94"),
}
_RULES = """
* { box-sizing: border-box }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100% }
body { margin: 0; padding: 0 24px 64px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "Noto Sans", "Liberation Sans", sans-serif }
main, header.top { max-width: 1240px; margin: auto }
header.top { padding: 40px 0 8px }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; overflow-wrap: anywhere }
h2 { font-size: 20px; margin: 44px 0 4px; letter-spacing: -0.005em }
h3 { font-size: 15px; margin: 0 0 8px; overflow-wrap: anywhere }
p { max-width: 82ch } li { max-width: 112ch }
p { margin: 4px 0 }
.note { font-size: 13px; margin-top: 12px }
.dim, figcaption, td small, .tile small, dd { color: var(--dim) }
a { color: var(--accent) }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 14px 0 0; padding: 0 }
.card, figure.plot, .system { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 20px; margin: 14px 0 0; min-width: 0 }
.card ul:not(.pairs) { margin: 6px 0 0; padding-left: 20px }
.card li { margin: 4px 0; overflow-wrap: anywhere }
.warn { background: var(--warn-card); border-color: var(--warn) }
.warn h3 { color: var(--warn) }
.systems, .plots { display: grid; gap: 14px; margin-top: 14px }
.systems { grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)) }
.plots { grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); }
.systems > *, figure.plot { margin: 0 }
.tiles { display: grid; gap: 16px 18px; grid-template-columns: repeat(auto-fit, minmax(116px, 1fr)) }
.tile { min-width: 0 }
.tile b { display: block; font-size: 24px; line-height: 1.25; font-variant-numeric: tabular-nums }
.tile b.none { font-size: 15px; color: var(--warn) }
.tile span { display: block; font-size: 13px }
.tile small { display: block; font-size: 12.5px; font-variant-numeric: tabular-nums }
svg.key { width: 34px; height: 10px; vertical-align: baseline; margin-right: 8px; overflow: visible }
figure.plot h3 { font-size: 16px }
figure.plot > svg { display: block; width: 100%; max-width: 520px; height: auto; margin: 0 auto }
figure.plot > svg * { stroke-linejoin: round; stroke-linecap: butt }
figure.plot svg text { font-family: system-ui, "Segoe UI", "Noto Sans", "Liberation Sans", sans-serif }
figcaption { font-size: 13px; margin-top: 10px }
details { margin-top: 10px; font-size: 13px }
summary { cursor: pointer; color: var(--accent); padding: 4px 0 }
.scroll { overflow-x: auto; margin-top: 8px }
.scroll:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--accent);
  outline-offset: 2px }
table { border-collapse: collapse; width: 100%; font-size: 13.5px }
details table { font-size: 12.5px }
caption { text-align: left; padding-bottom: 6px; color: var(--dim) }
th, td { text-align: left; vertical-align: top; padding: 7px 18px 7px 0; border-top: 1px solid var(--line) }
thead th { border-top: 0; border-bottom: 1px solid var(--dim); vertical-align: bottom }
tbody th { font-weight: 500; min-width: 132px }
td { font-variant-numeric: tabular-nums }
td b { font-weight: 600; white-space: nowrap }
td small, th small { display: block; font-size: 12.5px; font-weight: 400 }
.scroll + .scroll { margin-top: 26px }
.none { color: var(--warn) }
.sure { color: var(--good); font-weight: 600 }
dl { display: grid; grid-template-columns: minmax(150px, max-content) 1fr; gap: 10px 22px; margin: 16px 0 0;
  font-size: 14px }
dt { font-weight: 600 }
dt small { display: block; font-weight: 400; color: var(--dim) }
dd { margin: 0; overflow-wrap: anywhere }
code { font: 12px/1.5 ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", monospace; overflow-wrap: anywhere }
ul.pairs { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr));
  margin: 8px 0 20px; padding: 0; list-style: none }
.pairs li { display: flex; gap: 8px; flex-wrap: wrap; font-size: 12.5px; align-content: flex-start }
.pairs figure { margin: 0; flex: 1 1 96px; min-width: 0; overflow-wrap: anywhere }
.pairs img { width: 100%; max-width: 160px; border-radius: 6px; display: block }
.pairs b { flex: 1 0 100%; font-variant-numeric: tabular-nums }
@media (max-width: 560px) {
  body { padding: 0 12px 40px } h1 { font-size: 24px } header.top { padding-top: 22px }
  .card, figure.plot, .system { padding: 14px 12px }
  dl { grid-template-columns: 1fr; gap: 2px } dd { margin-bottom: 10px }
  table, tbody, tr, tbody th, td, caption { display: block }
  thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden }
  tbody tr { border-top: 1px solid var(--line); padding: 10px 0 }
  tbody th, td { border: 0; padding: 0 } tbody th { font-weight: 600; margin-bottom: 4px }
  td { padding: 4px 0 4px 12px } td::before { content: attr(data-of); display: block; font-size: 12px;
    color: var(--dim) }
  td:empty { display: none }
}
@page { margin: 14mm }
@media print {
  body { padding: 0; background: none; font-size: 10pt } header.top { padding-top: 0 }
  nav, figure details, details > summary { display: none }
  details::details-content { content-visibility: visible; block-size: auto }
  .scroll { overflow: visible }
  .plots { grid-template-columns: 1fr 1fr } .plots > *, .system, tr, .pairs li { break-inside: avoid }
  h2, h3, caption, .card > p { break-after: avoid }
  .systems { grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)) } .tile b { font-size: 17px }
  .card, figure.plot, .system { padding: 10px 12px }
  table { font-size: 8.5pt } td small, th small, .tile small { font-size: 7.5pt }
  th, td { padding-right: 10px } thead { display: table-header-group }
}
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto } }
"""


def style() -> str:
    """Write all CSS. Paper is light whatever the screen was."""
    colours = {
        **ROLES,
        **{f"s{place}": pair for place, pair in enumerate(SERIES, 1)},
        **_MORE,
    }
    light, dark = ("; ".join(f"--{name}: {pair[side]}" for name, pair in colours.items()) for side in (0, 1))
    return (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n{_RULES}"
    )
