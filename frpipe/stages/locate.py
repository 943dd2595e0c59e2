"""Turn photos into aligned faces: decode, detect, choose, align. Each photo gives one `Located`, always."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import numpy as np

from frpipe.core.config import Config
from frpipe.core.counted import counted
from frpipe.core.reasons import Reason, Reject, Status
from frpipe.models.card import Card
from frpipe.models.detectors.base import MOST_IN_LOOK, Detector, Faces
from frpipe.models.detectors.candidates import Case, FaceCandidate
from frpipe.models.detectors.faces import Floats
from frpipe.models.detectors.finder import Finder, SingleLook
from frpipe.models.detectors.policy import chosen, reasons_by_policy, within
from frpipe.models.loading import load_detector, load_finder
from frpipe.vision.align import align_photo, needed_shrink
from frpipe.vision.capture_time import capture_time
from frpipe.vision.decode import Photo, decode, plan_shrink
from frpipe.vision.enlarge import Enlarged, enlarged_from, enlarged_shrink
from frpipe.vision.header import Header
from frpipe.vision.photograph import is_blank, is_odd, judge
from frpipe.vision.quality import inter_eye_px, nose_offset, sharpness

T = TypeVar("T")
R = TypeVar("R")
Barred = Callable[[str], bool]
CROP_SIDE = 112
# A face is seen from the front up to this offset of its nose; then, as to being on a photograph, limits are
# stricter by so much, in log odds.
_FRONTAL, _DOUBT = 0.25, 1.5


@dataclass(slots=True)
class Located:
    """The outcome of one photo.

    faces: boxes and points in pixels of the EXIF-upright original.  candidates: what is known of each of them
    beside.  crops: (k, 112, 112, 3) uint8 RGB.  enlarged: of each kind that a further stage asked for, a crop
    of each face, (side, side, 3) uint8 RGB.  left_out: by column, why the face that a policy means is not
    among them (frpipe.core.left_out).  measures: of each face, what further stages say of it by the names of
    their columns, where they were run on this photo alone.
    """

    status: Status = Status.NO_FACE
    reason: str | None = None
    detail: str | None = None
    format: str | None = None
    bytes: int | None = None
    content_sha256: str | None = None
    width: int | None = None
    height: int | None = None
    orientation: int | None = None
    faces_detected: int | None = None
    turn_deg: int | None = None
    faces_refused: int | None = None
    least_face_px: float | None = None
    captured_at: datetime | None = None
    captured_at_zone: str | None = None
    fetch_ms: float | None = None
    decode_ms: float | None = None
    detect_ms: float | None = None
    align_ms: float | None = None
    faces: Faces = field(default_factory=Faces.empty)
    candidates: list[FaceCandidate] = field(default_factory=list)
    crops: list[np.ndarray] = field(default_factory=list)
    enlarged: dict[Enlarged, list[np.ndarray]] = field(default_factory=dict)
    eye_distance_px: list[float] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    left_out: dict[str, str | None] = field(default_factory=dict)
    measures: list[dict[str, Any]] = field(default_factory=list)

    def reject(self, why: Reject) -> None:
        """End the photo here, without faces."""
        self.status, self.reason, self.detail = Status.REJECTED, why.reason, why.detail or None
        self.faces, self.candidates, self.crops, self.enlarged = Faces.empty(), [], [], {}
        self.eye_distance_px, self.sharpness, self.measures, self.left_out = [], [], [], {}


@dataclass(slots=True)
class _Work:
    """A photo under way: its outcome so far, its encoded bytes and its pixels."""

    located: Located
    data: bytes = b""
    photo: Photo | None = None


class Locator:
    """Run photos through a finder in windows, so that views of one size share a batch.

    A window closes after `window_rows` photos or `window_bytes` of pixels, whichever comes first. With more
    than one thread the next window is read while the model is busy with this one, so that two are held.

    barred: whether a file is rejected as soon as it is read, by its SHA-256 in hex.  enlarged: further crops
    that are cut of each face, while its photo is in memory.
    """

    def __init__(
        self,
        config: Config,
        finder: Detector | Finder,
        barred: Barred | None = None,
        enlarged: Sequence[Enlarged] = (),
    ) -> None:
        self._config = config
        self._enlarged = enlarged
        self._barred = barred
        self._finder = finder if isinstance(finder, Finder) else SingleLook(finder, config.detect)
        self._rejects_others = config.detect.not_photographs == "reject" and isinstance(finder, Finder)
        self._window_rows = config.resources.window_rows
        self._window_bytes = config.resources.window_mb << 20
        threads = config.resources.locate.threads
        self._threads = ThreadPoolExecutor(threads, "decode") if threads > 1 else None
        self._reader = ThreadPoolExecutor(1, "window") if threads > 1 else None

    def locate(self, photos: Iterable[bytes | Reject]) -> Iterator[Located]:
        """Outcomes in the order of the photos; a `Reject` among them is passed through as its outcome."""
        for window in _read_ahead(self._windows(photos), self._reader):
            self._find([work for work in window if work.photo is not None])
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
        sha256 = work.located.content_sha256 = hashlib.sha256(data).hexdigest()
        if self._barred is not None and self._barred(sha256):
            work.located.reject(Reject(Reason.SUPPRESSED, "by its content"))
            return work
        try:
            work.photo = self._decode(data, work.located)
        except Reject as why:
            work.located.reject(why)
        work.located.decode_ms = _ms_since(start)
        return work

    def _decode(self, data: bytes, located: Located) -> Photo:
        photo = decode(data, self._config.decode, self._shrink_of)
        located.format = photo.format
        located.width, located.height = photo.width, photo.height
        located.orientation = photo.orientation
        if self._config.decode.captured_at:
            located.captured_at, located.captured_at_zone = capture_time(data, photo.format)
        if self._rejects_others and is_blank(photo.pixels):
            raise Reject(Reason.BLANK, "one colour everywhere, or wholly transparent")
        return photo

    def _shrink_of(self, header: Header) -> int:
        """The decode shrink that is enough to look at a photo whole."""
        if not self._config.decode.scaled:
            return 1
        return plan_shrink(header, self._finder.side_of(header.width, header.height))

    def _find(self, window: list[_Work]) -> None:
        """Look at the photos of a window, again where that is needed, and cut out their faces."""
        ready = [work for work in window if work.photo is not None]
        start = time.perf_counter()
        cases = self._finder.first([work.photo for work in ready if work.photo is not None])
        share_ms = _ms_since(start) / max(1, len(ready))
        done: list[tuple[_Work, Case]] = []
        todo: deque[tuple[_Work, Case]] = deque()
        for work, case in zip(ready, cases, strict=True):
            work.located.detect_ms = share_ms
            (todo if case.doubtful else done).append((work, case))
        self._finish_all(done)
        # Nothing else may hold what a group has decoded again, once it is done.
        del cases, done
        while todo:
            self._look_again(self._next_group(todo))

    def _next_group(self, todo: deque[tuple[_Work, Case]]) -> list[tuple[_Work, Case]]:
        """Take photos whose pixels, decoded as large as their faces need, fit into the memory of a window."""
        group: list[tuple[_Work, Case]] = []
        held = 0
        while todo:
            case = todo[0][1]
            held += 3 * case.photo.width * case.photo.height // self._finder.needed_shrink(case) ** 2
            if group and held > self._window_bytes:
                break
            group.append(todo.popleft())
        return group

    def _look_again(self, group: list[tuple[_Work, Case]]) -> None:
        start = time.perf_counter()
        for (work, _), lost in zip(group, self._map(self._sharpen, group), strict=True):
            if lost is not None:
                work.located.reject(lost)
                work.data, work.photo = b"", None
        kept = [(work, case) for work, case in group if work.located.reason is None]
        self._finder.second([case for _, case in kept])
        share_ms = _ms_since(start) / max(1, len(group))
        for work, _ in kept:
            work.located.detect_ms = (work.located.detect_ms or 0.0) + share_ms
        self._finish_all(kept)

    def _sharpen(self, item: tuple[_Work, Case]) -> Reject | None:
        """Decode a photo again, as large as second looks at its faces need; why that failed, if it did."""
        work, case = item
        needed = self._finder.needed_shrink(case)
        if case.photo.shrink > needed:
            try:
                case.photo = decode(work.data, self._config.decode, needed)
            except Reject as why:
                return why
        return None

    def _finish_all(self, done: Sequence[tuple[_Work, Case]]) -> None:
        """Cut out the faces; a decode that sharp crops need is made on the threads, as the first one was."""
        for _ in self._map(self._finish, done):
            pass

    def _finish(self, item: tuple[_Work, Case]) -> None:
        work, case = item
        start = time.perf_counter()
        try:
            self._align(work, case)
        except Reject as why:
            work.located.reject(why)
        work.located.align_ms = _ms_since(start)
        work.data, work.photo = b"", None

    def _align(self, work: _Work, case: Case) -> None:
        """Cut out the chosen faces; one that is no face, or on no photograph, is left out."""
        located, photo = work.located, case.photo
        located.turn_deg, located.least_face_px = case.turn_deg, case.least_px
        located.faces_detected = len(case.faces) + len(case.refused)
        located.faces_refused = len(case.refused)
        # Of faces by their place among all that were found, those that are refused the last.
        left_out = dict.fromkeys(range(len(case.faces), located.faces_detected), Reason.IMPLAUSIBLE_FACE)
        faces, every = case.found(), case.boxes()
        wanted = self._wanted(case, every)
        sources = self._usable(faces, wanted)
        left_out |= dict.fromkeys({*wanted} - {*sources}, Reason.DEGENERATE_LANDMARKS)
        if sources and photo.shrink > (needed := min(sources.values())):
            photo = decode(work.data, self._config.decode, needed)
        wide = self._with_surroundings(work, photo, [faces.boxes[index] for index in sources])
        kept = []
        located.enlarged = {wanted: [] for wanted in self._enlarged}
        for index in sources:
            crop = align_photo(photo, faces.points[index], CROP_SIDE, self._config.align.antialias)
            if self._rejects_others and self._is_no_photograph(crop, case.faces[index]):
                left_out[index] = Reason.NOT_A_PHOTOGRAPH
                continue
            try:
                further = self._enlarged_of(wide, case, case.faces[index])
            except Reject as why:
                left_out[index] = Reason(why.reason)
                continue
            for wanted_crop, pixels in further.items():
                located.enlarged[wanted_crop].append(pixels)
            kept.append(index)
            located.crops.append(crop)
            located.eye_distance_px.append(inter_eye_px(faces.points[index]))
            located.sharpness.append(sharpness(crop))
        counts = Counter(left_out.values())
        located.faces_refused = counts[Reason.IMPLAUSIBLE_FACE] + counts[Reason.NOT_A_PHOTOGRAPH]
        located.faces = faces.take(kept)
        located.candidates = [case.faces[index] for index in kept]
        if self._config.detect.policy == "all":  # else the face that is meant is the one that is kept
            left_out |= dict.fromkeys({*range(len(case.faces))} - {*wanted}, Reason.MANY_FACES)
            located.left_out = reasons_by_policy(every, photo.width, photo.height, left_out)
        _conclude(located, counts)

    def _wanted(self, case: Case, every: Floats) -> list[int]:
        """The places of the faces that the policy keeps, as many as a photo may have.

        every: boxes of all faces that were found. A face that no look could settle may be the one that is
        meant: then no other is taken in its place. Rejects: MANY_FACES, IMPLAUSIBLE_FACE.
        """
        policy = self._config.detect.policy
        if policy == "all" or not case.faces:
            size = case.photo.width, case.photo.height
            return within(every, len(case.faces), size, self._config.detect.max_faces)
        wanted = [int(index) for index in chosen(every, case.photo.width, case.photo.height, policy)]
        if wanted[0] >= len(case.faces):
            raise Reject(Reason.IMPLAUSIBLE_FACE, f"the {policy} of {counted(len(every), 'faces')}")
        return wanted

    def _is_no_photograph(self, crop: np.ndarray, face: FaceCandidate) -> bool:
        """Whether a face was cut from a negative, a drawing or the like.

        One seen from the front has a score that leaves no doubt, or is judged more strictly.
        """
        if self._finder.is_clear(face):
            return is_odd(crop) and judge(crop).kind is not None
        is_frontal = nose_offset(face.points) <= _FRONTAL
        return judge(crop, _DOUBT if is_frontal else 0.0).kind is not None

    def _usable(self, faces: Faces, wanted: Sequence[int]) -> dict[int, int]:
        """The faces that can be aligned, each with the largest decode shrink that its crop allows."""
        sources: dict[int, int] = {}
        for index in wanted:
            try:
                sources[index] = needed_shrink(faces.points[index], CROP_SIDE, self._config.align.antialias)
            except Reject:
                continue
        return sources

    def _with_surroundings(self, work: _Work, photo: Photo, boxes: Sequence[np.ndarray]) -> Photo:
        """Decode the photo with pixels enough for the enlarged crops.

        The aligned ones are cut from `photo` all the same: vectors do not depend on what is measured.
        """
        shrinks = [enlarged_shrink(box, each) for box in boxes for each in self._enlarged]
        needed = min(shrinks, default=photo.shrink)
        return decode(work.data, self._config.decode, needed) if photo.shrink > needed else photo

    def _enlarged_of(self, photo: Photo, case: Case, face: FaceCandidate) -> dict[Enlarged, np.ndarray]:
        """The enlarged crops of a face, turned by quarters so that its head stands upright.

        That is the turn of the photo, but for a face that lies otherwise. Rejects: BOX_OUTSIDE.
        """
        turn_deg = case.turn_deg - 90 * round((face.roll_from(case.upright_deg) or 0.0) / 90)
        return {each: enlarged_from(photo, face.box, each, turn_deg) for each in self._enlarged}


def locator_of(
    config: Config,
    detector: Card,
    judge: Card | None,
    barred: Barred | None = None,
    enlarged: Sequence[Enlarged] = (),
) -> Locator:
    """Make a locator with its models loaded. judge: None for a single look at each photo."""
    pool = config.resources.locate
    if judge is None:
        # What a photo may keep is cut once its subject is chosen, as with a finder.
        most = max(MOST_IN_LOOK, config.detect.max_faces)
        settings = config.detect.model_copy(update={"max_faces": most})
        return Locator(config, load_detector(detector, settings, pool), barred, enlarged)
    return Locator(config, load_finder(detector, judge, config.detect, pool), barred, enlarged)


def _conclude(located: Located, left_out: Counter[Reason]) -> None:
    """Settle how a photo ends by the faces that it has, and those that were left out."""
    lost = +left_out
    total = len(located.faces) + lost.total()
    if lost and not len(located.faces):
        reason, count = lost.most_common(1)[0]
        raise Reject(reason, f"{count} of {total} faces")
    located.status = Status.OK if total else Status.NO_FACE
    words = (f"{count} {reason.value.replace('_', ' ')}" for reason, count in lost.items())
    located.detail = f"{lost.total()} of {total} faces left out: {', '.join(words)}" if lost else None


def _read_ahead(windows: Iterator[T], reader: ThreadPoolExecutor | None) -> Iterator[T]:
    """Iterate over the windows; with a reader, each is read while the one before is worked on."""
    if reader is None:
        yield from windows
        return
    coming = reader.submit(next, windows, None)
    while (window := coming.result()) is not None:
        coming = reader.submit(next, windows, None)
        yield window


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
