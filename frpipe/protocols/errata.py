"""LFW's list of known errors, prose as published: photos and pairs that bear a wrong label.

Read are its statements `Name_0001 is incorrect`, `is actually`, `is an image of`, `is an incorrect spelling`;
its mated pairs, two lines `Name, number`; and `Name and Name are the same person`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from frpipe.core.errors import ManifestError
from frpipe.protocols.source import ListedPair, PhotoName, Source

Erratum = Literal["pair", "photo"]
_WRONG = re.compile(
    r"(?P<name>[^\s,(]+)_(?P<numbers>\d{4}(?:,\s*\d{4})*)\s+"
    r"(?:is|are)\s+(?:incorrect|actually|an?\s+(?:image|incorrect)|images)\b"
)
_SIDE = re.compile(r"^\s*(?P<name>[^,\d]+),\s+(?P<number>\d{1,4})(?!\d)")
_SAME = re.compile(r"(\S+)\s+and\s+(\S+)\s+are\s+the\s+same\s+person")


@dataclass(frozen=True, slots=True)
class Errata:
    """Known errors.

    photos: that bear a wrong name.  pairs: mated ones that are not.  people: two names of one person.
    """

    photos: frozenset[PhotoName]
    pairs: frozenset[frozenset[PhotoName]]
    people: frozenset[frozenset[str]]

    @classmethod
    def of(cls, source: Source) -> Errata:
        """Read the errors. Raises ManifestError: no statement of a known form."""
        text = source.text
        photos = frozenset(
            PhotoName(found["name"], int(number))
            for found in _WRONG.finditer(text)
            for number in re.findall(r"\d{4}", found["numbers"])
        )
        people = frozenset(frozenset(found.groups()) for found in _SAME.finditer(text))
        errata = cls(photos, _listed_pairs(source), people)
        if not (errata.photos or errata.pairs or errata.people):
            raise ManifestError(
                f"{source.name} states no error in a form that is known", "give LFW's errata as text"
            )
        return errata

    def of_pair(self, pair: ListedPair) -> Erratum | None:
        """Classify a pair.

        `pair`: its label is wrong.  `photo`: one of its photos bears a wrong name; the label may hold.
        """
        sides = frozenset((pair.a, pair.b))
        if sides in self.pairs or frozenset((pair.a.subject, pair.b.subject)) in self.people:
            return "pair"
        return "photo" if sides & self.photos else None


def _listed_pairs(source: Source) -> frozenset[frozenset[PhotoName]]:
    sides = [_side(line) for _, line in source.lines]
    pairs, index = set(), 0
    while index < len(sides) - 1:
        a, b = sides[index], sides[index + 1]
        paired = a is not None and b is not None and a.subject == b.subject
        if a is not None and b is not None and paired:
            pairs.add(frozenset((a, b)))
        index += 2 if paired else 1
    return frozenset(pairs)


def _side(line: str) -> PhotoName | None:
    found = _SIDE.match(line)
    return PhotoName(found["name"].strip().replace(" ", "_"), int(found["number"])) if found else None
