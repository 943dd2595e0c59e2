"""Draw the contact sheet of an enroll output, from its rows and the photos they name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from frpipe.core.config import DecodeConfig
from frpipe.core.errors import ConfigError, OutputError
from frpipe.core.held import HELD_COLUMNS
from frpipe.core.left_out import subjects_lost
from frpipe.core.reasons import Reject
from frpipe.io.manifest.fetch import Fetcher
from frpipe.io.output.features import Features
from frpipe.io.output.plan import read_part
from frpipe.vision.align import align_photo
from frpipe.vision.decode import Photo, decode
from frpipe.vision.sheet import SheetTile, draw_sheet

_CROP_SIDE = 112
_SHOWN_CROPS = 6
_HELD = (
    *("face_id", "image_id", "box_x1", "box_y1", "box_x2", "box_y2", "landmarks"),
    *(column.name for column in HELD_COLUMNS),
)


def write_sheet(output: str, picture: Path, limit: int = 24, columns: int = 4, *, held: bool = False) -> int:
    """Write a PNG of the first `limit` photos of an enroll output; return the number of photos on it.

    held: of the first faces that are held back, a tile each, and their number.  Shows faces: treat the
    picture as you treat the photos. Raises OutputError if there is no output, or no face of it is held back.
    """
    if picture.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(
            f"a sheet is not written as {picture.suffix or 'a file without a suffix'}", "name a .png"
        )
    features = Features.at(output)
    tiles = list(islice(_held_tiles(features) if held else _tiles(features), limit))
    if held and not tiles:
        raise OutputError(f"no face of {output} is held back", "draw the photos: leave --held out")
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_sheet(tiles, columns)).save(picture)
    return len(tiles)


def _tiles(features: Features) -> Iterator[SheetTile]:
    fetcher = Fetcher((), 1, DecodeConfig().max_bytes)
    parts = features.some_parts()
    for part, (images, faces) in zip(parts, features.tables(parts=parts), strict=True):
        locations = read_part(features.folder, part)["location"].to_pylist()
        owners = faces["image_id"].to_numpy(zero_copy_only=False)
        lost = subjects_lost(images)
        why = [None] * len(images) if lost is None else lost.to_pylist()
        for image, location, reason in zip(images.to_pylist(), locations, why, strict=True):
            mine = faces.filter(pa.array(owners == image["image_id"]))
            yield _tile(image, mine, _photo(fetcher, location), reason)


def _held_tiles(features: Features) -> Iterator[SheetTile]:
    """Draw faces that are held back, in order, each in its photo."""
    fetcher = Fetcher((), 1, DecodeConfig().max_bytes)
    back = Features(features.folder, held=True)
    for part in features.some_parts() if features.holds else ():
        faces, plan = back.faces(part, _HELD), read_part(features.folder, part)
        locations = dict(zip(plan["image_id"].to_pylist(), plan["location"].to_pylist(), strict=True))
        for row, face in enumerate(faces.to_pylist()):
            title = str(face["face_id"]).rsplit("/", 1)[-1]
            note = f"{face['held_reason']}: {face['held_measure']} {face['held_value']:.4g}"
            note += f", limit {face['held_limit']:.4g}"
            photo = _photo(fetcher, locations[face["image_id"]])
            yield _marked(SheetTile(title, "no_face", note), faces.slice(row, 1), photo)


def _photo(fetcher: Fetcher, location: str) -> Photo | None:
    try:
        return decode(fetcher.fetch(location), DecodeConfig())
    except Reject:
        return None


def _tile(image: dict[str, Any], faces: pa.Table, photo: Photo | None, lost: str | None) -> SheetTile:
    """Draw a photo. lost: why its faces are those of others."""
    title = str(image["image_id"]).rsplit("/", 1)[-1]
    person = f"without its person: {lost}" if lost else None
    note = " ".join(filter(None, (image["status"], image["reason"], _count(faces.num_rows), person)))
    return _marked(SheetTile(title, image["status"], note), faces, photo)


def _marked(tile: SheetTile, faces: pa.Table, photo: Photo | None) -> SheetTile:
    """Draw the photo of a tile and the faces on it, where the photo can be read."""
    if photo is None:
        return tile
    boxes = np.stack([faces[f"box_{side}"].to_numpy() for side in ("x1", "y1", "x2", "y2")], axis=1)
    points = np.array(faces["landmarks"].to_pylist(), np.float32).reshape(-1, 5, 2)
    crops = [align_photo(photo, each, _CROP_SIDE) for each in points[:_SHOWN_CROPS]]
    return replace(tile, pixels=photo.pixels, boxes=boxes, points=points, crops=crops)


def _count(faces: int) -> str:
    return f"{faces} face" + ("" if faces == 1 else "s") if faces else ""
