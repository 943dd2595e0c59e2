"""Two configurations of nights that publish into one root: each has the rows that it would have alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lake_nights import Place, rows, tiny_models

from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.lifecycle import Suppressing

NAMES = ("one", "two")
NIGHTS = ("2026-03-01", "2026-03-02")
WHO = "p2"
"""Of the same id in both galleries, and another person in each."""
ORDERS = (NAMES, NAMES[::-1], (*NAMES, *NAMES))
Rows = dict[str, list[str]]


class Nights:
    """Nights of two configurations with the same ids and probes; each watches the other's gallery."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places = {name: Place(root / name) for name in NAMES}
        self.door = Place(root / "door")

    def gallery(self, name: str) -> Gallery:
        return Gallery.open(str(self.places[name].root / "people"))

    def sections(self, name: str, *, watches: bool = True) -> dict[str, Any]:
        found: dict[str, Any] = {"probes": str(self.root / "door/album"), "gallery": {"threshold": 0.9}}
        if watches:
            (other,) = set(NAMES) - {name}
            found["watch_list"] = {"uri": str(self.places[other].root / "people"), "threshold": 0.9}
        return {"identify": found}

    def make(self) -> None:
        for number, night in enumerate(NIGHTS):
            for at, place in enumerate(self.places.values()):
                for person in (1, 2):
                    place.draw(f"p{person}/{number}.png", 10 * at + person, number)
                # The same face under another id: people who are alike.
                place.draw(f"twin/{number}.png", 10 * at + 2, number + 3)
                self.door.draw(f"{number}-{at}.png", 10 * at + 2, number + 6)
            for name, place in self.places.items():
                place.night(night, **self.sections(name, watches=number > 0))

    def publish(self, tables: Path, *names: str) -> Rows:
        for name in names:
            self.places[name].publish(str(tables), self.sections(name))
        return rows(str(tables), times=True)

    def apart(self, place: Path) -> Rows:
        """The rows of two roots, one of each configuration, together."""
        first, second = (self.publish(place / f"of-{name}", name) for name in NAMES)
        return {name: sorted(first[name] + second[name]) for name in first}


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nights]:
    root = tmp_path_factory.mktemp("two")
    with tiny_models(root):
        made = Nights(root)
        made.make()
        yield made


def test_one_root_holds_what_two_would(nights: Nights, tmp_path: Path) -> None:
    wanted = nights.apart(tmp_path)
    for name in ("photos", "faces", "matches", "duplicates", "duplicate_members", "people", "runs"):
        assert wanted[name], name
    for number, order in enumerate(ORDERS):
        assert nights.publish(tmp_path / f"tables-{number}", *order) == wanted, order


def test_whom_one_gallery_suppresses_stays_in_the_clusters_and_candidates_of_the_other(
    nights: Nights, tmp_path: Path
) -> None:
    before = nights.publish(tmp_path / "tables", *NAMES)
    gallery, other = (nights.gallery(name) for name in NAMES)
    for each in (gallery, other):
        for table in ("matches", "duplicate_members"):
            assert _naming(before[table], each.gallery_id), table
    lifecycle.delete(gallery, [WHO], suppress=Suppressing())
    wanted = nights.apart(tmp_path)
    for table in ("matches", "duplicate_members"):
        assert not _naming(wanted[table], gallery.gallery_id), table
        assert _naming(wanted[table], other.gallery_id) == _naming(before[table], other.gallery_id), table
    assert nights.publish(tmp_path / "tables", *NAMES) == wanted
    for number, order in enumerate(ORDERS):
        assert nights.publish(tmp_path / f"tables-{number}", *order) == wanted, order


def _naming(found: list[str], gallery: str) -> list[str]:
    """Rows of a gallery that name the person."""
    return [row for row in found if gallery in row and f"'{WHO}'" in row]
