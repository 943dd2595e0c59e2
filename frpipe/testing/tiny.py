"""Make tiny networks with random weights and the outputs of each family, and cards for them.

The detectors answer to bright red squares on black: one strided convolution measures the red of each cell,
and boxes and points lie about the cell, put out by random weights of the other colours. They see no further
than their own cells, so what they find moves exactly with the photo.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from frpipe.models.card import (
    BringSource,
    Card,
    DetectorSpec,
    EmbedderSpec,
    InputSpec,
    PadSpec,
)

Family = Literal["yunet", "scrfd", "retinaface"]
STRIDES = (8, 16, 32)
_COLOUR: dict[Family, InputSpec] = {
    "yunet": InputSpec(colour="BGR", mean=(0, 0, 0), std=(1, 1, 1), size="dynamic"),
    "scrfd": InputSpec(colour="RGB", mean=(127.5, 127.5, 127.5), std=(128, 128, 128), size="dynamic"),
    "retinaface": InputSpec(colour="BGR", mean=(104, 117, 123), std=(1, 1, 1), size="dynamic"),
}
_ROLES: dict[Family, dict[str, tuple[int, ...]]] = {
    "yunet": {"cls": (0, 1, 2), "obj": (3, 4, 5), "box": (6, 7, 8), "points": (9, 10, 11)},
    "scrfd": {"score": (0, 1, 2), "box": (3, 4, 5), "points": (6, 7, 8)},
    "retinaface": {"score": (0,), "box": (1,), "points": (2,)},
}
# Eyes, nose and corners of the mouth about the centre of a face, in halves of its side.
_LAYOUT = np.array([[-0.4, -0.4], [0.4, -0.4], [0.0, 0.0], [-0.3, 0.5], [0.3, 0.5]])


class _Graph:
    """A graph under way: nodes and weights as they are added."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, array: NDArray[Any]) -> str:
        name = f"weight{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def linear(self, source: str, kernel: NDArray[Any], bias: NDArray[Any], stride: int) -> str:
        kernel, bias = kernel.astype(np.float32), bias.astype(np.float32)
        return self.add("Conv", source, self.weight(kernel), self.weight(bias), strides=[stride, stride])

    def save(self, path: Path, shape: list[int | str], outputs: dict[str, int]) -> Path:
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch"] + [None] * (rank - 1))
                for name, rank in outputs.items()
            ],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())
        return path


def tiny_detector(family: Family, path: Path, seed: int = 0) -> Card:
    """Write a detector of a family to `path` and return its card. Any batch, any sides multiple of 32."""
    graph = _Graph(seed)
    anchors = 1 if family == "yunet" else 2
    levels: dict[str, list[str]] = {role: [] for role in _ROLES[family]}
    for stride in STRIDES:
        for role, value in _level(graph, family, stride, anchors).items():
            levels[role].append(value)
    outputs: dict[str, int] = {}
    for role, values in levels.items():
        joined = [graph.add("Concat", *values, axis=1)] if family == "retinaface" else values
        for number, value in enumerate(joined):
            outputs[graph.add("Identity", value, output=f"{role}_{number}")] = 3
    graph.save(path, ["batch", 3, "height", "width"], outputs)
    spec = DetectorSpec(family=family, outputs=_ROLES[family], score_threshold=0.5, nms_iou=0.3)
    return _card(f"tiny_{family}", path, _COLOUR[family], detector=spec)


def _level(graph: _Graph, family: Family, stride: int, anchors: int) -> dict[str, str]:
    """Add the outputs of one stride, each (N, cells * anchors, columns), by role."""
    spec = _COLOUR[family]
    red = "RGB".index("R") if spec.colour == "RGB" else 2
    scale = spec.std[red] / 255 / stride**2
    offset = spec.mean[red] / 255
    score = np.zeros((anchors, 3, stride, stride))
    score[:, red] = scale * 10
    bias = np.full(anchors, offset * 10 - 6.0) - np.arange(anchors)
    heads = {}
    for role in _ROLES[family]:
        if role in ("cls", "obj", "score"):
            value = graph.add("Sigmoid", graph.linear("input", score, bias, stride))
            heads[role] = _as_rows(graph, value, 1)
        else:
            rest = _rest(family, role, anchors)
            noise = graph.random.normal(0, 0.05 * np.abs(scale), (len(rest), 3, stride, stride))
            heads[role] = _as_rows(graph, graph.linear("input", noise, rest, stride), len(rest) // anchors)
    return heads


def _rest(family: Family, role: str, anchors: int) -> NDArray[Any]:
    """Biases of a head where its weights say nothing: a face about two strides wide, centred on its cell."""
    unit = 10.0 if family == "retinaface" else 1.0  # its offsets are in tenths of the anchor's side
    if role == "points":
        return np.tile((_LAYOUT * unit * (0.5 if family == "retinaface" else 1.0)).ravel(), anchors)
    box = {"yunet": [0.5, 0.5, 0.7, 0.7], "scrfd": [1.0, 1.0, 1.0, 1.0], "retinaface": [0.0, 0.0, 0.0, 0.0]}
    return np.tile(np.array(box[family]), anchors)


def _as_rows(graph: _Graph, value: str, columns: int) -> str:
    """Reshape (N, anchors * columns, h, w) to (N, h * w * anchors, columns)."""
    value = graph.add("Transpose", value, perm=[0, 2, 3, 1])
    return graph.add("Reshape", value, graph.weight(np.array([0, -1, columns], np.int64)))


def tiny_embedder(path: Path, dim: int = 16, seed: int = 0) -> Card:
    """Write an embedder of 112x112 crops to `path` and return its card. Any batch."""
    graph = _Graph(seed)
    kernel = graph.random.normal(0, 0.05, (8, 3, 16, 16))
    value = graph.add("Relu", graph.linear("input", kernel, np.zeros(8), 16))
    value = graph.add("Flatten", value)
    matrix = graph.random.normal(0, 0.05, (8 * 7 * 7, dim)).astype(np.float32)
    graph.add("MatMul", value, graph.weight(matrix), output="embedding")
    graph.save(path, ["batch", 3, 112, 112], {"embedding": 2})
    spec = InputSpec(colour="RGB", mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5), size=(112, 112))
    return _card("tiny_embedder", path, spec, embedder=EmbedderSpec(dim=dim))


