"""Read a network's outputs by role, and lay the grid of cells of a stride, for all decoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frpipe.core.errors import ModelMismatch
from frpipe.models.card import DetectorSpec

Floats = NDArray[np.float32]
_REMEDY = "compare `detector.outputs`, `detector.strides` and `detector.family` of the card with the graph"


@dataclass(frozen=True, slots=True)
class Head:
    """The outputs of one run of a detector.

    outputs: as the graph gives them; rows, height, width: of the input tensor (rows, 3, height, width).
    """

    spec: DetectorSpec
    outputs: Sequence[NDArray[Any]]
    rows: int
    height: int
    width: int

    def read(self, role: str, level: int, cells: int, columns: int) -> Floats:
        """Read the output of a role at a level of the pyramid as (rows, cells, columns).

        Exports without a batch axis (rows = 1) have it added. Raises ModelMismatch: there is no such output
        or it holds another number of values.
        """
        positions = self.spec.outputs.get(role, ())
        if level >= len(positions) or not 0 <= positions[level] < len(self.outputs):
            raise ModelMismatch(f"the graph has no output for role {role}, level {level}", _REMEDY)
        output = self.outputs[positions[level]]
        if output.size != self.rows * cells * columns:
            raise ModelMismatch(
                f"output {role}, level {level} has shape {output.shape}, not {(self.rows, cells, columns)}",
                _REMEDY,
            )
        return output.reshape(self.rows, cells, columns)


@lru_cache(maxsize=512)
def grid(height: int, width: int, stride: int, per_cell: int = 1) -> Floats:
    """Corners of the cells of a stride, row by row, each `per_cell` times: (n, 2) float32, x, y, pixels."""
    rows, columns = -(-height // stride), -(-width // stride)
    y, x = np.mgrid[:rows, :columns]
    cells = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32) * stride
    cells = np.repeat(cells, per_cell, axis=0)
    cells.flags.writeable = False
    return cells
