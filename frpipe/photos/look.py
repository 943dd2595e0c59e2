"""Draw each step from a photo to an answer, for people who would rather look than read."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from frpipe.core.config import Config
from frpipe.core.threshold import Threshold
from frpipe.gallery import gallery as galleries
from frpipe.jobs.identify.single import Candidate
from frpipe.jobs.thumbnails import Thumbnails
from frpipe.jobs.verify.single import verify
from frpipe.photos.faces import Face, embed, one, settings, upright
from frpipe.photos.people import Gallery
from frpipe.vision.crop import square_crop
from frpipe.vision.fonts import font_for
from frpipe.vision.geometry import template

Pixels = NDArray[np.uint8]

_SIDE, _GAP, _LINE = 224, 14, 18
_SMALL, _MOST_LETTERS = 12, 36
_PAPER, _INK, _DIM = (255, 255, 255), (29, 36, 48), (92, 102, 117)
_GREEN, _RED, _BLUE = (0, 122, 88), (201, 79, 0), (0, 105, 168)
# No script, no request: pictures and styles of the file alone.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with what it shows. pixels: (h, w, 3) uint8 RGB.  lines: below it, short."""

    title: str
    pixels: Pixels
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A row of pictures beside each other."""

    title: str
    pictures: tuple[Picture, ...]


def look(photos: Sequence[str], *, config: Config | None = None, **limit: Any) -> list[Row]:
    """Draw the steps of each photo, and say whether the first shows the person of each other.

    Of each photo the largest face near the centre is followed. limit: as `verify` takes it.
    Raises FaceError where a photo cannot be read or shows no face.
    """
    wanted = settings(config)
    rows = [_steps(photo, wanted) for photo in photos]
    compared = [_comparison(photos[0], other, wanted, **limit) for other in photos[1:]]
    return rows + ([Row("compared with the first", tuple(compared))] if compared else [])


def look_in_gallery(
    photos: Sequence[str],
    gallery: str,
    *,
    config: Config | None = None,
    top: int = 5,
    **limit: Any,
) -> list[Row]:
    """Draw the persons of a gallery most like each photo, with their photos where these can be read.

    limit: as `Gallery.identify` takes it.
    """
    opened = Gallery(gallery, config=config)
    snapshot = galleries.Gallery.open(gallery).snapshot()
    rows = []
    for photo in photos:
        found = opened.identify(photo, top=top, **limit)
        who = "nobody of the gallery" if found.subject_id is None else _label(found.candidates[0])
        pictures = []
        for candidate in found.candidates:
            uri = snapshot.show(candidate.subject_id)["image_uri"].drop_null()
            pictures.append(_candidate(candidate, uri[0].as_py() if len(uri) else None, found.threshold))
        nobody = Picture("nobody", _blank("the gallery is empty"))
        rows.append(Row(f"{_name(photo)}: {who}", tuple(pictures) or (nobody,)))
    return rows


def as_png(rows: Sequence[Row]) -> bytes:
    """Draw all rows as one PNG."""
    width = max(len(row.pictures) for row in rows) * (_SIDE + _GAP) + _GAP
    heights = [_LINE + 6 + _height(row) + _GAP for row in rows]
    sheet = Image.new("RGB", (width, sum(heights) + _GAP), _PAPER)
    draw, top = ImageDraw.Draw(sheet), _GAP
    for row, height in zip(rows, heights, strict=True):
        _write(draw, (_GAP, top), row.title, _INK, 15)
        for place, picture in enumerate(row.pictures):
            left, y = _GAP + place * (_SIDE + _GAP), top + _LINE + 6
            sheet.paste(Image.fromarray(picture.pixels), (left, y))
            y += _most(row)
            for number, line in enumerate((picture.title, *picture.lines)):
                _write(draw, (left, y + 3 + number * _LINE), line, _DIM if number else _INK, 12)
        top += height
    return _png(np.asarray(sheet))


def as_html(rows: Sequence[Row]) -> str:
    """Write all rows as a page that loads nothing and runs nothing."""
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        "<title>Steps of a photo</title><style>",
        "body{font:15px system-ui,sans-serif;margin:2em;color:#1d2430;background:#fff}",
        "section{display:flex;flex-wrap:wrap;gap:14px}figure{margin:0;width:224px}",
        "figcaption{font-size:13px;color:#5c6675;overflow-wrap:anywhere}b{color:#1d2430}h2{font-size:17px}",
        "@media(prefers-color-scheme:dark){body{background:#14181f;color:#e6e9ee}b{color:#e6e9ee}"
        "figcaption{color:#a3acb9}}</style></head><body>",
    ]
    for row in rows:
        parts.append(f"<h2>{escape(row.title)}</h2><section>")
        for picture in row.pictures:
            data = base64.b64encode(_png(picture.pixels)).decode()
            lines = "<br>".join(map(escape, picture.lines))
            parts.append(
                f'<figure><img alt="{escape(picture.title)}" src="data:image/png;base64,{data}">'
                f"<figcaption><b>{escape(picture.title)}</b><br>{lines}</figcaption></figure>"
            )
        parts.append("</section>")
    return "".join([*parts, "</body></html>\n"])


def _steps(photo: str, config: Config) -> Row:
    face, pixels = one(photo, config), upright(photo, config).pixels
    crop, vector = square_crop(pixels, face.box, _SIDE), embed(face, config=config)
    turn = f"turned by {-face.roll_deg:.1f} degrees" if abs(face.roll_deg) >= 0.05 else "upright already"
    return Row(
        _name(photo),
        (
            Picture(
                "found",
                _marked(pixels, face),
                (f"{pixels.shape[1]} x {pixels.shape[0]}, score {face.score:.2f}",),
            ),
            Picture("cropped", crop, (f"{_SIDE} x {_SIDE}, not squeezed",)),
            Picture("before rotation", _dotted(crop, face), (f"roll {face.roll_deg:.1f} degrees",)),
            Picture("rotated and aligned", _aligned(face.aligned), (turn, *_worth(face))),
            Picture("embedding", _strip(vector), (f"{len(vector)} numbers: blue < 0 < red",)),
        ),
    )


def _worth(face: Face) -> Iterator[str]:
    """Score how usable a face is, by the stages that the settings have on, or else by its own measure."""
    measures = face.measures
    if measures.get("quality_score") is None:
        yield f"quality {face.quality:.2f}"
    else:
        yield f"quality score {measures['quality_score']:.0f} of 100"
    if measures.get("pose_yaw_deg") is not None:
        yield f"yaw {measures['pose_yaw_deg']:.0f} degrees"
    if measures.get("pad_score") is not None:
        yield f"bona fide {measures['pad_score']:.2f}"


def _comparison(a: str, b: str, config: Config, **limit: Any) -> Picture:
    result = verify(a, b, config=config, **limit)
    sign = "<=" if result.verified else ">"
    return Picture(
        "one person" if result.verified else "two people",
        _scale(result.distance, result.threshold.distance),
        (
            f"{_name(a)} and {_name(b)}",
            f"distance {result.distance:.4f} {sign} {result.threshold.distance:.4f}",
            f"similarity {result.similarity:.4f}",
        ),
    )


def _candidate(candidate: Candidate, uri: str | None, limit: Threshold) -> Picture:
    jpeg = Thumbnails({"": uri}).of("") if uri else None
    photo = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")) if jpeg else None
    sign = "<=" if candidate.similarity >= limit.similarity else ">"
    return Picture(
        _label(candidate),
        _fitted(photo) if photo is not None else _blank("its photo cannot be read"),
        (
            f"distance {candidate.distance:.4f} {sign} {limit.distance:.4f}",
            f"similarity {candidate.similarity:.4f}",
        ),
    )


def _label(candidate: Candidate) -> str:
    name = candidate.attributes.get("Name")
    return f"{name} ({candidate.subject_id})" if name else candidate.subject_id


def _marked(pixels: Pixels, face: Face) -> Pixels:
    """Draw the photo, made to fit, with the box and the five points."""
    scale = _SIDE / max(pixels.shape[:2])
    shown = _fitted(pixels)
    offset = (np.array(shown.shape[1::-1]) - np.array(pixels.shape[1::-1]) * scale) / 2
    image = Image.fromarray(shown)
    draw = ImageDraw.Draw(image)
    corners = (np.array(face.box).reshape(2, 2) * scale + offset).reshape(4)
    draw.rectangle(tuple(map(float, corners)), outline=_GREEN, width=2)
    _dots(draw, face.landmarks * scale + offset)
    return np.asarray(image)


def _dotted(crop: Pixels, face: Face) -> Pixels:
    """Draw the square crop with its points, and the line of the eyes, which is to lie level."""
    low, high = np.array(face.box).reshape(2, 2)
    points = (face.landmarks - (low + high) / 2) * (_SIDE / (high - low).max()) + (_SIDE - 1) / 2
    image = Image.fromarray(crop)
    draw = ImageDraw.Draw(image)
    draw.line([tuple(map(float, point)) for point in points[:2]], fill=_RED, width=2)
    _dots(draw, points)
    return np.asarray(image)


def _aligned(crop: Pixels) -> Pixels:
    """Draw the aligned crop, enlarged, with the places where the embedder expects the points."""
    image = Image.fromarray(crop).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(image)
    points = template(_SIDE)
    draw.line([tuple(map(float, point)) for point in points[:2]], fill=_GREEN, width=2)
    _dots(draw, points)
    return np.asarray(image)


def _dots(draw: ImageDraw.ImageDraw, points: Any) -> None:
    for x, y in points:
        draw.ellipse((x - 2.5, y - 2.5, x + 2.5, y + 2.5), fill=(255, 255, 255), outline=_INK)


def _strip(vector: NDArray[np.float32]) -> Pixels:
    """Draw the numbers of a template as coloured cells, in rows of 16."""
    cells = np.zeros(-(-len(vector) // 16) * 16)
    cells[: len(vector)] = vector / max(float(np.abs(vector).max()), 1e-9)
    share = np.abs(cells)[:, None]
    towards = np.where(cells[:, None] < 0, _BLUE, _RED)
    colours = (share * towards + (1 - share) * 255).astype(np.uint8).reshape(-1, 16, 3)
    return np.asarray(cv2.resize(colours, (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST), np.uint8)


def _scale(found: float, limit: float) -> Pixels:
    """Draw a distance on the axis from 0 to 2, and the threshold."""
    image = Image.new("RGB", (_SIDE, _SIDE // 2), (244, 246, 248))
    draw = ImageDraw.Draw(image)
    left, right, y = 14, _SIDE - 14, 64

    def place(value: float) -> float:
        return left + (right - left) * min(max(value, 0.0), 2.0) / 2

    draw.rectangle((left, y - 5, place(limit), y + 5), fill=(201, 231, 221))
    draw.rectangle((place(limit), y - 5, right, y + 5), fill=(248, 219, 203))
    draw.line((place(limit), y - 16, place(limit), y + 16), fill=_INK, width=2)
    x, colour = place(found), _GREEN if found <= limit else _RED
    draw.polygon(((x, y - 6), (x - 6, y - 18), (x + 6, y - 18)), fill=colour)
    _centred(draw, (x, y - 36), f"{found:.3f}", colour)
    _centred(draw, (place(limit), y + 20), f"threshold {limit:.3f}", _INK)
    for value in (0, 2):
        _centred(draw, (place(value), y + 34), str(value), _DIM)
    return np.asarray(image)


def _fitted(pixels: Pixels) -> Pixels:
    """Place a picture in the middle of a square."""
    scale = _SIDE / max(pixels.shape[:2])
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    image = Image.new("RGB", (_SIDE, _SIDE), (236, 239, 243))
    small = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    image.paste(small, ((_SIDE - size[0]) // 2, (_SIDE - size[1]) // 2))
    return np.asarray(image)


def _blank(text: str) -> Pixels:
    image = Image.new("RGB", (_SIDE, _SIDE), (236, 239, 243))
    _centred(ImageDraw.Draw(image), (_SIDE / 2, _SIDE / 2), text, _DIM)
    return np.asarray(image)


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, ink: tuple[int, int, int], size: int
) -> None:
    """Write a line of text that begins at a place, cut where it would run into the next picture."""
    shown = text if size > _SMALL or len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"
    draw.text(at, shown, fill=ink, font=font_for(shown, size))


def _centred(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, ink: tuple[int, int, int]
) -> None:
    """Write a short text, its middle below a place."""
    draw.text(at, text, fill=ink, font=font_for(text, _SMALL), anchor="ma")


def _most(row: Row) -> int:
    return max(len(picture.pixels) for picture in row.pictures)


def _height(row: Row) -> int:
    return _most(row) + max(len(picture.lines) + 1 for picture in row.pictures) * _LINE + 6


def _name(photo: str) -> str:
    """The name of the photo's file, in letters that a page can hold."""
    return Path(photo).name.encode("utf-8", "replace").decode("utf-8")


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
