"""The same work in one process, by hand: what a good programmer would write for these two models alone.

Bare simplejpeg, OpenCV and ONNX Runtime; no frpipe. Photos of at most 640 pixels a side are looked at whole;
faces that are not sure are judged, looked at again in squares of their own, and refused where that does not
settle how they stand; photos without a sure face are looked at in all four turns. `--threads 2` runs two such
loops on one queue, each with its own sessions. Faces come out in one Parquet file at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg

Array = np.ndarray[Any, Any]
# Batches that stay in the caches of a core.
WINDOW, DETECT_ROWS, EMBED_ROWS = 64, 8, 8
MOST_SIDE, MOST_FREE_SIDE, SIDES = 640, 320, (384, 512, 640)
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
# The numbers of the detector's card.
FACE, PROPOSAL, SURE, JUDGED, EVIDENCE, STEADY_PX, NMS_IOU = 0.7, 0.2, 0.91, 0.88, 1.78, 40, 0.3


@dataclass(slots=True, eq=False)
class Face:
    """A face of a shot, in pixels of its picture as it is turned."""

    box: Array
    points: Array
    score: float
    judged: float = 0.0
    error: float = math.inf
    sure: bool = False

    @property
    def evidence(self) -> float:
        return self.score + self.judged

    @property
    def width(self) -> float:
        return float(max(self.box[2:] - self.box[:2]))

    @property
    def roll(self) -> float:
        """Degrees, clockwise."""
        matrix = _similarity(self.points)
        return _wrapped(-math.degrees(math.atan2(matrix[1, 0], matrix[0, 0])))


@dataclass(slots=True, eq=False)
class Shot:
    """A photo in hand: its picture, turned clockwise by `turn`, and its faces."""

    path: str
    sha: str
    picture: Array
    turn: int = 0
    faces: list[Face] = field(default_factory=list)


class Loop:
    """Detect with YuNet, align, embed. scale: the embedder's (mean, std), or None for raw RGB."""

    def __init__(self, detector: str, embedder: str, scale: tuple[float, float] | None) -> None:
        self._detector, self._embedder = _session(detector), _session(embedder)
        self._detector_input = self._detector.get_inputs()[0].name
        self._embedder_input = self._embedder.get_inputs()[0].name
        self._scale = scale
        self._blob = np.zeros((DETECT_ROWS, 3, 256, 256), np.float32)
        self._held: list[tuple[dict[str, Any], Array]] = []

    def run(self, windows: Iterator[list[str]]) -> list[dict[str, Any]]:
        """One dict per face of the photos in `windows`, which are lists of paths."""
        rows: list[dict[str, Any]] = []
        for window in windows:
            self._window(window)
            while len(self._held) >= EMBED_ROWS:
                rows += self._embed(EMBED_ROWS)
        while self._held:
            rows += self._embed(EMBED_ROWS)
        return rows

    def _window(self, paths: list[str]) -> None:
        shots = []
        for path in paths:
            data = Path(path).read_bytes()
            picture = simplejpeg.decode_jpeg(data, "BGR")
            if max(picture.shape[:2]) > MOST_SIDE:
                raise SystemExit("the reference loop is for photos of at most 640 pixels a side")
            shots.append(Shot(path, hashlib.sha256(data).hexdigest(), picture))
        self._first(shots)
        self._turn(shots)
        self._second(shots)
        for shot in shots:
            self._cut_out(shot)

    def _first(self, shots: list[Shot]) -> None:
        """Look at whole photos; mark the faces that are sure."""
        for shot, faces in zip(shots, self._look([shot.picture for shot in shots], FACE), strict=True):
            shot.faces = faces
        unsure = []
        for shot in shots:
            for face in shot.faces:
                if face.width < STEADY_PX or not _is_plausible(face) or not _stands(face):
                    continue
                if face.score >= SURE:
                    face.sure = True
                else:
                    unsure.append((shot, face))
        self._judge(unsure)
        for _, face in unsure:
            face.sure = _is_sure(face)

    def _turn(self, shots: list[Shot]) -> None:
        """Turn the photos whose sure faces say so, and those without any that look better turned."""
        turned = []
        lost = []
        for shot in shots:
            sure = [face for face in shot.faces if face.sure]
            if not sure:
                lost.append(shot)
                continue
            votes = dict.fromkeys((0, 90, 180, 270), 0.0)
            for face in sure:
                votes[round(-face.roll / 90) % 4 * 90] += face.score
            best = max(votes, key=lambda turn: votes[turn])
            if best:
                turned.append((shot, best))
            for face in sure:
                face.sure = abs(face.roll) <= 45
        if lost:
            turned += self._all_turns(lost)
        for shot, best in turned:
            shot.picture, shot.turn = _turned(shot.picture, best), best
        if turned:
            self._first([shot for shot, _ in turned])

    def _all_turns(self, shots: list[Shot]) -> list[tuple[Shot, int]]:
        small = []
        for shot in shots:
            height, width = shot.picture.shape[:2]
            side = max(round(max(height, width) * 0.45 / 32) * 32, 96)
            ratio = min(1.0, side / max(height, width))
            size = max(1, round(width * ratio)), max(1, round(height * ratio))
            small.append((cv2.resize(shot.picture, size, interpolation=cv2.INTER_AREA), ratio))
        evidence = np.zeros((4, len(shots)))
        for number in range(4):
            found = self._look([_turned(picture, 90 * number) for picture, _ in small], PROPOSAL)
            best = []
            for shot, (_, ratio), faces in zip(shots, small, found, strict=True):
                picture = _turned(shot.picture, 90 * number)
                whole = Shot(shot.path, shot.sha, picture)
                for face in faces[:3]:
                    face.box = (face.box + 0.5) / ratio - 0.5
                    face.points = (face.points + 0.5) / ratio - 0.5
                    best.append((whole, face))
            self._judge(best)
            for column, faces in enumerate(found):
                evidence[number, column] = sum(max(0.0, face.evidence - 1.4) for face in faces[:3])
            if number == 0:
                upright = found
        turned = []
        for column, shot in enumerate(shots):
            best_turn = int(evidence[:, column].argmax())
            if best_turn and evidence[best_turn, column] > evidence[0, column] + 0.03:
                turned.append((shot, 90 * best_turn))
            else:
                shot.faces = _distinct(shot.faces + [face for face in upright[column] if face.score >= FACE])
        return turned

    def _second(self, shots: list[Shot]) -> None:
        """Look again at the faces that are not sure, each in a square of its own, and settle or drop them."""
        todo = [(shot, face) for shot in shots for face in shot.faces if not face.sure]
        if not todo:
            return
        seen = self._squares([(shot, face, _first_roll(face)) for shot, face in todo])
        contested = []
        for (shot, face), sight in zip(todo, seen, strict=True):
            if sight is not None and _is_sure(sight) and _stands(sight):
                _settle(face, sight)
            elif face.score >= FACE:
                contested.append((shot, face, sight))
        others = self._squares(
            [
                (shot, face, _wrapped(_first_roll(face) + quarter))
                for shot, face, _ in contested
                for quarter in (90, 180, 270)
            ]
        )
        for number, (_, face, sight) in enumerate(contested):
            winner = _winner([sight, *others[3 * number : 3 * number + 3]])
            if winner is not None:
                _settle(face, winner)
        for shot in {id(shot): shot for shot, _ in todo}.values():
            shot.faces = _distinct([face for face in shot.faces if face.sure])

    def _squares(self, orders: list[tuple[Shot, Face, float]]) -> list[Face | None]:
        """Faces in squares that are turned by a roll; where they are rolled in it still, once more."""
        seen = self._squares_once(orders)
        again = [
            number
            for number, sight in enumerate(seen)
            if sight is not None
            and _is_plausible(sight)
            and abs(_wrapped(sight.roll - orders[number][2])) > 20
        ]
        if again:
            further = [(orders[n][0], seen[n] or orders[n][1], (seen[n] or orders[n][1]).roll) for n in again]
            for number, sight in zip(again, self._squares_once(further), strict=True):
                first = seen[number]
                if sight is not None and (first is None or sight.evidence > first.evidence):
                    seen[number] = sight
        return seen

    def _squares_once(self, orders: list[tuple[Shot, Face, float]]) -> list[Face | None]:
        frames = []
        for _, face, roll in orders:
            scale = face.width * 2.2 / 160
            cosine, sine = scale * math.cos(math.radians(roll)), scale * math.sin(math.radians(roll))
            linear = np.array([[cosine, -sine], [sine, cosine]])
            centre = (face.box[:2] + face.box[2:]) / 2
            frames.append(np.column_stack([linear, centre - linear @ (79.5, 79.5)]))
        views = [
            _warp(shot.picture, cv2.invertAffineTransform(frame), 160)
            for (shot, _, _), frame in zip(orders, frames, strict=True)
        ]
        seen: list[Face | None] = []
        for frame, faces in zip(frames, self._look(views, PROPOSAL), strict=True):
            near = [face for face in faces if np.abs((face.box[:2] + face.box[2:]) / 2 - 79.5).max() <= 32]
            seen.append(_through(near[0], frame) if near else None)
        self._judge(
            [(shot, sight) for (shot, _, _), sight in zip(orders, seen, strict=True) if sight is not None]
        )
        return seen

    def _judge(self, asked: Sequence[tuple[Shot, Face]]) -> None:
        """Give faces the detector's own score of them as they would be aligned."""
        crops = [
            cv2.resize(
                _warp(shot.picture, _similarity(face.points), 112), (64, 64), interpolation=cv2.INTER_AREA
            )
            for shot, face in asked
        ]
        small = (TEMPLATE + 0.5) * (64 / 112) - 0.5
        for (_, face), found in zip(asked, self._look(crops, 0.05), strict=True):
            if found:
                face.judged, face.error = found[0].score, _error(found[0].points, small)

    def _look(self, pictures: list[Array], threshold: float) -> list[list[Face]]:
        """The faces of each picture, best first."""
        found: list[list[Face]] = [[] for _ in pictures]
        groups: dict[tuple[int, int], list[int]] = {}
        for index, picture in enumerate(pictures):
            bucket = _side(picture.shape[0]), _side(picture.shape[1])
            groups.setdefault(bucket, []).append(index)
        for bucket, members in groups.items():
            for start in range(0, len(members), DETECT_ROWS):
                chunk = members[start : start + DETECT_ROWS]
                outputs = self._detect([pictures[index] for index in chunk], bucket)
                for row, index in enumerate(chunk):
                    found[index] = _faces([output[row] for output in outputs], bucket, threshold)
        return found

    def _detect(self, pictures: list[Array], bucket: tuple[int, int]) -> list[Array]:
        shape = (DETECT_ROWS, 3, *bucket)
        if self._blob.shape != shape:
            self._blob = np.zeros(shape, np.float32)
        blob = self._blob[: len(pictures)]
        for target, picture in zip(blob, pictures, strict=True):
            height, width = picture.shape[:2]
            for channel, plane in zip(target, cv2.split(picture), strict=True):
                channel[:height, :width] = plane
                channel[height:] = 0
                channel[:height, width:] = 0
        outputs: list[Array] = self._detector.run(None, {self._detector_input: blob})
        return outputs

    def _cut_out(self, shot: Shot) -> None:
        back = _back(shot)
        height, width = shot.picture.shape[:2]
        for number, face in enumerate(shot.faces):
            crop = _warp(shot.picture, _similarity(face.points), 112)
            grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
            corners = back(face.box.reshape(2, 2))
            row = {
                "path": shot.path,
                "sha256": shot.sha,
                "width": height if shot.turn % 180 else width,
                "height": width if shot.turn % 180 else height,
                "turn": shot.turn,
                "face_index": number,
                "box": np.concatenate([corners.min(axis=0), corners.max(axis=0)]).astype(np.float32),
                "score": face.score,
                "judged": face.judged,
                "landmarks": back(face.points).ravel().astype(np.float32),
                "sharpness": float(cv2.Laplacian(grey, cv2.CV_32F).var(dtype=np.float64)),
            }
            self._held.append((row, crop))

    def _embed(self, most: int) -> list[dict[str, Any]]:
        held, self._held = self._held[:most], self._held[most:]
        blob = np.empty((len(held), 3, 112, 112), np.float32)
        for target, (_, crop) in zip(blob, held, strict=True):
            target[2], target[1], target[0] = cv2.split(crop)
        if self._scale:
            blob -= np.float32(self._scale[0])
            blob *= np.float32(1 / self._scale[1])
        vectors = self._embedder.run(None, {self._embedder_input: blob})[0]
        norms = np.linalg.norm(vectors, axis=1)
        units = vectors / norms[:, None]
        return [
            {**row, "norm": norm, "embedding": unit}
            for (row, _), norm, unit in zip(held, norms, units, strict=True)
        ]


