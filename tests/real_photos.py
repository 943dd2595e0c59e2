"""Photos of real people for tests: portraits out of the demo's photos, where LFW is not on this machine.

python tests/real_photos.py     fetch the demo's photos into the cache, once; `make test` does
"""

from __future__ import annotations

import sys
from itertools import cycle, islice
from pathlib import Path

import cv2
from matplotlib import get_data_path

from frpipe.jobs.demo import fetch_photos
from frpipe.models.registry import Registry

_PER_PERSON, _SIZE = 7, 250
# Where the faces are: left, top, right, bottom.
_FACES = {
    "Barack_Obama": {
        "president-1.jpg": (371, 91, 611, 420),
        "president-2.jpg": (201, 230, 477, 634),
        "president-3.jpg": (645, 274, 912, 620),
    },
    "Grace_Hopper": {"grace_hopper.jpg": (183, 120, 353, 333)},
    "Joe_Biden": {"vice-president.jpg": (428, 176, 715, 578)},
    "Stranger_1": {"six-strangers.jpg": (58, 264, 170, 399)},
    "Stranger_2": {"six-strangers.jpg": (459, 277, 572, 416)},
    "Stranger_3": {"six-strangers.jpg": (751, 347, 846, 473)},
    "Stranger_4": {"six-strangers.jpg": (907, 62, 1015, 203)},
    "Stranger_5": {"six-strangers.jpg": (274, 150, 373, 268)},
    "Stranger_6": {"six-strangers.jpg": (1133, 275, 1228, 399)},
}


def demo_photos() -> Path | None:
    """The folder of the demo's photos, or None where nobody has fetched them."""
    folder = Registry.default().cache.parent / "photos"
    return folder if (folder / "six-strangers.jpg").is_file() else None  # the last that is written


def cut_portraits(demo: Path, folder: Path) -> Path:
    """Make a folder for each person, as in LFW, of portraits that differ in place, size and light."""
    places = {"grace_hopper.jpg": Path(get_data_path()) / "sample_data"}
    for person, faces in _FACES.items():
        (folder / person).mkdir()
        for number, (name, face) in enumerate(islice(cycle(faces.items()), _PER_PERSON)):
            path = folder / person / f"{person}_{number + 1:04d}.jpg"
            _cut(places.get(name, demo) / name, face, number, path)
    return folder


def people_with(photos: int, folder: Path) -> list[list[Path]]:
    """Of the people in a folder who have so many photos: these, person by person."""
    found = [sorted(person.glob("*.jpg"))[:photos] for person in sorted(folder.iterdir())]
    return [[path.resolve() for path in some] for some in found if len(some) == photos]


def _cut(photo: Path, face: tuple[int, int, int, int], number: int, path: Path) -> None:
    left, top, right, bottom = face
    side = (bottom - top) * (1.5 + 0.04 * number)
    x, y = (left + right) / 2, (top + bottom) / 2 + side * 0.015 * (number % 3 - 1)
    pixels = cv2.getRectSubPix(cv2.imread(str(photo)), (round(side), round(side)), (x, y))
    pixels = cv2.resize(pixels, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(path), cv2.convertScaleAbs(pixels, alpha=1.1 - 0.05 * number))


if __name__ == "__main__":
    if demo_photos() is None:
        fetch_photos(Registry.default().cache.parent / "photos", lambda line: print(line, file=sys.stderr))  # noqa: T201
