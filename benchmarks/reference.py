"""The same work in one process, by hand: what a good programmer would write for these two models alone.

Bare simplejpeg, OpenCV and ONNX Runtime; no frpipe. `--threads 2` runs two such loops on one queue, each
with its own sessions. Faces come out in one Parquet file at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import queue
import threading
from collections.abc import Iterator
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
SIDES = (128, 192, 256, 320, 384, 512, 640)
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


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
        groups: dict[tuple[int, int], list[tuple[str, str, Array]]] = {}
        for path in paths:
            data = Path(path).read_bytes()
            photo = simplejpeg.decode_jpeg(data, "BGR")
            if max(photo.shape[:2]) > SIDES[-1]:
                raise SystemExit("the reference loop is for photos of at most 640 pixels a side")
            bucket = _side(photo.shape[0]), _side(photo.shape[1])
            groups.setdefault(bucket, []).append((path, hashlib.sha256(data).hexdigest(), photo))
        for bucket, members in groups.items():
            for start in range(0, len(members), DETECT_ROWS):
                self._detect(members[start : start + DETECT_ROWS], bucket)

    def _detect(self, members: list[tuple[str, str, Array]], bucket: tuple[int, int]) -> None:
        shape = (DETECT_ROWS, 3, *bucket)
        if self._blob.shape != shape:
            self._blob = np.zeros(shape, np.float32)
        blob = self._blob[: len(members)]
        for target, (_, _, photo) in zip(blob, members, strict=True):
            height, width = photo.shape[:2]
            for channel, plane in zip(target, cv2.split(photo), strict=True):
                channel[:height, :width] = plane
                channel[height:] = 0
                channel[:height, width:] = 0
        outputs = self._detector.run(None, {self._detector_input: blob})
        for index, (path, sha, photo) in enumerate(members):
            for number, (box, score, points) in enumerate(_faces([o[index] for o in outputs], bucket)):
                crop = cv2.warpAffine(photo, _similarity(points), (112, 112))
                grey = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
                row = {
                    "path": path,
                    "sha256": sha,
                    "width": photo.shape[1],
                    "height": photo.shape[0],
                    "face_index": number,
                    "box": box,
                    "score": score,
                    "landmarks": points.ravel(),
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


def _faces(outputs: list[Array], bucket: tuple[int, int]) -> list[tuple[Array, float, Array]]:
    """(box xyxy, score, points (5, 2)) of one photo, best first."""
    boxes, scores, points = [], [], []
    for level, stride in enumerate((8, 16, 32)):
        columns = bucket[1] // stride
        square = np.clip(outputs[level][:, 0], 0, 1) * np.clip(outputs[3 + level][:, 0], 0, 1)
        hits = np.flatnonzero(square >= 0.49)
        cell = np.stack([hits % columns, hits // columns], axis=1).astype(np.float32) * stride
        box = outputs[6 + level][hits]
        centre, half = cell + box[:, :2] * stride, np.exp(box[:, 2:]) * (stride / 2)
        boxes.append(np.concatenate([centre - half, centre + half], axis=1))
        scores.append(np.sqrt(square[hits]))
        points.append(cell[:, None] + outputs[9 + level][hits].reshape(-1, 5, 2) * stride)
    kept, all_scores = np.concatenate(boxes), np.concatenate(scores)
    marks = np.concatenate(points)
    return [(kept[i], float(all_scores[i]), marks[i]) for i in _suppress(kept, all_scores)]


def _suppress(boxes: Array, scores: Array) -> list[int]:
    order = np.argsort(-scores, kind="stable")
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while order.size:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        corner = np.minimum(boxes[order, 2:], boxes[best, 2:]) - np.maximum(boxes[order, :2], boxes[best, :2])
        overlap = np.maximum(corner, 0).prod(axis=1)
        order = order[overlap <= 0.3 * (area[order] + area[best] - overlap)]
    return kept


def _similarity(points: Array) -> Array:
    """Least squares, points as complex numbers."""
    z = points[:, 0] + 1j * points[:, 1].astype(np.float64)
    w = TEMPLATE[:, 0] + 1j * TEMPLATE[:, 1]
    z_mean, w_mean = z.mean(), w.mean()
    factor = np.vdot(z - z_mean, w - w_mean) / np.vdot(z - z_mean, z - z_mean).real
    shift = w_mean - factor * z_mean
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def _side(extent: int) -> int:
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
