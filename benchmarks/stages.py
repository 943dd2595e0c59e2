"""The loops of the stages against bare library loops, per CPU-second, one thread.

The bare loops are the quickest that we know for the same tensors: they check nothing, decode no output, and
run the graph as frpipe rewrites it (what that gains is graph_rewrite.py's to say).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import simplejpeg
from duel import duel
from graphs import rewritten
from photos import lfw

from frpipe.core.config import Config
from frpipe.models.card import Card
from frpipe.models.loading import load_detector, load_embedder
from frpipe.models.registry import Registry
from frpipe.vision.decode import decode

Array = np.ndarray[Any, Any]
# The best batches for one core: their maps stay in its caches.
PHOTOS, DETECT_ROWS, EMBED_ROWS = 192, 8, 8
DETECTORS = ("yunet_2023mar", "scrfd_500m")
EMBEDDERS = ("sface_2021dec", "edgeface_xs_q")


def stages(shared: Path) -> dict[str, Any]:
    """`ours / bare` of photos or crops per CPU-second."""
    cv2.setNumThreads(1)
    config = Config()
    photos = [path for path in lfw(shared) if path.parent.parent.name == "images"][:: 4995 // PHOTOS][:PHOTOS]
    encoded = [photo.read_bytes() for photo in photos]
    pixels = [simplejpeg.decode_jpeg(data) for data in encoded]
    crops = np.stack([cv2.resize(each[65:190, 63:188], (112, 112)) for each in pixels])
    report: dict[str, Any] = {
        "decode 250x250": duel(
            lambda: [decode(data, config.decode) for data in encoded],
            lambda: [simplejpeg.decode_jpeg(data) for data in encoded],
            PHOTOS,
        )
    }
    for name in DETECTORS:
        report[f"detect {name}"] = _detect(name, config, pixels)
    for name in EMBEDDERS:
        report[f"embed {name}"] = _embed(name, config, crops[:128])
    return report


def _detect(name: str, config: Config, pixels: list[Array]) -> dict[str, float]:
    card = Registry.default().card_for("detector", name)
    detector = load_detector(card, config.detect, config.resources.locate)
    bare = _Bare(card, DETECT_ROWS, 256)
    return duel(
        lambda: [detector.detect(batch) for batch in _batches(pixels, DETECT_ROWS)],
        lambda: bare.run_all(_batches(pixels, DETECT_ROWS)),
        len(pixels),
    )


def _embed(name: str, config: Config, crops: Array) -> dict[str, float]:
    card = Registry.default().card_for("embedder", name)
    embedder = load_embedder(card, config.embedder, config.resources.embed)
    bare = _Bare(card, EMBED_ROWS, 112)
    return duel(
        lambda: embedder.embed(crops),
        lambda: bare.run_all(_batches(crops, EMBED_ROWS)),
        len(crops),
        rounds=5,
    )


class _Bare:
    """ONNX Runtime with nothing around it but the filling of its input."""

    def __init__(self, card: Card, rows: int, side: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        graph = rewritten(card).SerializeToString()
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._blob = np.zeros((rows, 3, side, side), np.float32)
        self._order = (0, 1, 2) if card.input.colour == "RGB" else (2, 1, 0)
        self._mean, self._scale = np.float32(card.input.mean[0]), np.float32(1 / card.input.std[0])

    def run_all(self, batches: list[Any]) -> None:
        for batch in batches:
            self.run(list(batch))

    def run(self, images: list[Array]) -> None:
        blob = self._blob[: len(images)]
        for target, image in zip(blob, images, strict=True):
            height, width = image.shape[:2]
            planes = cv2.split(image)
            for channel, plane in zip(target, self._order, strict=True):
                channel[:height, :width] = planes[plane]
        if self._mean or self._scale != 1:
            blob -= self._mean
            blob *= self._scale
        self._session.run(None, {self._input: blob})


def _batches(items: Any, size: int) -> list[Any]:
    return [items[start : start + size] for start in range(0, len(items), size)]
