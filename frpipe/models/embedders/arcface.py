"""Embedders in the manner of ArcFace: one vector from one 112x112 crop aligned by five points.

Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frpipe.core.errors import InvariantError, ModelError, ModelMismatch
from frpipe.models.blob import to_blob
from frpipe.models.card import Card

if TYPE_CHECKING:
    from frpipe.models.session import Session

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


class Embedder:
    """Turn crops into vectors. Not for use by several threads at once: the input memory is reused.

    flip: add the vector of the mirrored crop. fixed_batch: fill every batch up to `batch_rows`, for devices
    that prepare anew for each shape.
    """

    def __init__(
        self, card: Card, session: Session, batch_rows: int, flip: bool = False, fixed_batch: bool = False
    ) -> None:
        if card.embedder is None:
            raise ModelError(f"{card.name} is not an embedder", "choose one with `frpipe models list`")
        self.card = card
        self.dim = card.embedder.dim
        self._session = session
        self._rows = batch_rows if card.input.batched else 1
        self._flip = flip
        self._fixed = fixed_batch
        self._scratch = np.empty(0, np.float32)

    def embed(self, crops: Pixels, tell: Callable[[int], None] = lambda _: None) -> Floats:
        """Vectors (N, dim) float32 as the network gives them: NOT of unit length, and perhaps not finite.

        crops: (N, 112, 112, 3) uint8 RGB; N may be 0.  tell: called after each batch with the number done.
        Raises ModelMismatch: the graph gives vectors of
        another length than the card says.
        """
        self._check(crops)
        vectors = np.empty((len(crops), self.dim), np.float32)
        for start in range(0, len(crops), self._rows):
            batch = crops[start : start + self._rows]
            vectors[start : start + len(batch)] = self._embed(batch)
            tell(start + len(batch))
        return vectors

    def _check(self, crops: Pixels) -> None:
        size = self.card.input.size
        expected = crops.shape[1:] if size == "dynamic" else (size[1], size[0], 3)
        if crops.ndim != 4 or crops.shape[1:] != expected or crops.dtype != np.uint8:
            raise InvariantError(
                f"{self.card.name} takes crops (N, *{expected}) uint8, not {crops.shape} {crops.dtype}"
            )

    def _embed(self, crops: Pixels) -> Floats:
        count = len(crops)
        padded = self._rows if self._fixed else count
        blob = self._blob(crops, padded)
        vectors = self._run(blob)[:count]
        if self._flip:
            vectors = vectors + self._run(np.ascontiguousarray(blob[..., ::-1]))[:count]
        return vectors

    def _blob(self, crops: Pixels, rows: int) -> Floats:
        height, width = crops.shape[1:3]
        size = rows * 3 * height * width
        if self._scratch.size < size:
            self._scratch = np.zeros(size, np.float32)
        to_blob(crops, self.card.input, height, width, self._scratch)
        return self._scratch[:size].reshape(rows, 3, height, width)

    def _run(self, blob: Floats) -> Floats:
        vectors = self._session.run(blob)[0]
        if vectors.shape != (len(blob), self.dim):
            raise ModelMismatch(
                f"{self.card.name} gave vectors {vectors.shape}, the card says {(len(blob), self.dim)}",
                "correct `embedder.dim` or `input.batched` of the card",
            )
        return np.asarray(vectors, np.float32)
