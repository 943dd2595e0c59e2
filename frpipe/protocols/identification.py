"""Identification protocols: a gallery of photos to enrol, and probes, mated and non-mated, to search with."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from frpipe.core.counted import counted
from frpipe.core.errors import ManifestError
from frpipe.core.text import canonical_text
from frpipe.io.manifest.columns import SUBJECT
from frpipe.protocols.labelled import MATED as MATED_COLUMN
from frpipe.protocols.labelled import LabelledPhotos
from frpipe.protocols.protocol import Protocol, SourceFile, publish, resolution
from frpipe.protocols.source import Source
from frpipe.protocols.split import GALLERY, MATED, NONMATED, UNUSED, Roles, Split

_OPEN = "open set: FNIR at thresholds that the non-mated probes set (FPIR), and at those of a card"
_CLOSED = "closed set: everybody is enrolled, there is no threshold; the share of mates within rank k"


_IMAGE, _SUBJECT = ("image", "image_id"), ("subject", "subject_id")


@dataclass(frozen=True, slots=True)
class Division:
    """A manifest, divided. roles: (n,) of the photos, for each repeat.  subjects: who is on them."""

    labelled: LabelledPhotos
    subjects: list[str | None]
    roles: Mapping[str, Roles]
    settings: Mapping[str, Any]
    sources: list[SourceFile]

    def write(self, name: str, place: str, *, closed: bool, csv: bool = False) -> Protocol:
        """Write gallery and probes, of several repeats each in a folder of its own, and the protocol.

        Raises ManifestError: a repeat without gallery, mated probes or, in an open set, non-mated ones; a
        closed set with non-mated probes.
        """
        folds = {label: self._counts(roles, closed) for label, roles in self.roles.items()}
        tables: dict[str, pa.Table] = {}
        for label, roles in self.roles.items():
            prefix = f"repeat-{label}/" if len(self.roles) > 1 else ""
            tables[f"{prefix}gallery"], tables[f"{prefix}probes"] = self._tables(roles)
        protocol = Protocol(
            kind="identification",
            name=name,
            threshold="none" if closed else "outside",
            rules=[_CLOSED if closed else _OPEN, "a failed search is a miss, a failed enrolment stays in N"],
            counts=self._total(folds),
            folds=folds,
            files={f"{key}.parquet": table.num_rows for key, table in tables.items()},
            sources=self.sources,
            settings=dict(self.settings),
            notes=_notes(folds, closed),
        )
        publish(protocol, tables, place, csv=csv)
        return protocol

    def _tables(self, roles: Roles) -> tuple[pa.Table, pa.Table]:
        rows = self.labelled.rows
        place = rows.column_names.index(SUBJECT)
        rows = rows.set_column(place, SUBJECT, pa.array(self.subjects, pa.string()))
        searched = (roles == MATED) | (roles == NONMATED)
        probes = rows.filter(pa.array(searched))
        probes = probes.append_column(MATED_COLUMN, pa.array(roles[searched] == MATED))
        return rows.filter(pa.array(roles == GALLERY)), probes

    def _counts(self, roles: Roles, closed: bool) -> dict[str, int]:
        people = np.array([subject or "" for subject in self.subjects])
        counts = {}
        for name, role in (("gallery", GALLERY), ("mated", MATED), ("nonmated", NONMATED)):
            counts[name] = int((roles == role).sum())
            counts[f"{name}_subjects"] = len(np.unique(people[roles == role]))
        counts["unused"] = int((roles == UNUSED).sum())
        _refuse(counts, closed)
        return counts

    def _total(self, folds: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
        first = next(iter(folds.values()))
        whole = {"photos": len(self.subjects), "unlabelled": sum(who is None for who in self.subjects)}
        return {**whole, "repeats": len(folds)} if len(folds) > 1 else {**whole, **first}


def by_hash(labelled: LabelledPhotos, split: Split, repeats: int = 1) -> Division:
    """Divide a manifest by hashes of its ids; repeats are independent of each other. See `Split`."""
    images, subjects = labelled.images, labelled.subjects
    roles = {f"{number:02d}": split.roles(images, subjects, number) for number in range(1, repeats + 1)}
    settings = {**split.as_dict(), "repeats": repeats}
    return Division(labelled, subjects, roles, settings, labelled.sources)


def by_lists(labelled: LabelledPhotos, gallery: Source, probes: Source) -> Division:
    """Divide a manifest by lists that name photos by image_id or image_uri, and perhaps who is on them.

    Raises ManifestError, with line numbers: a photo that the manifest does not have, or that both lists
    have; a person that is not the manifest's; nobody's photo.
    """
    placing = _Placing(labelled)
    placing.add(gallery, GALLERY)
    placing.add(probes, NONMATED)
    files = [*labelled.sources, *(SourceFile(**source.as_dict()) for source in (gallery, probes))]
    return Division(labelled, placing.subjects, {"01": placing.finished()}, {}, files)


class _Placing:
    """Roles and subjects of a manifest's photos, as lists name them."""

    def __init__(self, labelled: LabelledPhotos) -> None:
        self.subjects = labelled.subjects
        self._roles = np.full(len(self.subjects), UNUSED, np.int8)
        self._rows = {canonical_text(uri): row for row, uri in enumerate(labelled.written)}
        self._rows |= {image: row for row, image in enumerate(labelled.images)}

    def add(self, source: Source, role: int) -> None:
        """Give the listed photos this role, and their person where only the list knows it."""
        listed = read_images(source)
        source.refuse(
            [one.line for one in listed if one.image not in self._rows],
            "images that the manifest does not have",
            "name photos by image_id or image_uri of the manifest",
        )
        twice, other, nobody = [], [], []
        for one in listed:
            row = self._rows[one.image]
            known = self.subjects[row]
            if self._roles[row] != UNUSED:
                twice.append(one.line)
            if one.subject and known and one.subject != known:
                other.append(one.line)
            if not (one.subject or known):
                nobody.append(one.line)
            self.subjects[row], self._roles[row] = known or one.subject, role
        source.refuse(twice, "photos that are listed already", "a photo is enrolled or a probe, and once")
        source.refuse(other, "another person than in the manifest", "mend one of the two")
        source.refuse(nobody, "photos of nobody known", "give the person in the list or the manifest")

    def finished(self) -> Roles:
        """The roles, (n,): probes of people in the gallery are mated."""
        enrolled = {who for who, role in zip(self.subjects, self._roles, strict=True) if role == GALLERY}
        mate = np.array([who in enrolled for who in self.subjects], bool)
        self._roles[(self._roles == NONMATED) & mate] = MATED
        return self._roles