def _faces(outputs: list[Array], bucket: tuple[int, int], threshold: float) -> list[Face]:
    """The faces of one picture, best first."""
    boxes, scores, points = [], [], []
    for level, stride in enumerate((8, 16, 32)):
        columns = bucket[1] // stride
        square = np.clip(outputs[level][:, 0], 0, 1) * np.clip(outputs[3 + level][:, 0], 0, 1)
        hits = np.flatnonzero(square >= threshold * threshold)
        if not hits.size:
            continue
        cell = np.stack([hits % columns, hits // columns], axis=1).astype(np.float32) * stride
        box = outputs[6 + level][hits]
        centre, half = cell + box[:, :2] * stride, np.exp(box[:, 2:]) * (stride / 2)
        boxes.append(np.concatenate([centre - half, centre + half], axis=1))
        scores.append(np.sqrt(square[hits]))
        points.append(cell[:, None] + outputs[9 + level][hits].reshape(-1, 5, 2) * stride)
    if not boxes:
        return []
    kept, all_scores = np.concatenate(boxes), np.concatenate(scores)
    marks = np.concatenate(points)
    return [Face(kept[i], marks[i], float(all_scores[i])) for i in _suppress(kept, all_scores)]


def _suppress(boxes: Array, scores: Array) -> list[int]:
    order = np.argsort(-scores, kind="stable")
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while order.size:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        if not order.size:
            break
        corner = np.minimum(boxes[order, 2:], boxes[best, 2:]) - np.maximum(boxes[order, :2], boxes[best, :2])
        overlap = np.maximum(corner, 0).prod(axis=1)
        order = order[overlap <= NMS_IOU * (area[order] + area[best] - overlap)]
    return kept


def _distinct(faces: list[Face]) -> list[Face]:
    if len(faces) < 2:
        return faces
    kept = _suppress(np.stack([face.box for face in faces]), np.array([face.score for face in faces]))
    return [faces[index] for index in kept]


def _winner(sights: Sequence[Face | None]) -> Face | None:
    """The look that stands out, if one does."""
    good = [sight for sight in sights if sight is not None and _is_plausible(sight)]
    if not good:
        return None
    best = max(good, key=lambda sight: sight.evidence)
    others = [sight.evidence for sight in good if _error(sight.points, best.points) > 0.5]
    if best.evidence < max(others, default=0.0) + 0.02:
        return None
    if abs(best.roll) <= 45:
        return best if best.evidence >= 1.1 else None
    return best if _is_sure(best) or best.evidence >= 1.7 else None


def _settle(face: Face, sight: Face) -> None:
    if face.width < STEADY_PX or _error(face.points, sight.points) > 0.25:
        face.box, face.points = sight.box, sight.points
    face.score, face.judged, face.sure = sight.score, sight.judged, True


def _is_sure(face: Face) -> bool:
    if not _is_plausible(face):
        return False
    if face.score >= SURE:
        return True
    return face.judged >= JUDGED and face.evidence >= EVIDENCE and face.error <= 0.2


def _is_plausible(face: Face) -> bool:
    """Whether the landmarks lie in the box, and are those of a face once its roll is taken out."""
    rim = 0.35 * face.width
    low, high = face.points.min(axis=0), face.points.max(axis=0)
    if (low < face.box[:2] - rim).any() or (high > face.box[2:] + rim).any():
        return False
    matrix = _similarity(face.points)
    upright = face.points @ matrix[:, :2].T + matrix[:, 2]
    height = (upright[3, 1] + upright[4, 1] - upright[0, 1] - upright[1, 1]) / 2
    eyes, mouth = upright[1, 0] - upright[0, 0], upright[4, 0] - upright[3, 0]
    return bool(height > 15 and max(eyes, mouth) > 0 and min(eyes, mouth) > -8)


def _stands(face: Face) -> bool:
    """Whether it is rolled by a multiple of 90 degrees, or nearly."""
    roll = face.roll
    return abs(_wrapped(roll - 90 * round(roll / 90))) <= 30


def _first_roll(face: Face) -> float:
    roll = face.roll if _is_plausible(face) else 0.0
    return 0.0 if abs(roll) <= 20 else roll


def _error(first: Array, second: Array) -> float:
    """Mean distance of landmarks, in eye distances of the second."""
    eyes = math.dist(second[0], second[1])
    height = math.dist((second[0] + second[1]) / 2, (second[3] + second[4]) / 2)
    return float(np.hypot(*(first - second).T).mean()) / max(eyes, height / 1.17, 1e-6)


def _through(face: Face, frame: Array) -> Face:
    """In pixels of the picture that a square was cut from; the box is that of the turned ellipse."""
    linear, shift = frame[:, :2], frame[:, 2]
    centre = linear @ ((face.box[:2] + face.box[2:]) / 2) + shift
    half = np.sqrt(linear**2 @ ((face.box[2:] - face.box[:2]) / 2) ** 2)
    return Face(np.concatenate([centre - half, centre + half]), face.points @ linear.T + shift, face.score)


def _turned(picture: Array, turn: int) -> Array:
    """Clockwise by a multiple of 90 degrees."""
    codes = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
    return cv2.rotate(picture, codes[turn]) if turn else picture


def _back(shot: Shot) -> Callable[[Array], Array]:
    """From points of a shot's picture to points of the photo as it was."""
    across, down = shot.picture.shape[1] - 1, shot.picture.shape[0] - 1
    ways: dict[int, Callable[[Array], Array]] = {
        0: lambda points: points,
        90: lambda points: np.stack([points[:, 1], across - points[:, 0]], axis=1),
        180: lambda points: np.array([across, down]) - points,
        270: lambda points: np.stack([down - points[:, 1], points[:, 0]], axis=1),
    }
    return ways[shot.turn]


def _warp(picture: Array, matrix: Array, size: int) -> Array:
    """A square of a picture through a similarity; reduced by area first where that halves it or more."""
    factor = 2 ** max(0, math.floor(-math.log2(math.hypot(matrix[0, 0], matrix[1, 0]) + 1e-12)))
    if factor > 1 and min(picture.shape[:2]) >= factor:
        width, height = picture.shape[1] // factor, picture.shape[0] // factor
        part = picture[: height * factor, : width * factor]
        picture = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
        shift = matrix[:, :2] @ np.full(2, (factor - 1) / 2) + matrix[:, 2]
        matrix = np.column_stack([matrix[:, :2] * factor, shift])
    return cv2.warpAffine(picture, matrix, (size, size))


_TARGET = TEMPLATE[:, 0] + 1j * TEMPLATE[:, 1]
_TARGET_MEAN = complex(_TARGET.mean())
_TARGET_OFF = _TARGET - _TARGET_MEAN


def _similarity(points: Array) -> Array:
    """Least squares, points as complex numbers."""
    z = points[:, 0] + 1j * points[:, 1].astype(np.float64)
    z_mean = complex(z.sum()) / 5
    z -= z_mean
    factor = complex(np.vdot(z, _TARGET_OFF)) / max(np.vdot(z, z).real, 1e-9)
    shift = _TARGET_MEAN - factor * z_mean
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def _wrapped(angle: float) -> float:
    return 180 - (180 - angle) % 360


def _side(extent: int) -> int:
    """The next multiple of 32, or, where it is large, one of a few sides."""
    if extent <= MOST_FREE_SIDE:
        return -(-extent // 32) * 32
    return next(side for side in SIDES if side >= extent)


def _session(path: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _drain(windows: queue.SimpleQueue[list[str]]) -> Iterator[list[str]]:
    while True:
        try:
            yield windows.get_nowait()
        except queue.Empty:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--manifest", "--detector", "--embedder", "--output"):
        parser.add_argument(name, required=True)
    parser.add_argument("--scale", type=float, nargs=2, metavar=("MEAN", "STD"))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    paths = pq.read_table(options.manifest)["image_uri"].to_pylist()
    windows: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
    for start in range(0, len(paths), WINDOW):
        windows.put(paths[start : start + WINDOW])
    rows: list[dict[str, Any]] = []
    scale = tuple(options.scale) if options.scale else None

    def work() -> None:
        found = Loop(options.detector, options.embedder, scale).run(_drain(windows))
        rows.extend(found)

    threads = [threading.Thread(target=work) for _ in range(options.threads - 1)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    pq.write_table(pa.Table.from_pylist(rows), options.output)


if __name__ == "__main__":
    main()
