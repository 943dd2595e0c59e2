"""The int8 kernel: scans a tile in 8-bit integers and scores only what these cannot rule out."""

from __future__ import annotations

import numpy as np

from frpipe.matching.integers import Integers
from frpipe.matching.kernel import Doubles, Floats, Indices
from frpipe.matching.sieve import MOST_FINDS, Sieve, Sifted


class Int8(Sieve):
    """Kernel of 8-bit integers: all components of the vectors are scanned, see `Integers`."""

    def __init__(self, most_finds: float = MOST_FINDS) -> None:
        """Open the kernel. Raises ConfigError: this machine's integer products are wrong."""
        super().__init__(most_finds)
        self._scan = Integers()

    def probes(self, vectors: Floats) -> Sifted:
        """Quantise probes, each with its own scale."""
        vectors = np.ascontiguousarray(vectors, np.float32)
        form = self._scan.probes(vectors)
        return Sifted(vectors, form, form.finite)

    def tile(self, vectors: Floats) -> Sifted:
        """Quantise gallery rows, all with one scale."""
        vectors = np.ascontiguousarray(vectors, np.float32)
        form = self._scan.tile(vectors)
        return Sifted(vectors, form, form.finite)

    def row_bytes(self, dim: int) -> int:
        """The memory of a row's form: a byte a number, and whether it is finite."""
        return dim + 1

    def near(self, probes: Sifted, tile: Sifted, limits: Doubles) -> Indices | None:
        return self._scan.near(probes.form, tile.form, limits, self._most_finds)
