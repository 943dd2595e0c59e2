"""Draw the contact sheet of an enroll output, from its rows and the photos they name."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from frpipe.core.config import DecodeConfig
from frpipe.core.errors import ConfigError
from frpipe.core.reasons import Reject
from frpipe.io.manifest.fetch import Fetcher
from frpipe.io.output.features import Features
from frpipe.io.output.plan import read_part
from frpipe.vision.align import align_photo
from frpipe.vision.decode import Photo, decode
from frpipe.vision.sheet import SheetTile, draw_sheet

_CROP_SIDE = 112
_SHOWN_CROPS = 6


def write_sheet(output: str, picture: Path, limit: int = 24, columns: int = 4) -> int:
    """Write a PNG of the first `limit` photos of an enroll output; the number of photos on it.

    Shows faces: treat the picture as you treat the photos. Raises OutputError if there is no output.
    """
    if picture.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(
            f"a sheet is not written as {picture.suffix or 'a file without a suffix'}", "name a .png"
        )
    tiles = list(islice(_tiles(Features.at(output)), limit))
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_sheet(tiles, columns)).save(picture)
    return len(tiles)


def _tiles(features: Features) -> Iterator[SheetTile]:
    fetcher = Fetcher((), 1, DecodeConfig().max_bytes)
    parts = features.some_parts()
    for part, (images, faces) in zip(parts, features.tables(parts=parts), strict=True):
        locations = read_part(features.folder, part)["location"].to_pylist()
        owners = faces["image_id"].to_numpy(zero_copy_only=False)
        for image, location in zip(images.to_pylist(), locations, strict=True):
            mine = faces.filter(pa.array(owners == image["image_id"]))
            yield _tile(image, mine, _photo(fetcher, location))


def _photo(fetcher: Fetcher, location: str) -> Photo | None:
    try:
        return decode(fetcher.fetch(location), DecodeConfig())
    except Reject:
        return None


def _tile(image: dict[str, Any], faces: pa.Table, photo: Photo | None) -> SheetTile:
    title = str(image["image_id"]).rsplit("/", 1)[-1]
    note = " ".join(filter(None, (image["status"], image["reason"], _count(faces.num_rows))))
    if photo is None:
        return SheetTile(title, image["status"], note)
    boxes = np.stack([faces[f"box_{side}"].to_numpy() for side in ("x1", "y1", "x2", "y2")], axis=1)
    points = np.array(faces["landmarks"].to_pylist(), np.float32).reshape(-1, 5, 2)
    crops = [align_photo(photo, each, _CROP_SIDE) for each in points[:_SHOWN_CROPS]]
    return SheetTile(title, image["status"], note, photo.pixels, boxes, points, crops)


def _count(faces: int) -> str:
    return f"{faces} face" + ("" if faces == 1 else "s") if faces else ""
