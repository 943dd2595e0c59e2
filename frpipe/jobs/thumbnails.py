"""Small pictures of photos, for pages that people look at."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from frpipe.core.config import DecodeConfig
from frpipe.core.reasons import Reject
from frpipe.io.manifest.fetch import Fetcher
from frpipe.vision.decode import decode, plan_shrink
from frpipe.vision.header import read_header

_SIDE_PX = 160
_JPEG_QUALITY = 82


class Thumbnails:
    """Small pictures by key. locations: where photos can be read, under any key."""

    def __init__(self, locations: Mapping[str, str]) -> None:
        self._locations, self._config = locations, DecodeConfig()
        self._fetcher = Fetcher((), 1, self._config.max_bytes)

    def of(self, key: str) -> bytes | None:
        """Draw a JPEG of at most 160 x 160 pixels; None where the photo cannot be read from here."""
        location = self._locations.get(key)
        try:
            return None if location is None else self._small(self._fetcher.fetch(location))
        except Reject:
            return None

    def _small(self, data: bytes) -> bytes:
        photo = decode(data, self._config, plan_shrink(read_header(data), 2 * _SIDE_PX))
        image = Image.fromarray(np.ascontiguousarray(photo.pixels))
        image.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
        return buffer.getvalue()
