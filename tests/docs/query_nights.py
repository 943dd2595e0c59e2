"""Nights of people who are seen together and spoilt photos, published in both layouts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from doc_place import draw, frpipe, write_rows

PLACES = {"runs": "nights", "photos": "album", "gallery": "night.gallery"}
SETTINGS = {
    "dedup": {"threshold": 0.99},
    "identify": {"gallery": {"threshold": 0.8}},
    "drift": {"least_values": 3},
    "gates": {"max_vanished_ratio": None, "min_photos": 5},
    "cost": {"node_hour": 2.0},
}
# Of each night, whose photos are new, and who is with them on another.
NIGHTS = {
    "2026-03-01": ("anna", "bela"),
    "2026-03-20": ("anna", "cleo"),
    "2026-05-10": ("bela", "anna"),
    "2026-05-11": ("cleo", "bela"),
}
BROKEN = "2026-03-20"
"""The night of which a gate does not hold."""


def configure(path: str = "night.yaml", **settings: object) -> None:
    """Write the configuration of the nights."""
    Path(path).write_text(yaml.safe_dump({**PLACES, **SETTINGS, **settings}))


def album(date: str) -> None:
    """What is new on a night: photos of up to three people, and two spoilt ones; the third lacks some."""
    number = [*NIGHTS].index(date)
    who, beside = NIGHTS[date]
    for name in (who, beside):
        draw(Path(f"album/{name}/{number}.png"), (name, number))
    both = draw(Path(f"album/{who}/both{number}.png"), (beside, number), (who, number))
    draw(
        Path(f"album/{who}/three{number}.png"), ("anna", number + 4), ("bela", number + 4), (who, number + 4)
    )
    Path(f"album/{beside}/spoilt{number}.png").write_bytes(b"no photo" * (number + 1))
    Path(f"album/{beside}/cut{number}.png").write_bytes(both.read_bytes()[:-400])
    if number == 2:
        Path("album/anna/1.png").unlink()
        Path("album/cleo/spoilt1.png").unlink()


def night(date: str) -> None:
    """A night over the album as it is, with what is new."""
    album(date)
    words = ("run", "nightly", "--config", "night.yaml", "--date", date)
    if date != BROKEN:
        frpipe(*words)
        return
    configure(gates={**SETTINGS["gates"], "min_photos": 100})
    with pytest.raises(AssertionError, match="exit code 16"):
        frpipe(*words)
    configure()


def nights() -> None:
    """All of them, not published yet."""
    configure()
    for date in NIGHTS:
        night(date)


def later_night(date: str) -> None:
    """A night over a table, with a column of its own and a second embedder, of the same source of photos."""
    rows: list[tuple[object, ...]] = [("image_id", "image_uri", "subject_id", "department")]
    for name in ("anna/2.png", "bela/9.png", "cleo/both3.png", "bela/spoilt3.png", "bela/cut3.png"):
        who = name.partition("/")[0]
        path = Path("album") / name
        if "9" in name:
            draw(path, ("anna", 9), (who, 9))
        elif "cut" in name:
            path.write_bytes(b"")
        rows.append((name, str(path.absolute()), who, f"of {who}"))
    write_rows(Path("later.csv"), rows)
    settings = {"embed": [{"model": "sface_2021dec"}, {"model": "edgeface_xs_q"}]}
    photos = {"manifest": str(Path("later.csv").absolute())}
    configure("later.yaml", runs="later", photos=photos, settings=settings)
    frpipe("run", "nightly", "--config", "later.yaml", "--date", date)
