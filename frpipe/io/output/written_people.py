"""Subject ids as a manifest writes them: those that are one person, and those that may be meant as one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from frpipe.core.text import alike, canonical_text

_SHOWN = 5


class WrittenPeople:
    """Takes subject ids. Memory: each distinct one, so for a check that somebody asks for."""

    def __init__(self) -> None:
        self._written: set[str] = set()

    def add(self, ids: Iterable[str | None]) -> None:
        """Take the ids of some rows; one that is missing is nobody's."""
        self._written.update(value for value in ids if value)

    def __len__(self) -> int:
        """The number of people: ids in Unicode NFC."""
        return len(set(map(canonical_text, self._written)))

    def remarks(self) -> Iterator[str]:
        """What whoever asked should know, in lines; a few of the ids are named, as ASCII."""
        forms: dict[str, list[str]] = {}
        for text in sorted(self._written):
            forms.setdefault(canonical_text(text), []).append(text)
        several = [texts for texts in forms.values() if len(texts) > 1]
        if several:
            yield f"subject ids in several Unicode forms, one person each: {_named(several)}"
        meant = alike(forms)
        if meant:
            yield (
                "warning: subject ids that differ only in case, blanks, width or invisible characters, each "
                f"another person: {_named(meant)}"
            )


def _named(groups: list[list[str]]) -> str:
    more = f"; ... ({len(groups):,} in all)" if len(groups) > _SHOWN else ""
    return "; ".join(" and ".join(map(ascii, group)) for group in groups[:_SHOWN]) + more
