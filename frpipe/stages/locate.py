"""Photos to aligned faces: decode, detect, choose, align. One photo in, one `Located` out, always."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from frpipe.core.config import Config
from frpipe.core.reasons import Reason, Reject, Status
from frpipe.models.detectors.base import Detector, Faces
from frpipe.models.detectors.policy import choose
from frpipe.vision.align import align_photo, needed_shrink, to_original_pixels
from frpipe.vision.decode import Photo, decode, plan_shrink
from frpipe.vision.header import read_header
from frpipe.vision.quality import inter_eye_px, sharpness

T = TypeVar("T")
R = TypeVar("R")
CROP_SIDE = 112


@dataclass(slots=True)
class Located:
    """The outcome of one photo.

    faces: boxes and points in pixels of the upright original.  crops: (k, 112, 112, 3) uint8 RGB.
    """

    status: Status = Status.NO_FACE
    reason: Reason | None = None
    detail: str | None = None
    format: str | None = None
    bytes: int | None = None
    content_sha256: str | None = None
    width: int | None = None
    height: int | None = None
    orientation: int | None = None
    faces_detected: int | None = None
    fetch_ms: float | None = None
    decode_ms: float | None = None
    detect_ms: float | None = None
    align_ms: float | None = None
    faces: Faces = field(default_factory=Faces.empty)
    crops: list[np.ndarray] = field(default_factory=list)
    eye_distance_px: list[float] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)

    def reject(self, why: Reject) -> None:
        """End here, without faces."""
        self.status, self.reason, self.detail = Status.REJECTED, why.reason, why.detail or None
        self.faces, self.crops = Faces.empty(), []
        self.eye_distance_px, self.sharpness = [], []


@dataclass(slots=True)
class _Work:
    """A photo under way: its outcome so far, its encoded bytes and its pixels."""

    located: Located
    data: bytes = b""
    photo: Photo | None = None


class Locator:
    """Runs photos through a detector in windows, so that photos of one size share a batch.

    A window closes after `window_rows` photos or `window_bytes` of pixels, whichever comes first.
    """

    def __init__(self, config: Config, detector: Detector) -> None:
        self._config = config
        self._detector = detector
        self._window_rows = config.resources.window_rows
        self._window_bytes = config.resources.window_mb << 20
        threads = config.resources.locate.threads
        self._threads = ThreadPoolExecutor(threads, "decode") if threads > 1 else None

    def locate(self, photos: Iterable[bytes | Reject]) -> Iterator[Located]:
        """Outcomes in the order of the photos; a `Reject` among them is passed through as its outcome."""
        for window in self._windows(photos):
            self._detect(window)
            for work in window:
                yield work.located

    def _windows(self, photos: Iterable[bytes | Reject]) -> Iterator[list[_Work]]:
        window: list[_Work] = []
        held = 0
        for batch in _chunks(_timed(photos), self._config.resources.locate.threads):
            for work in self._map(self._load, batch):
                window.append(work)
                held += work.photo.pixels.nbytes if work.photo else 0
            if len(window) >= self._window_rows or held >= self._window_bytes:
                yield window
                window, held = [], 0
        if window:
            yield window

    def _map(self, function: Callable[[T], R], items: Sequence[T]) -> Iterable[R]:
        return self._threads.map(function, items) if self._threads else map(function, items)

    def _load(self, item: tuple[bytes | Reject, float]) -> _Work:
        data, fetch_ms = item
        work = _Work(Located(fetch_ms=fetch_ms))
        if isinstance(data, Reject):
            work.located.reject(data)
            return work
        start = time.perf_counter()
        work.data = data
        work.located.bytes = len(data)
        work.located.content_sha256 = hashlib.sha256(data).hexdigest()
        try:
            work.photo = self._decode(data, work.located)
        except Reject as why:
            work.located.reject(why)
        work.located.decode_ms = _ms_since(start)
        return work

    def _decode(self, data: bytes, located: Located) -> Photo:
        settings = self._config.decode
        shrink = 1
        if settings.scaled and data[:2] == b"\xff\xd8":
            shrink = plan_shrink(read_header(data), self._config.detect.max_side_px)
        photo = decode(data, settings, shrink)
        located.format = photo.format
        located.width, located.height = photo.width, photo.height
        located.orientation = photo.orientation
        return photo

    def _detect(self, window: list[_Work]) -> None:
        ready = [(work, work.photo) for work in window if work.photo is not None]
        start = time.perf_counter()
        found = self._detector.detect([photo.pixels for _, photo in ready])
        share_ms = _ms_since(start) / max(1, len(ready))
        for (work, photo), faces in zip(ready, found, strict=True):
            work.located.detect_ms = share_ms
            work.located.faces_detected = len(faces)
            start = time.perf_counter()
            try:
                self._align(work, photo, faces.moved(partial(to_original_pixels, photo)))
            except Reject as why:
                work.located.reject(why)
            work.located.align_ms = _ms_since(start)
            work.data, work.photo = b"", None

    def _align(self, work: _Work, photo: Photo, faces: Faces) -> None:
        """Cut out the chosen faces; a face whose landmarks are no face is left out."""
        located = work.located
        chosen = choose(faces, photo.width, photo.height, self._config.detect.policy)
        sources, refused = self._usable(chosen)
        if chosen and not sources:
            raise Reject(Reason.DEGENERATE_LANDMARKS, f"{refused} of {len(chosen)} faces")
        needed = min(sources.values(), default=8)
        if photo.shrink > needed:
            photo = decode(work.data, self._config.decode, needed)
        for index in sources:
            points = chosen.points[index]
            crop = align_photo(photo, points, CROP_SIDE, self._config.align.antialias)
            located.crops.append(crop)
            located.eye_distance_px.append(inter_eye_px(points))
            located.sharpness.append(sharpness(crop))
        located.faces = chosen.take(list(sources))
        located.status = Status.OK if sources else Status.NO_FACE
        located.detail = (
            f"{refused} of {len(chosen)} faces left out: degenerate landmarks" if refused else None
        )

    def _usable(self, faces: Faces) -> tuple[dict[int, int], int]:
        """Faces that can be aligned, each with the largest decode shrink that it allows; how many cannot."""
        sources: dict[int, int] = {}
        for index, points in enumerate(faces.points):
            try:
                sources[index] = needed_shrink(points, CROP_SIDE, self._config.align.antialias)
            except Reject:
                continue
        return sources, len(faces) - len(sources)


def _timed(photos: Iterable[bytes | Reject]) -> Iterator[tuple[bytes | Reject, float]]:
    iterator = iter(photos)
    while True:
        start = time.perf_counter()
        try:
            photo = next(iterator)
        except StopIteration:
            return
        yield photo, _ms_since(start)


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _ms_since(start: float) -> float:
    return (time.perf_counter() - start) * 1000