def _refuse(counts: Mapping[str, int], closed: bool) -> None:
    needed = ("gallery", "mated") if closed else ("gallery", "mated", "nonmated")
    lacking = [name for name in needed if not counts[name]]
    if lacking:
        words = {"gallery": "photos for the gallery", "mated": "mated probes", "nonmated": "non-mated probes"}
        raise ManifestError(
            "the manifest gives no " + ", no ".join(words[name] for name in lacking),
            "label more photos, or change --strangers, --min-photos or the lists",
        )
    if closed and counts["nonmated"]:
        raise ManifestError(
            f"{counted(counts['nonmated'], 'probes are')} of people who are not in the gallery",
            "a closed set has no strangers: use open-set, or take them out of the list",
        )


def _notes(folds: Mapping[str, Mapping[str, int]], closed: bool) -> list[str]:
    fewest = min(folds.values(), key=lambda counts: counts["nonmated"])
    notes = [] if closed else [resolution(fewest["nonmated"], "non-mated probes", "FPIR")]
    if not closed:
        notes.append("probes of one person err together: intervals are over people, not over probes")
    if len(folds) > 1:
        notes.append("repeats share people and photos: their spread is of the split, no standard error")
    return notes


class ListedImage(NamedTuple):
    """An image of a list, in Unicode NFC. subject: None where the list does not say."""

    image: str
    subject: str | None
    line: int


def read_images(source: Source) -> list[ListedImage]:
    """Read a list of images.

    Of `.csv`: the columns image (or image_id) and, if there, subject (or subject_id). Of any other name: an
    image a line, or image, tab, subject; blanks belong to the names. Raises ManifestError: no column image,
    rows without an image, or an image listed twice.
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
