"""Make a published ONNX file fit for batches: plain float weights, a free batch axis and, if it can be, size.

`fold` is deterministic, so that its result can be pinned by SHA-256; `check_fold` holds it to the original.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from frpipe.core.errors import ModelError
from frpipe.models.onnx_file import refused
from frpipe.models.session import Session, open_bytes

TOLERANCE = 1e-4
_OPSET = 17
_IR_VERSION = 8
# In a graph of these alone (and Reshape, Resize by scales) the outputs follow the size of the image.
_CONVOLUTIONAL = {"Add", "BatchNormalization", "Clip", "Concat", "Conv", "MaxPool", "Mul"}
_SIZE_FREE = _CONVOLUTIONAL | {"PRelu", "Relu", "Sigmoid", "Sub", "Transpose"}
# Since opset 17 only the types that these accept have changed: a graph of these alone may be lowered to it.
_SAME_SINCE_17 = _SIZE_FREE | {"Flatten", "Gemm", "GlobalAveragePool", "MatMul", "Reshape"}
_RESIZE_SINCE_18 = frozenset({"antialias", "axes", "keep_aspect_ratio_policy"})
_OTHER_SIZE = (96, 160)


Array = np.ndarray[Any, Any]


def fold(data: bytes) -> bytes:
    """Rewrite an ONNX file for batches.

    Block-quantised constants become float32 initialisers, Dropout goes, no weight is a graph input, the batch
    axis is free, and so are height and width of a fully convolutional graph. The same bytes give the same
    bytes. Raises ModelError: not ONNX, or built in a way not foreseen here.
    """
    model = _parsed(data)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    inputs = _images(graph)
    if len(inputs) != 1 or model.functions:
        raise ModelError("cannot fold a graph of several inputs or of local functions", "export it again")
    nodes = fold_constants(without_dropout(graph), constants)
    size_free = all(_is_size_free(node, constants) for node in nodes)
    _free_reshapes(nodes, constants, size_free)
    for value in (*inputs, *graph.output):
        _free_axes(value, size_free)
    used = dict.fromkeys(name for node in nodes for name in node.input if name in constants)
    weights = [constants[name] for name in used]
    return _serialise(model, helper.make_graph(nodes, graph.name, inputs, graph.output, weights))


def check_fold(original: bytes, folded: bytes) -> float:
    """Measure how far a folded model is from the original, on random pixels.

    It is the largest absolute difference, also that of its batch of two from two batches of one (at another
    size, if free). Raises ModelError above 1e-4.
    """
    before, after = open_bytes(_runnable(original), "cpu"), open_bytes(folded, "cpu")
    shape = _image_shape(original)
    pixels = _pixels(1, *shape)
    worst = difference(before.run(pixels), after.run(pixels))
    other = tuple(
        ours or size for ours, size in zip(_image_shape(folded), (shape[0], *_OTHER_SIZE), strict=True)
    )
    worst = max(worst, batch_difference(after, _pixels(2, *other)))
    if not worst <= TOLERANCE:
        raise ModelError(
            f"the folded model is off by {worst:.2g}, more than {TOLERANCE:g}", "nothing was published"
        )
    return worst


def batch_difference(session: Session, pixels: Array) -> float:
    """Largest absolute difference between a batch (N, 3, H, W) and its images run one by one."""
    singles = [session.run(pixels[i : i + 1]) for i in range(len(pixels))]
    return difference(session.run(pixels), [np.concatenate(parts) for parts in zip(*singles, strict=True)])


def difference(left: list[Array], right: list[Array]) -> float:
    """Largest absolute difference of two lists of outputs; infinite where shapes differ."""
    if [array.shape for array in left] != [array.shape for array in right]:
        return float("inf")
    return max(float(np.abs(a - b).max()) for a, b in zip(left, right, strict=True))


def _pixels(rows: int, *shape: int) -> Array:
    return np.random.default_rng(0).uniform(0, 255, (rows, *shape)).astype(np.float32)


def _image_shape(data: bytes) -> tuple[int, ...]:
    """(channels, height, width) of the input; 0 for an axis left free."""
    image = _images(_parsed(data).graph)[0]
    return tuple(int(axis.dim_value) for axis in image.type.tensor_type.shape.dim)[1:]


def _parsed(data: bytes) -> onnx.ModelProto:
    with refused("model"):
        model = onnx.load_model_from_string(data)
        if not model.graph.node:
            raise ValueError("no nodes")
    return model


def _images(graph: Any) -> list[Any]:
    """The inputs that the caller must give: those that nodes read and that are no weights."""
    weights = {tensor.name for tensor in graph.initializer}
    wanted = {name for node in graph.node for name in node.input} - weights
    return [value for value in graph.input if value.name in wanted]


def _runnable(data: bytes) -> bytes:
    """Drop what ONNX Runtime refuses though it means nothing.

    That is `block_size` where one block is the whole tensor, and inputs that no node reads (quantisation
    leaves the names of float weights).
    """
    model = _parsed(data)
    inputs = _images(model.graph)
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    single = {tensor.name for tensor in model.graph.initializer if list(tensor.dims) in ([], [1])}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[1] in single:
            kept = [attribute for attribute in node.attribute if attribute.name != "block_size"]
            del node.attribute[:]
            node.attribute.extend(kept)
    result: bytes = model.SerializeToString()
    return result


def _is_size_free(node: Any, constants: dict[str, Any]) -> bool:
    if node.op_type == "Reshape":
        # (batch, cells, values) is a dense prediction; (batch, values) is one vector of a fixed image size.
        return len(_target(node, constants) or ()) == 3
    if node.op_type == "Resize":
        return len(node.input) == 3 and node.input[2] in constants
    return node.op_type in _SIZE_FREE


def _target(node: Any, constants: dict[str, Any]) -> list[int] | None:
    """The constant shape that a Reshape asks for."""
    tensor = constants.get(node.input[1])
    return None if tensor is None else [int(size) for size in numpy_helper.to_array(tensor)]


def _free_reshapes(nodes: list[Any], constants: dict[str, Any], size_free: bool) -> None:
    """Free the batch axis: [1, 6400, 4] becomes [0, -1, 4]; 0 copies the input's, -1 is what is left."""
    for node in (node for node in nodes if node.op_type == "Reshape"):
        shape = _target(node, constants)
        if shape is None or shape[0] != 1:
            continue
        rest = [-1, *shape[2:]] if size_free and -1 not in shape[1:] else shape[1:]
        name = f"{node.output[0]}_shape"
        constants[name] = numpy_helper.from_array(np.array([0, *rest], np.int64), name)
        node.input[1] = name


