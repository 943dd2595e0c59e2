"""A network over crops, for further stages: crops in, the network's outputs out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frpipe.core.errors import ModelError
from frpipe.models.blob import to_blob
from frpipe.models.card import Card

if TYPE_CHECKING:
    from frpipe.models.session import Session


class CropModel:
    """Run a network in batches of equal size. Not for use by several threads at once."""

    def __init__(self, card: Card, session: Session, batch_rows: int, fixed_batch: bool = False) -> None:
        """Wrap a session. fixed_batch: fill up every batch, for devices that prepare anew for each shape."""
        self.card = card
        self._session = session
        self._rows = batch_rows if card.input.batched else 1
        self._fixed = fixed_batch

    def run(self, crops: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Run the network on crops and return each output, its first axis n.

        crops: (n, height, width, 3) uint8 RGB, n from 1 on.
        Raises ModelError: they are of another size than the card's input.
        """
        wanted, size = self.card.input.size, (crops.shape[2], crops.shape[1])
        if isinstance(wanted, tuple) and wanted != size:
            raise ModelError(
                f"{self.card.name} takes crops of {wanted[0]} x {wanted[1]}, "
                f"and these are {size[0]} x {size[1]}",
                "have the stage resize them, or ask for enlarged ones of that side (docs/stages.md)",
            )
        batches = [self._run(crops[at : at + self._rows]) for at in range(0, len(crops), self._rows)]
        return [np.concatenate(parts) for parts in zip(*batches, strict=True)]

    def _run(self, crops: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        count, height, width = crops.shape[:3]
        blob = to_blob(crops, self.card.input, height, width)
        if self._fixed and count < self._rows:
            blob = np.concatenate([blob, np.zeros((self._rows - count, *blob.shape[1:]), blob.dtype)])
        return [np.asarray(output)[:count] for output in self._session.run(blob)]