def tiny_quality(path: Path, side: int = 96, seed: int = 0) -> Card:
    """Write a network of role quality for crops of `side` pixels to `path` and return its card. Any batch."""
    graph = _Graph(seed)
    value = graph.linear("input", graph.random.normal(0, 0.1, (4, 3, 8, 8)), np.zeros(4), 8)
    value = graph.add("GlobalAveragePool", graph.add("Relu", value))
    matrix = graph.random.normal(0, 1, (4, 1)).astype(np.float32)
    value = graph.add("MatMul", graph.add("Flatten", value), graph.weight(matrix))
    graph.add("Sigmoid", value, output="quality")
    graph.save(path, ["batch", 3, side, side], {"quality": 2})
    spec = InputSpec(colour="BGR", mean=(128, 128, 128), std=(128, 128, 128), size=(side, side))
    return _card("tiny_quality", path, spec, role="quality")


def tiny_pose(path: Path, side: int = 64) -> Card:
    """Write a network of role pose to `path` and return its card: brighter on the left is turned left."""
    graph = _Graph(0)
    halves = np.sign(np.arange(side) - (side - 1) / 2) / (3 * side * side)
    kernel = np.broadcast_to(halves, (1, 3, side, side))
    angle = graph.add("Flatten", graph.linear("input", kernel, np.zeros(1), side))
    sine, cosine = graph.add("Sin", angle), graph.add("Cos", angle)
    none = graph.add("Sub", angle, angle)
    one = graph.add("Cos", none)
    rows = (cosine, none, sine, none, one, none, graph.add("Neg", sine), none, cosine)
    value = graph.add("Concat", *rows, axis=1)
    graph.add("Reshape", value, graph.weight(np.array([-1, 3, 3], np.int64)), output="rotation")
    graph.save(path, ["batch", 3, side, side], {"rotation": 3})
    spec = InputSpec(colour="RGB", mean=(127.5,) * 3, std=(127.5,) * 3, size=(side, side))
    return _card("tiny_pose", path, spec, role="pose")


def tiny_pad(path: Path, spec: PadSpec, side: int = 40, seed: int = 0) -> Card:
    """Write a network of role pad to `path` and return its card: `spec` says what it gives. Any batch."""
    graph = _Graph(seed)
    value = graph.linear("input", graph.random.normal(0, 0.1, (6, 3, 8, 8)), np.zeros(6), 8)
    value = graph.add("Flatten", graph.add("GlobalAveragePool", graph.add("Relu", value)))
    matrix = graph.weight(graph.random.normal(0, 1, (6, len(spec.classes))).astype(np.float32))
    last = "Softmax" if spec.outputs == "probabilities" else "Identity"
    graph.add(last, graph.add("MatMul", value, matrix), output="classes")
    graph.save(path, ["batch", 3, side, side], {"classes": 2})
    pixels = InputSpec(colour="BGR", mean=(127.5,) * 3, std=(127.5,) * 3, size=(side, side))
    return _card("tiny_pad", path, pixels, role="pad", pad=spec)


def _card(
    name: str,
    path: Path,
    spec: InputSpec,
    detector: DetectorSpec | None = None,
    embedder: EmbedderSpec | None = None,
    *,
    role: str = "",
    pad: PadSpec | None = None,
) -> Card:
    return Card(
        name=name,
        role=role or ("detector" if detector else "embedder"),
        architecture="a few convolutions",
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        licence="as frpipe",
        training_data="none: random weights",
        limits="not for faces",
        source=BringSource(kind="bring", how="made by frpipe.testing.tiny"),
        input=spec,
        detector=detector,
        embedder=embedder,
        pad=pad,
    )