def _free_axes(value: Any, size_free: bool) -> None:
    axes = value.type.tensor_type.shape.dim
    spatial = {3: (1,), 4: (2, 3)}.get(len(axes), ()) if size_free else ()
    for axis in (0, *spatial):
        axes[axis].dim_param = "batch" if axis == 0 else f"{value.name}_{axis}"


def _serialise(model: Any, graph: Any) -> bytes:
    opsets = [helper.make_opsetid(opset.domain, _opset(opset, graph)) for opset in model.opset_import]
    folded = helper.make_model(graph, producer_name="frpipe", opset_imports=opsets, ir_version=_IR_VERSION)
    data: bytes = folded.SerializeToString(deterministic=True)
    return data


def _opset(opset: Any, graph: Any) -> int:
    lowers = opset.domain == "" and all(_same_since_17(node) for node in graph.node)
    return min(opset.version, _OPSET) if lowers else int(opset.version)


def _same_since_17(node: Any) -> bool:
    if node.op_type == "Resize":
        return not any(attribute.name in _RESIZE_SINCE_18 for attribute in node.attribute)
    return node.op_type in _SAME_SINCE_17


def without_dropout(graph: Any) -> list[Any]:
    """Copy the nodes in their order, with each Dropout (the identity at inference) bridged."""
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
    """Drop the nodes that depend on no image; their values are added to `constants` (name -> tensor).

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
    """Dequantise as DequantizeLinear-21: `(x - zero_point) * scale`, per tensor, axis or by blocks of one."""
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
