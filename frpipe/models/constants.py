"""Constant folding on an ONNX graph: what does not depend on the image is computed once, here."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from frpipe.core.errors import ModelError

Array = np.ndarray[Any, Any]


def without_dropout(graph: Any) -> list[Any]:
    """Copies of the nodes in their order, with each Dropout (the identity at inference) bridged."""
    bridged: dict[str, str] = {}
    outputs = {value.name for value in graph.output}
    kept = []
    for node in graph.node:
        names = [bridged.get(name, name) for name in node.input]
        if node.op_type == "Dropout" and node.output[0] not in outputs:
            bridged[node.output[0]] = names[0]
        else:
            kept.append(_rewired(node, names))
    return kept


def fold_constants(nodes: list[Any], constants: dict[str, Any]) -> list[Any]:
    """The nodes that depend on the image; values of the others are added to `constants` (name -> tensor).

    Only Constant, DequantizeLinear and Reshape are computed, which is what block quantisation adds.
    """
    kept = []
    for node in nodes:
        fixed = all(name in constants or not name for name in node.input)
        if fixed and node.op_type in _FOLDERS:
            arrays = [numpy_helper.to_array(constants[name]) for name in node.input if name]
            value = np.ascontiguousarray(_FOLDERS[node.op_type](node, arrays))
            constants[node.output[0]] = numpy_helper.from_array(value, node.output[0])
        else:
            kept.append(node)
    return kept


def _rewired(node: Any, inputs: list[str]) -> Any:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.input[:]
    copy.input.extend(inputs)
    return copy


def _constant(node: Any, _arrays: list[Array]) -> Array:
    attribute = node.attribute[0]
    if attribute.name != "value":
        raise ModelError(f"cannot fold a Constant given as {attribute.name}", "export the model again")
    array: Array = numpy_helper.to_array(attribute.t)
    return array


def _dequantise(node: Any, arrays: list[Array]) -> Array:
    """`(x - zero_point) * scale`, as DequantizeLinear-21: per tensor, per axis or by blocks of an axis."""
    quantised, scale = arrays[:2]
    zero = arrays[2] if len(arrays) > 2 else np.zeros(scale.shape, np.int32)
    axis, block = _attribute(node, "axis", 1), _attribute(node, "block_size", 0)
    scale, zero = (_spread(array, quantised.shape, axis, block) for array in (scale, zero))
    difference = quantised.astype(np.int32) - zero.astype(np.int32)
    return difference.astype(np.float32) * scale.astype(np.float32)


def _spread(array: Array, shape: tuple[int, ...], axis: int, block: int) -> Array:
    if block:
        return np.repeat(array, block, axis=axis).take(np.arange(shape[axis]), axis=axis)
    if array.ndim == 0 or array.size == 1:
        return array.reshape(())
    return array.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])


def _reshape(_node: Any, arrays: list[Array]) -> Array:
    data, shape = arrays
    return data.reshape([data.shape[i] if size == 0 else int(size) for i, size in enumerate(shape)])


def _attribute(node: Any, name: str, default: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), default)


_FOLDERS = {"Constant": _constant, "DequantizeLinear": _dequantise, "Reshape": _reshape}
