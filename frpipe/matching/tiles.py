"""Keep rows of a gallery in the form of a kernel from one search to the next."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np

from frpipe.matching.kernel import Floats, Kernel
from frpipe.matching.sieve import Ready, Sieve, Sifted

_NOTHING = np.zeros((0, 0), np.float32)


class Tiles:
    """Forms of tiles, by the name of their block and their rows; what a form costs is spent once.

    Kernels that scan vectors as they are have no form of their own: nothing is kept of them. most_bytes: what
    is beyond is made anew each time.
    """

    def __init__(self, kernel: Kernel, most_bytes: int = 0) -> None:
        self._kernel, self._room = kernel, most_bytes
        self._kept: dict[tuple[Hashable, int, int], Sifted] = {}

    def of(self, block: Hashable, vectors: Floats, rows: slice, ready: Ready | None = None) -> Any:
        """The form of some rows of a block's (n, dim) vectors.

        block: its name; None: it has none.  ready: all its rows in the form of the kernel; None: not known.
        """
        some, key = vectors[rows], (block, rows.start, rows.stop)
        if ready is not None:
            return ready.part(some, rows)
        if key in self._kept:
            return replace(self._kept[key], vectors=some)
        tile = self._kernel.tile(some)
        if block is not None and isinstance(self._kernel, Sieve):
            size = len(some) * self._kernel.row_bytes(vectors.shape[1])
            if size <= self._room:
                self._room -= size
                # Not the vectors: these may be a view, and keep a whole file.
                self._kept[key] = replace(tile, vectors=_NOTHING)
        return tile
