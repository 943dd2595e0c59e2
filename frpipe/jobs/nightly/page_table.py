"""Render tables of a night's page."""

from __future__ import annotations

from collections.abc import Iterable


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Render a table. Cells are HTML; a head that begins with # is of a column of numbers."""
    numbers = [head.startswith("#") for head in heads]
    top = "".join(_cell("th", head.lstrip("#"), is_n) for head, is_n in zip(heads, numbers, strict=True))
    body = "".join(
        f"<tr>{''.join(_cell('td', cell, is_n) for cell, is_n in zip(row, numbers, strict=True))}</tr>"
        for row in rows
    )
    return f'<div class="card scroll"><table><tr>{top}</tr>{body}</table></div>'


def _cell(tag: str, content: str, is_number: bool) -> str:
    return f"<{tag}{' class=n' if is_number else ''}>{content}</{tag}>"


def card(words: str) -> str:
    """Render a line of text on a card."""
    return f'<div class="card"><p>{words}</p></div>'
