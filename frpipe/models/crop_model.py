"""A network over aligned crops, for further stages: crops in, the network's outputs out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frpipe.core.errors import ModelError
from frpipe.models.blob import to_blob
from frpipe.models.card import Card

if TYPE_CHECKING:
    from frpipe.models.session import Session

_CROP_SIDE = 112


class CropModel:
    """Runs a network in batches of equal size. Not for use by several threads at once."""

    def __init__(self, card: Card, session: Session, batch_rows: int, fixed_batch: bool = False) -> None:
        """fixed_batch: fill every batch up to `batch_rows`, for devices that prepare anew for each shape.

        Raises ModelError: the card's input is of another size than crops are.
        """
        if card.input.size not in ("dynamic", (_CROP_SIDE, _CROP_SIDE)):
            raise ModelError(
                f"{card.name} takes {card.input.size}, and crops are {_CROP_SIDE} x {_CROP_SIDE}",
                "resize the network's input when it is exported",
            )
        self.card = card
        self._session = session
        self._rows = batch_rows if card.input.batched else 1
        self._fixed = fixed_batch

    def run(self, crops: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Each output of the network for (n, 112, 112, 3) uint8 RGB crops, its first axis n; n from 1 on."""
        batches = [self._run(crops[at : at + self._rows]) for at in range(0, len(crops), self._rows)]
        return [np.concatenate(parts) for parts in zip(*batches, strict=True)]

    def _run(self, crops: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        count, height, width = crops.shape[:3]
        blob = to_blob(crops, self.card.input, height, width)
        if self._fixed and count < self._rows:
            blob = np.concatenate([blob, np.zeros((self._rows - count, *blob.shape[1:]), blob.dtype)])
        return [np.asarray(output)[:count] for output in self._session.run(blob)]
