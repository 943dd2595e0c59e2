"""An ONNX file in memory: its graph is parsed, its large weights stay where they are.

Weights are nearly all of a file. To parse and to write them again would copy each of them several times,
which costs more than making the session does. So the file is walked in protobuf's wire format
(https://protobuf.dev/programming-guides/encoding/), and large weights are skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import onnx

from frpipe.core.errors import ModelError

# Numbers of fields in onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_TENSOR_RAW_DATA = 9
_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5
_VARINT_BYTES = 10

# Raw data of an initialiser up to this many bytes is parsed.
LARGEST_PARSED = 1 << 16


@dataclass(frozen=True)
class OnnxFile:
    """A file and its graph.

    model: the parsed file, without the raw data of initialisers above `LARGEST_PARSED` bytes.
    """

    data: bytes
    model: onnx.ModelProto
    _graph: _Field

    @classmethod
    def parse(cls, data: bytes, name: str = "model") -> OnnxFile:
        """ModelError: `data` holds no graph, or not in one piece. `name` appears in the error alone."""
        with _refusing(name):
            (graph,) = (field for field in _fields(data, 0, len(data)) if field.is_sized(_MODEL_GRAPH))
            light = _with_graph(data, graph, _without_weights(data, graph))
        return cls(data, parse(light, name), graph)

    def with_nodes(self, nodes: Iterable[onnx.NodeProto]) -> bytes:
        """The same file with other nodes in its graph."""
        view = memoryview(self.data)
        # The order of fields of different numbers means nothing.
        parts: list[memoryview | bytes] = [onnx.GraphProto(node=nodes).SerializeToString()]
        for field in _fields(self.data, self._graph.value, self._graph.end):
            if not field.is_sized(_GRAPH_NODE):
                parts.append(view[field.start : field.end])
        return _with_graph(self.data, self._graph, parts)


def parse(data: bytes, name: str = "model") -> onnx.ModelProto:
    """Parse an ONNX file with all its weights. ModelError: `data` holds no graph."""
    with _refusing(name):
        model = onnx.load_model_from_string(data)
        if not model.graph.node:
            raise ValueError("no nodes")
    return model


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise ModelError(
            f"{name} is not an ONNX model", "fetch it again: a saved web page is a common cause"
        ) from error


class _Field(NamedTuple):
    """A field of a message: its number and wire type, and where its tag, its value and its end lie."""

    number: int
    kind: int
    start: int
    value: int
    end: int

    def is_sized(self, number: int) -> bool:
        """Whether it is this field, as bytes with their size before them."""
        return (self.number, self.kind) == (number, _SIZED)


def _without_weights(data: bytes, graph: _Field) -> Iterator[memoryview | bytes]:
    """The fields of a graph; initialisers lose large raw data."""
    view = memoryview(data)
    for field in _fields(data, graph.value, graph.end):
        large = _large_data(data, field) if field.is_sized(_GRAPH_INITIALIZER) else []
        if not large:
            yield view[field.start : field.end]
            continue
        at, kept = field.value, []
        for part in large:
            kept.append(view[at : part.start])
            at = part.end
        kept.append(view[at : field.end])
        yield _sized(_GRAPH_INITIALIZER, sum(map(len, kept)))
        yield from kept


def _large_data(data: bytes, tensor: _Field) -> list[_Field]:
    return [
        field
        for field in _fields(data, tensor.value, tensor.end)
        if field.is_sized(_TENSOR_RAW_DATA) and field.end - field.value > LARGEST_PARSED
    ]


def _with_graph(data: bytes, graph: _Field, parts: Iterable[memoryview | bytes]) -> bytes:
    view, parts = memoryview(data), list(parts)
    head = _sized(_MODEL_GRAPH, sum(map(len, parts)))
    return b"".join((view[: graph.start], head, *parts, view[graph.end :]))


def _fields(data: bytes, start: int, end: int) -> Iterator[_Field]:
    """The fields of the message in `data[start:end]`. ValueError: it is none."""
    while start < end:
        tag, value = _read_varint(data, start)
        kind = tag & 7
        if kind == _VARINT:
            _, stop = _read_varint(data, value)
        elif kind == _SIZED:
            size, value = _read_varint(data, value)
            stop = value + size
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            stop = value + (8 if kind == _EIGHT_BYTES else 4)
        else:
            raise ValueError("a wire type that ONNX does not use")
        if stop > end:
            raise ValueError("a field goes on after its message")
        yield _Field(tag >> 3, kind, start, value, stop)
        start = stop


def _read_varint(data: bytes, start: int) -> tuple[int, int]:
    """A number of variable length and where it ends."""
    number = 0
    for place, byte in enumerate(data[start : start + _VARINT_BYTES]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, start + place + 1
    raise ValueError("a number without an end")


def _sized(number: int, size: int) -> bytes:
    """The tag and the size that come before the bytes of a field."""
    head = bytearray([number << 3 | _SIZED])
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head)
