"""Read an ONNX file in memory, where it lies.

Weights are nearly all of a file. To parse and to write them again would copy each of them several times,
which costs more than making the session does; and the package `onnx` takes longer to import than the rest of
the file to look at. Numbers of fields are those of onnx.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from frpipe.core.errors import ModelError
from frpipe.models.wire import Field, Message, four_bytes, integer, sized, sized_head

FLOAT = 1
_EXTERNAL = 1


@dataclass(frozen=True)
class Tensor:
    """A constant of a graph."""

    message: Message

    @property
    def name(self) -> str:
        return self.message.text(8)

    @property
    def dims(self) -> list[int]:
        return self.message.integers(1)

    @property
    def data_type(self) -> int:
        return self.message.integer(2)

    @property
    def is_external(self) -> bool:
        """Whether the tensor says, once or more, that its values lie in another file."""
        return _EXTERNAL in self.message.integers(14)

    def float_bytes(self) -> bytes:
        """The values of a tensor of type FLOAT, little-endian."""
        raw = self.message.blobs(9)
        return raw[-1] if raw else b"".join(self.message.blobs(4))


@dataclass(frozen=True)
class Node:
    """An operator of a graph. place: the field that holds it."""

    message: Message
    place: Field
    inputs: list[str] = field(init=False)
    outputs: list[str] = field(init=False)
    kind: str = field(init=False)
    domain: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", self.message.texts(1))
        object.__setattr__(self, "outputs", self.message.texts(2))
        object.__setattr__(self, "kind", self.message.text(4))
        object.__setattr__(self, "domain", self.message.text(7))

    @property
    def graphs(self) -> list[Message]:
        """The graphs inside the node's attributes."""
        return [
            graph
            for attribute in self.message.messages(5)
            for number in (6, 11)
            for graph in attribute.messages(number)
        ]

    def integer(self, name: str, default: int) -> int:
        """The value of an attribute that is an integer."""
        found = (each for each in self.message.messages(5) if each.text(1) == name)
        return next((attribute.integer(3) for attribute in found), default)


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file and its graph."""

    data: bytes
    model: Message
    _graph: Field

    @classmethod
    def parse(cls, data: bytes, name: str = "model") -> OnnxFile:
        """Parse a file and its graph.

        ModelError: `data` holds no graph, or weights lie in other files. `name` is for errors alone.
        """
        with refused(name):
            model = Message(data, 0, len(data))
            (graph,) = model.sized(7)
            file = cls(data, model, graph)
            if not file.graph.sized(1):
                raise ValueError("no nodes")
            external = any(tensor.is_external for tensor in _tensors(model))
        if external:
            raise ModelError(
                f"{name} keeps weights in other files, which could be any file of this machine",
                "save it as one file: onnx.save_model(model, path, save_as_external_data=False)",
            )
        return file

    @property
    def graph(self) -> Message:
        return Message(self.data, self._graph.value, self._graph.end)

    @property
    def ir_version(self) -> int:
        return self.model.integer(1)

    @property
    def opsets(self) -> list[tuple[str, int]]:
        """The operator sets in use, as (domain, version)."""
        return [(opset.text(1), opset.integer(2)) for opset in self.model.messages(8)]

    def with_nodes(self, nodes: Iterable[bytes]) -> bytes:
        """Replace the nodes of the graph by others, each as `node_bytes` or `Node.place` has it."""
        view = memoryview(self.data)
        # The order of fields of different numbers means nothing.
        kept = [view[each.start : each.end] for each in self.graph.fields if each.number != 1]
        parts: list[bytes | memoryview] = [*nodes, *kept]
        place = self._graph
        head = sized_head(7, sum(map(len, parts)))
        return b"".join((view[: place.start], head, *parts, view[place.end :]))


def nodes_of(graph: Message) -> list[Node]:
    """The operators of a graph, in their order."""
    return [Node(Message(graph.data, place.value, place.end), place) for place in graph.sized(1)]


def tensors_of(graph: Message) -> list[Tensor]:
    """The initialisers of a graph."""
    return [Tensor(message) for message in graph.messages(5)]


def value_names(graph: Message, number: int) -> list[str]:
    """Names of a graph's inputs (11) or outputs (12)."""
    return [value.text(1) for value in graph.messages(number)]


def node_bytes(kind: str, inputs: Iterable[str], outputs: Iterable[str], *attributes: bytes) -> bytes:
    """Write a new node, as a field of a graph."""
    return sized(
        1,
        b"".join(
            (
                *(sized(1, name) for name in inputs),
                *(sized(2, name) for name in outputs),
                sized(4, kind),
                *(sized(5, attribute) for attribute in attributes),
            )
        ),
    )


def float_attribute(name: str, value: float) -> bytes:
    return sized(1, name) + four_bytes(2, struct.pack("<f", value)) + integer(20, 1)


def integer_attribute(name: str, value: int) -> bytes:
    return sized(1, name) + integer(3, value) + integer(20, 2)


def integers_attribute(name: str, values: Iterable[int]) -> bytes:
    return sized(1, name) + b"".join(integer(8, value) for value in values) + integer(20, 7)


def tensor_attribute(name: str, dims: Iterable[int], values: bytes) -> bytes:
    """Write a tensor as an attribute. values: float32, little-endian."""
    tensor = b"".join((*(integer(1, size) for size in dims), integer(2, FLOAT), sized(9, values)))
    return sized(1, name) + sized(5, tensor) + integer(20, 4)


@contextmanager
def refused(name: str) -> Iterator[None]:
    """Turn whatever reading a file raises into a ModelError."""
    try:
        yield
    except Exception as error:
        raise ModelError(
            f"{name} is not an ONNX model", "fetch it again: a saved web page is a common cause"
        ) from error


def _tensors(model: Message) -> Iterator[Tensor]:
    """Every tensor of a file: of its graph, of its functions, inside attributes and nested graphs."""
    for graph in model.messages(7):
        yield from _tensors_of_graph(graph)
    for function in model.messages(25):
        yield from _tensors_of_nodes(function.messages(7))
        yield from _tensors_of_attributes(function.messages(11))


def _tensors_of_graph(graph: Message) -> Iterator[Tensor]:
    yield from tensors_of(graph)
    yield from _sparse(graph.messages(15))
    yield from _tensors_of_nodes(graph.messages(1))


def _tensors_of_nodes(nodes: Iterable[Message]) -> Iterator[Tensor]:
    for node in nodes:
        yield from _tensors_of_attributes(node.messages(5))


def _tensors_of_attributes(attributes: Iterable[Message]) -> Iterator[Tensor]:
    for attribute in attributes:
        yield from (Tensor(message) for number in (5, 10) for message in attribute.messages(number))
        yield from (each for number in (22, 23) for each in _sparse(attribute.messages(number)))
        yield from (
            each
            for number in (6, 11)
            for graph in attribute.messages(number)
            for each in _tensors_of_graph(graph)
        )


def _sparse(tensors: Iterable[Message]) -> Iterator[Tensor]:
    """The values and the indices of sparse tensors."""
    yield from (Tensor(part) for each in tensors for number in (1, 2) for part in each.messages(number))
