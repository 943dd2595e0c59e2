"""Graphs rewritten so that ONNX Runtime runs them faster on an x86 CPU, as the same function.

ONNX Runtime keeps the maps between convolutions in a blocked layout, but only across operators that it
knows in that layout. PRelu is none of them: each one costs two reorderings and a slow elementwise pass. Here
it becomes operators that stay blocked (docs/adr/0006-graphs-are-rewritten-for-the-cpu.md).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from frpipe.models.onnx_file import LARGEST_PARSED, OnnxFile

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
# Slopes of more channels may not have been parsed.
_MOST_CHANNELS = LARGEST_PARSED // np.dtype(np.float32).itemsize


def speed_up(file: OnnxFile) -> bytes:
    """The same function in operators that ONNX Runtime runs faster on an x86 CPU, as an ONNX file.

    The file itself is the answer where nothing can be gained. Names and shapes of inputs and outputs stay.
    Every PRelu whose input is a blocked float32 (N, C, H, W) convolution and whose constant slope is one
    number or one per channel is replaced; for finite maps the result differs by float32 rounding: at most a
    few units in the last place of the largest of |x|, |slope x|.
    """
    model = file.model
    if len(file.data) > _LARGEST_REWRITTEN or not _opsets_fit(model):
        return file.data
    graph = _Graph.of(model)
    slopes = [graph.slope(node) for node in model.graph.node]
    if all(slope is None for slope in slopes):
        return file.data
    return file.with_nodes(
        part
        for node, slope in zip(model.graph.node, slopes, strict=True)
        for part in _replace(graph, node, slope)
    )


def _opsets_fit(model: onnx.ModelProto) -> bool:
    versions = [opset.version for opset in model.opset_import if opset.domain in _DEFAULT_DOMAINS]
    return len(versions) == 1 and versions[0] in _OPSETS


@dataclass(frozen=True)
class _Graph:
    """What has to be known of a graph to rewrite one of its nodes."""

    constants: dict[str, onnx.TensorProto]
    makers: dict[str, Any]
    uses: Counter[str]
    taken: set[str]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> _Graph:
        graph = model.graph
        # An initialiser that is an input too can be set by the caller: it is no constant.
        settable = {value.name for value in graph.input if model.ir_version >= _IR_OF_INITIALISERS_ALONE}
        return cls(
            constants={tensor.name: tensor for tensor in graph.initializer if tensor.name not in settable},
            makers={output: node for node in graph.node for output in node.output},
            uses=Counter(name for node in _nodes(graph) for name in node.input)
            + Counter(value.name for value in graph.output),
            taken=set(_names(graph)),
        )

    def slope(self, node: onnx.NodeProto) -> np.ndarray[Any, Any] | None:
        """(C,) float32, the slopes of a PRelu that gains by being replaced; None for every other node."""
        if not _is(node, "PRelu"):
            return None
        channels = self._blocked_channels(node.input[0])
        tensor = self._constant(node.input[1])
        if channels is None or channels > _MOST_CHANNELS or tensor is None or len(tensor.dims) > 4:
            return None
        # Aligned at the right: (C, 1, 1) has one slope per channel, (C,) would have one per column.
        shape = (1,) * (4 - len(tensor.dims)) + tuple(tensor.dims)
        if math.prod(shape) != 1 and shape != (1, channels, 1, 1):
            return None
        slope = numpy_helper.to_array(tensor).reshape(-1)
        return np.broadcast_to(slope, (channels,)) if np.isfinite(slope).all() else None

    def single(self, name: str) -> bool:
        return self.uses[name] == 1

    def fresh(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def _blocked_channels(self, name: str) -> int | None:
        """How many channels the map `name` has, where a convolution gives it in the blocked layout."""
        node: Any = self.makers.get(name)
        if _is(node, "BatchNormalization") and node.output[0] == name and self.single(node.input[0]):
            node = self.makers.get(node.input[0])
        if not _is(node, "Conv"):
            return None
        constants = [self._constant(name) for name in node.input[1:]]
        if any(tensor is None for tensor in constants) or len(constants[0].dims) != 4:
            return None
        outputs, inputs = constants[0].dims[:2]
        group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        return outputs if _is_blocked(outputs, inputs, group) else None

    def _constant(self, name: str) -> Any:
        tensor = self.constants.get(name)
        return tensor if tensor is not None and tensor.data_type == onnx.TensorProto.FLOAT else None


def _is(node: Any, kind: str) -> bool:
    return node is not None and node.op_type == kind and node.domain in _DEFAULT_DOMAINS


def _is_blocked(outputs: int, inputs: int, group: int) -> bool:
    """Whether a convolution is blocked on every x86; `inputs` are those of one group."""
    if outputs % _BLOCK:
        return False
    if group == 1:
        return inputs < _NARROWEST_BLOCK or inputs % _BLOCK == 0
    depthwise = inputs == 1 and outputs == group
    return depthwise or (inputs % _BLOCK == 0 and outputs // group % _BLOCK == 0)


def _replace(graph: _Graph, node: onnx.NodeProto, slope: np.ndarray[Any, Any] | None) -> list[onnx.NodeProto]:
    if slope is None:
        return [node]
    data, result = node.input[0], node.output[0]
    if graph.single(data) and (slope == slope[0]).all():
        # ONNX Runtime makes it part of the convolution; a slope per channel it cannot.
        return [helper.make_node("LeakyRelu", [data], [result], alpha=float(slope[0]))]
    return _per_channel(graph, data, result, slope)


def _per_channel(graph: _Graph, data: str, result: str, slope: np.ndarray[Any, Any]) -> list[onnx.NodeProto]:
    """PRelu(x) = x + sign(1 - a) relu(-|1 - a| x), for every slope a, by two depthwise convolutions.

    The first takes the Relu in, the second the sum: two passes over the map, both blocked.
    """
    gap = 1 - slope
    bent, kept, signed = (graph.fresh(f"{result}_{part}") for part in ("bent", "kept", "signed"))
    return [
        *_scale(graph, data, bent, -np.abs(gap)),
        helper.make_node("Relu", [bent], [kept]),
        *_scale(graph, kept, signed, np.sign(gap)),
        helper.make_node("Add", [data, signed], [result]),
    ]


def _scale(graph: _Graph, data: str, result: str, factors: np.ndarray[Any, Any]) -> list[onnx.NodeProto]:
    """One factor per channel, as a 1x1 depthwise convolution."""
    name = graph.fresh(f"{result}_factors")
    value = numpy_helper.from_array(factors.reshape(-1, 1, 1, 1))
    return [
        helper.make_node("Constant", [], [name], value=value),
        helper.make_node("Conv", [data, name], [result], group=len(factors), kernel_shape=[1, 1]),
    ]


def _nodes(graph: Any) -> Iterator[onnx.NodeProto]:
    """Every node of a graph, those of the graphs inside its nodes too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for nested in (attribute.g, *attribute.graphs):
                yield from _nodes(nested)


def _names(graph: Any) -> Iterator[str]:
    """Every name in use in a graph and in those nested in it."""
    yield from (value.name for value in (*graph.input, *graph.initializer, *graph.output))
    for node in _nodes(graph):
        yield from (*node.input, *node.output)
