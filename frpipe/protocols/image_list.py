"""A list of photos in the user's own form: text or CSV, each with an image and, perhaps, its person."""

from __future__ import annotations

import csv
from typing import NamedTuple

from frpipe.core.errors import ManifestError
from frpipe.core.text import canonical_text
from frpipe.protocols.source import Source

_IMAGE, _SUBJECT = ("image", "image_id"), ("subject", "subject_id")


class ListedImage(NamedTuple):
    """Both in Unicode NFC. subject: None where the list does not say."""

    image: str
    subject: str | None
    line: int


def read_images(source: Source) -> list[ListedImage]:
    """Of `.csv`: the columns image (or image_id) and, if there, subject (or subject_id).

    Of any other name: an image a line, or image, tab, subject; blanks belong to the names.
    Raises ManifestError: no column image, rows without an image, or an image listed twice.
    """
    rows = _of_csv(source) if source.name.lower().endswith(".csv") else _of_text(source)
    source.refuse([row.line for row in rows if not row.image], "no image", "name one in every row")
    seen: set[str] = set()
    twice = [row.line for row in rows if row.image in seen or seen.add(row.image)]  # type: ignore[func-returns-value]
    source.refuse(twice, "an image is listed again", "list each once")
    return rows


def _of_text(source: Source) -> list[ListedImage]:
    fields = [(number, line.split("\t")) for number, line in source.lines]
    bad = [number for number, parts in fields if len(parts) > 2]
    source.refuse(bad, "more than image, tab, subject", "use one tab, or a .csv file")
    return [ListedImage(_id(p[0]), _text(p[1] if len(p) > 1 else ""), number) for number, p in fields]


def _of_csv(source: Source) -> list[ListedImage]:
    header, *rows = csv.reader(line for _, line in source.lines)
    image = next((header.index(name) for name in _IMAGE if name in header), None)
    subject = next((header.index(name) for name in _SUBJECT if name in header), None)
    if image is None:
        raise ManifestError(f"{source.name} has no column image", "give it a header line: image,subject")
    numbers = [number for number, _ in source.lines[1:]]
    if len(rows) != len(numbers):
        raise ManifestError(f"{source.name} has values that go over several lines", "keep a row on one line")
    bad = [number for number, row in zip(numbers, rows, strict=True) if len(row) != len(header)]
    source.refuse(bad, "more or fewer values than the header", "quote values that hold commas")
    return [
        ListedImage(_id(row[image]), _text(row[subject]) if subject is not None else None, number)
        for number, row in zip(numbers, rows, strict=True)
    ]


def _text(value: str) -> str | None:
    return _id(value) or None


def _id(value: str) -> str:
    return canonical_text(value.strip())
