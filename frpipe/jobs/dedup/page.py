"""Render the page to review duplicates: data in, HTML out. All texts are escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from frpipe.core.counted import counted
from frpipe.jobs.dedup.report import source_text
from frpipe.jobs.dedup.schema import SAME_PERSON

_WORDS = {True: "same person?", False: "same photo"}

_STYLE = """
:root { --ink: #1d2430; --dim: #66707f; --line: #dde1e8; --paper: #f5f6f8; --card: #fff; --keep: #1c7a45;
  --person: #a8431f; --photo: #2b5fb4; --tile: #e4e7ec }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --dim: #98a2b1; --line: #333a46; --paper: #14181f; --card: #1d222b; --keep: #5cc98a;
    --person: #f0936e; --photo: #85b0f5; --tile: #2a303b } }
* { box-sizing: border-box }
body { margin: 0; padding: 24px; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, "Segoe UI", "Noto Sans", sans-serif }
main { max-width: 1240px; margin: auto }
h1 { font-size: 22px; margin: 0 0 4px }
h2 { font-size: 17px; margin: 28px 0 4px }
p { margin: 2px 0; color: var(--dim); max-width: 80ch }
.grid { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(372px, 1fr));
  margin-top: 12px }
article { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px;
  min-width: 0 }
article.wide { grid-column: 1 / -1 }
header { display: flex; gap: 10px; align-items: baseline; margin-bottom: 10px }
header b { font-size: 20px; font-variant-numeric: tabular-nums }
.person { color: var(--person) } .photo { color: var(--photo) }
code { margin-left: auto; color: var(--dim); font-size: 12px }
.tiles { display: flex; flex-wrap: wrap; gap: 12px }
figure { margin: 0; width: 160px }
figure > div { width: 160px; height: 160px; background: var(--tile); border-radius: 5px; display: grid;
  place-items: center; overflow: hidden; color: var(--dim); font-size: 13px }
figure.keep > div { outline: 3px solid var(--keep); outline-offset: -3px }
figure img { max-width: 100%; max-height: 100%; display: block }
figure.keep img { clip-path: inset(3px round 3px) }
figcaption { margin-top: 5px; font-size: 13px; overflow-wrap: anywhere }
figcaption span { display: block; color: var(--dim) }
figcaption em { font-style: normal; font-weight: 600; color: var(--keep) }
ul { list-style: none; margin: 12px 0 0; padding: 8px 0 0; border-top: 1px solid var(--line);
  font-size: 13px }
li { display: flex; gap: 8px; overflow-wrap: anywhere }
li i { font-style: normal; margin-left: auto; white-space: nowrap; font-variant-numeric: tabular-nums }
@media (max-width: 440px) { body { padding: 12px } .grid { grid-template-columns: 1fr } }
@media print { article { break-inside: avoid } }
"""


@dataclass(frozen=True, slots=True)
class Member:
    """A subject of a cluster. picture: a JPEG in base64; None where there is none."""

    subject_id: str
    quality: float | None
    keeper: bool
    picture: str | None


@dataclass(frozen=True, slots=True)
class Link:
    """Two subjects and their most similar pair."""

    subject_a: str
    subject_b: str
    similarity: float
    kind: str


@dataclass(frozen=True, slots=True)
class ShownCluster:
    """A cluster as it is shown. members, links: some of them; size and more_links count the others."""

    cluster_id: str
    size: int
    mean: float | None
    weak: bool
    members: Sequence[Member]
    links: Sequence[Link]
    more_links: int

    @property
    def to_judge(self) -> bool:
        """Whether the cluster links different photos."""
        return any(link.kind == SAME_PERSON for link in self.links)

    @property
    def best(self) -> float:
        """The similarity to sort by: the best of different photos, or else of one photo."""
        some = [link.similarity for link in self.links if (link.kind == SAME_PERSON) == self.to_judge]
        return max(some, default=0.0)


def page(report: dict[str, Any], groups: Sequence[ShownCluster]) -> str:
    """Render the whole page, which loads nothing from elsewhere."""
    return "\n".join(_page(report, groups))


def _page(report: dict[str, Any], groups: Sequence[ShownCluster]) -> Iterator[str]:
    threshold = report["threshold"]
    yield '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="robots" content="noindex"><title>Duplicates to review</title>'
    yield f"<style>{_STYLE}</style></head><body><main><h1>Duplicates to review</h1>"
    yield f"<p>{escape(source_text(report))}</p>"
    yield (
        f"<p>similarity &ge; {threshold['similarity']:.4f} (distance &le; {threshold['distance']:.4f}); "
        f"{counted(report['same_person'], 'pairs')} of different photos, "
        f"{report['same_photo']:,} of one photo; "
        f"{len(groups):,} of {report['clusters']:,} clusters are shown.</p>"
    )
    yield "<p>A similarity is no proof. Look at both photos before anybody is deleted.</p>"
    yield from _section(
        "Different photos, different ids", "One person twice, or two who look alike.", groups, True
    )
    yield from _section(
        "One photo, different ids", "The same picture, or nearly: one of the ids is wrong.", groups, False
    )
    yield "</main></body></html>"


def _section(title: str, note: str, groups: Sequence[ShownCluster], to_judge: bool) -> Iterator[str]:
    mine = [group for group in groups if group.to_judge == to_judge]
    if mine:
        yield f'<h2>{title}</h2><p>{note}</p><div class="grid">'
        for group in mine:
            yield from _article(group)
        yield "</div>"


def _article(group: ShownCluster) -> Iterator[str]:
    yield f"<article{' class=wide' if len(group.members) > 2 else ''}><header>"
    kind = "person" if group.to_judge else "photo"
    yield f'<b>{group.best:.4f}</b> <span class="{kind}">{_WORDS[group.to_judge]}</span>'
    if group.size > 2:
        mean = "" if group.mean is None else f", mean {group.mean:.4f}"
        yield f"<span>{counted(group.size, 'subjects')}{mean}{', weakly linked' if group.weak else ''}</span>"
    yield f'<code>{escape(group.cluster_id)}</code></header><div class="tiles">'
    for member in group.members:
        yield _figure(member)
    yield "</div>"
    if len(group.members) > 2:
        yield from _links(group)
    yield "</article>"


def _figure(member: Member) -> str:
    picture = (
        "photo not readable"
        if member.picture is None
        else f'<img alt="" src="data:image/jpeg;base64,{member.picture}">'
    )
    quality = "unknown" if member.quality is None else f"{member.quality:.2f}"
    return (
        f"<figure{' class=keep' if member.keeper else ''}><div>{picture}</div><figcaption>"
        f"{escape(member.subject_id)}<span>quality {quality}</span>"
        f"{'<em>suggested keeper</em>' if member.keeper else ''}</figcaption></figure>"
    )


def _links(group: ShownCluster) -> Iterator[str]:
    yield "<ul>"
    for link in group.links:
        kind = "person" if link.kind == SAME_PERSON else "photo"
        words = _WORDS[link.kind == SAME_PERSON]
        yield (
            f"<li>{escape(link.subject_a)} &ndash; {escape(link.subject_b)}"
            f'<i><span class="{kind}">{words}</span> {link.similarity:.4f}</i></li>'
        )
    if group.more_links:
        yield f"<li>and {group.more_links:,} more pairs</li>"
    yield "</ul>"
