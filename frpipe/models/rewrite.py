"""Rewrite graphs so that ONNX Runtime runs them faster on an x86 CPU, as the same function.

ONNX Runtime keeps the maps between convolutions in a blocked layout, but only across operators that it
knows in that layout. PRelu is none of them: each one costs two reorderings and a slow elementwise pass. Here
it becomes operators that stay blocked (docs/adr/0006-graphs-are-rewritten-for-the-cpu.md).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from frpipe.models.onnx_file import (
    FLOAT,
    Node,
    OnnxFile,
    Tensor,
    float_attribute,
    integer_attribute,
    integers_attribute,
    node_bytes,
    nodes_of,
    tensor_attribute,
    tensors_of,
    value_names,
)

# Blocks are 8 channels wide with SSE and AVX2, 16 with AVX-512: what is a multiple of 16 is blocked on all.
_BLOCK = 16
_NARROWEST_BLOCK = 8
_DEFAULT_DOMAINS = {"", "ai.onnx"}
# Opset 7 gave PRelu its broadcasting; 23 is the last that was tried.
_OPSETS = range(7, 24)
# Before this version of the format every initialiser had to be an input, and was a constant all the same.
_IR_OF_INITIALISERS_ALONE = 4
# Protobuf ends at 2 GiB.
_LARGEST_REWRITTEN = 1 << 30


def speed_up(file: OnnxFile) -> bytes:
    """Rewrite a file in operators that ONNX Runtime runs faster on an x86 CPU; the function stays the same.

    The file itself is the answer where nothing can be gained. Names and shapes of inputs and outputs stay.
    Every PRelu whose input is a blocked float32 (N, C, H, W) convolution and whose constant slope is one
    number or one per channel is replaced; for finite maps the result differs by float32 rounding: at most a
    few units in the last place of the largest of |x|, |slope x|.
    """
    if len(file.data) > _LARGEST_REWRITTEN or not _opsets_fit(file):
        return file.data
    nodes = nodes_of(file.graph)
    if not any(_is(node, "PRelu") for node in nodes):
        return file.data
    graph = _Graph.of(file, nodes)
    slopes = [graph.slope(node) for node in nodes]
    if all(slope is None for slope in slopes):
        return file.data
    return file.with_nodes(
        part for node, slope in zip(nodes, slopes, strict=True) for part in _replace(graph, node, slope)
    )


def _opsets_fit(file: OnnxFile) -> bool:
    versions = [version for domain, version in file.opsets if domain in _DEFAULT_DOMAINS]
    return len(versions) == 1 and versions[0] in _OPSETS


@dataclass(frozen=True)
class _Graph:
    """Facts of a graph that must be known to rewrite one of its nodes."""

    constants: dict[str, Tensor]
    makers: dict[str, Node]
    uses: Counter[str]
    taken: set[str]

    @classmethod
    def of(cls, file: OnnxFile, nodes: Sequence[Node]) -> _Graph:
        graph = file.graph
        inputs, outputs, tensors = value_names(graph, 11), value_names(graph, 12), tensors_of(graph)
        # An initialiser that is an input too can be set by the caller: it is no constant.
        settable = set(inputs) if file.ir_version >= _IR_OF_INITIALISERS_ALONE else set()
        everywhere = list(_with_nested(nodes))
        named = {tensor.name: tensor for tensor in tensors}
        return cls(
            constants={name: tensor for name, tensor in named.items() if name not in settable},
            makers={output: node for node in nodes for output in node.outputs},
            uses=Counter(name for node in everywhere for name in node.inputs) + Counter(outputs),
            taken={*inputs, *outputs, *named}.union(*((*node.inputs, *node.outputs) for node in everywhere)),
        )

    def slope(self, node: Node) -> np.ndarray[Any, Any] | None:
        """(C,) float32, the slopes of a PRelu that gains by being replaced; None for every other node."""
        if not _is(node, "PRelu"):
            return None
        channels = self._blocked_channels(node.inputs[0])
        tensor = self._constant(node.inputs[1])
        if channels is None or tensor is None or len(tensor.dims) > 4:
            return None
        # Aligned at the right: (C, 1, 1) has one slope per channel, (C,) would have one per column.
        shape = (1,) * (4 - len(tensor.dims)) + tuple(tensor.dims)
        if math.prod(shape) != 1 and shape != (1, channels, 1, 1):
            return None
        slope = np.frombuffer(tensor.float_bytes(), "<f4").reshape(math.prod(shape))
        return np.broadcast_to(slope, (channels,)) if np.isfinite(slope).all() else None

    def single(self, name: str) -> bool:
        return self.uses[name] == 1

    def fresh(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def _blocked_channels(self, name: str) -> int | None:
        """The number of channels of the map `name`, where a convolution gives it in the blocked layout."""
        node = self.makers.get(name)
        if (
            node is not None
            and _is(node, "BatchNormalization")
            and node.outputs[0] == name
            and self.single(node.inputs[0])
        ):
            node = self.makers.get(node.inputs[0])
        if node is None or not _is(node, "Conv"):
            return None
        constants = [self._constant(name) for name in node.inputs[1:]]
        weights = constants[0]
        if weights is None or None in constants or len(weights.dims) != 4:
            return None
        outputs, inputs = weights.dims[:2]
        return outputs if _is_blocked(outputs, inputs, node.integer("group", 1)) else None

    def _constant(self, name: str) -> Tensor | None:
        tensor = self.constants.get(name)
        return tensor if tensor is not None and tensor.data_type == FLOAT else None


def _is(node: Node, kind: str) -> bool:
    return node.kind == kind and node.domain in _DEFAULT_DOMAINS


def _is_blocked(outputs: int, inputs: int, group: int) -> bool:
    """Whether a convolution is blocked on every x86. inputs: those of one group."""
    if outputs % _BLOCK:
        return False
    if group == 1:
        return inputs < _NARROWEST_BLOCK or inputs % _BLOCK == 0
    depthwise = inputs == 1 and outputs == group
    return depthwise or (inputs % _BLOCK == 0 and outputs // group % _BLOCK == 0)


def _replace(graph: _Graph, node: Node, slope: np.ndarray[Any, Any] | None) -> list[bytes]:
    if slope is None:
        return [node.message.data[node.place.start : node.place.end]]
    data, result = node.inputs[0], node.outputs[0]
    if graph.single(data) and (slope == slope[0]).all():
        # ONNX Runtime makes it part of the convolution; a slope per channel it cannot.
        return [node_bytes("LeakyRelu", [data], [result], float_attribute("alpha", float(slope[0])))]
    return _per_channel(graph, data, result, slope)


def _per_channel(graph: _Graph, data: str, result: str, slope: np.ndarray[Any, Any]) -> list[bytes]:
    """Write a PRelu, for any slope a, as two depthwise convolutions: x + sign(1 - a) relu(-|1 - a| x).

    The first takes the Relu in, the second the sum: two passes over the map, both blocked.
    """
    gap = 1 - slope
    bent, kept, signed = (graph.fresh(f"{result}_{part}") for part in ("bent", "kept", "signed"))
    return [
        *_scale(graph, data, bent, -np.abs(gap)),
        node_bytes("Relu", [bent], [kept]),
        *_scale(graph, kept, signed, np.sign(gap)),
        node_bytes("Add", [data, signed], [result]),
    ]


def _scale(graph: _Graph, data: str, result: str, factors: np.ndarray[Any, Any]) -> list[bytes]:
    """Write one factor per channel as a 1x1 depthwise convolution."""
    name = graph.fresh(f"{result}_factors")
    channels, values = len(factors), factors.astype("<f4").tobytes()
    return [
        node_bytes("Constant", [], [name], tensor_attribute("value", (channels, 1, 1, 1), values)),
        node_bytes(
            "Conv",
            [data, name],
            [result],
            integer_attribute("group", channels),
            integers_attribute("kernel_shape", (1, 1)),
        ),
    ]


def _with_nested(nodes: Iterable[Node]) -> Iterator[Node]:
    """Iterate over nodes, and those of the graphs inside them."""
    for node in nodes:
        yield node
        for graph in node.graphs:
            yield from _with_nested(nodes_of(graph))
