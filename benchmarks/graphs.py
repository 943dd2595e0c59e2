"""Graphs as frpipe runs them, for loops that do without the rest of frpipe."""

from __future__ import annotations

import onnx

from frpipe.models.card import Card
from frpipe.models.onnx_file import OnnxFile
from frpipe.models.registry import Registry
from frpipe.models.rewrite import speed_up


def rewritten(card: Card) -> onnx.ModelProto:
    """The weights of a card in the operators that are quickest on this kind of CPU."""
    file = OnnxFile.parse(Registry.default().read(card), card.file)
    return onnx.load_model_from_string(speed_up(file))
