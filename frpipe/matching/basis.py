"""Orthonormal bases of the few dimensions that embeddings fill, and embeddings in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from frpipe.matching.kernel import Doubles, Floats, Mask
from frpipe.matching.sieve import finite_rows

_UNIT_ROUNDOFF, _UNIT_ROUNDOFF_64 = 2.0**-24, 2.0**-53
# A sum of n products is off by n roundings, relatively, and by this much more.
_MORE = 1.01
# Covers products too small for float32.
_UNDERFLOW = 1e-18
# Rows at a time: they and their low forms stay in a core's own cache.
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class Basis:
    """A basis of some dimensions, and how far it is from orthonormal.

    matrix: (dim, r) float32, a vector of the basis a column.
    defect: at least the spectral norm of `matrix' matrix - 1`.  norm: at least the Frobenius norm.
    """

    matrix: Floats
    defect: float
    norm: float

    @classmethod
    def of(cls, matrix: Doubles | Floats) -> Basis:
        """Make a basis as it is in float32, its defect measured in float64."""
        matrix = np.ascontiguousarray(matrix, np.float32)
        wide = matrix.astype(np.float64)
        gram = wide.T @ wide
        norm = float(np.sqrt(np.trace(gram)))
        roundings = len(matrix) * _UNIT_ROUNDOFF_64 * _MORE * norm**2
        # The Frobenius norm is no less than the spectral one.
        defect = float(np.linalg.norm(gram - np.eye(len(gram)))) + roundings
        return cls(matrix, defect * (1 + 1e-9), norm * (1 + 1e-9))

    @property
    def dims(self) -> int:
        """The number of dimensions that the basis spans."""
        return int(self.matrix.shape[1])

    @property
    def dim(self) -> int:
        """The number of dimensions of the vectors."""
        return int(self.matrix.shape[0])


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Energy of vectors by direction: eigenvectors, (dim, dim) float64 columns, of their second moments.

    energy: (dim,) share of the sum of squares that each holds, the largest first. The vectors are not
    centred: an inner product is one with the origin, and a mean is a direction as any other.
    """

    directions: Doubles
    energy: Doubles

    @classmethod
    def of(cls, vectors: Floats) -> Spectrum:
        """The spectrum of (n, dim) vectors; rows that are not finite are left out."""
        wide = vectors[finite_rows(vectors)].astype(np.float64)
        values, directions = np.linalg.eigh(wide.T @ wide)
        values = np.maximum(values[::-1], 0)
        return cls(np.ascontiguousarray(directions[:, ::-1]), values / max(values.sum(), 1e-300))

    def leading(self, dims: int) -> Basis:
        """The basis of the leading dimensions, turned at random within them.

        Turned, every component holds about as much as any other, and whole numbers of one scale suit all.
        """
        turn = np.linalg.qr(np.random.default_rng(dims).normal(size=(dims, dims)))[0]
        return Basis.of(self.directions[:, :dims] @ turn)

    def held(self, dims: int) -> float:
        """The share of the energy in the leading dimensions."""
        return float(self.energy[:dims].sum())


@dataclass(frozen=True, slots=True)
class Lowered:
    """Vectors in a basis B: of v its low form w, about B'v, and the rest, at least |v - Bw|.

    form: (n, r + 1) float32, w and then the rest; zeros where a row is not finite.
    low: (n,) float64, at least |w|.  miss: (n,) float64, at least |w - B'v|.  finite: (n,).
    """

    form: Floats
    low: Doubles
    miss: Doubles
    finite: Mask

    @classmethod
    def of(cls, vectors: Floats, basis: Basis, *, precise: bool = False) -> Lowered:
        """Lower (n, dim) float32 vectors. precise: multiply in float64, which takes twice as long.

        As w = B'v + x with |x| <= miss, |v - Bw|^2 = |v|^2 - |w|^2 + 2 x.w + w'(B'B - 1)w, so the rest needs
        no second product.
        """
        finite = finite_rows(vectors)
        if not finite.all():
            vectors = np.where(finite[:, None], vectors, np.float32(0))
        rows, (dim, dims) = len(vectors), basis.matrix.shape
        form = np.empty((rows, dims + 1), np.float32)
        squares, low_squares = np.empty(rows), np.empty(rows)
        kind = np.float64 if precise else np.float32
        matrix: Any = basis.matrix.astype(kind, copy=False)
        for start in range(0, rows, _CHUNK):
            some = slice(start, start + _CHUNK)
            product = vectors[some].astype(kind, copy=False) @ matrix
            form[some, :dims] = low = product.astype(np.float32, copy=False)
            squares[some] = np.vecdot(vectors[some], vectors[some])
            low_squares[some] = np.vecdot(low, low)
        slack, low_slack = (count * _UNIT_ROUNDOFF * _MORE for count in (dim, dims))
        longest = np.sqrt(squares * (1 + slack)) + _UNDERFLOW
        lengths = np.sqrt(low_squares * (1 + low_slack)) + _UNDERFLOW
        roundoff = _UNIT_ROUNDOFF_64 if precise else _UNIT_ROUNDOFF
        miss = dim * roundoff * _MORE * basis.norm * longest + _UNIT_ROUNDOFF * _MORE * lengths + _UNDERFLOW
        gap = squares * (1 + slack) - low_squares * (1 - low_slack)
        gap += 2 * miss * lengths + basis.defect * lengths**2
        rest = np.nextafter((np.sqrt(np.maximum(gap, 0)) + _UNDERFLOW).astype(np.float32), np.float32(np.inf))
        form[:, dims] = rest
        return cls(form, lengths, miss, finite)
