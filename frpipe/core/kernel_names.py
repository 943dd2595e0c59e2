"""Names of the kernels of a search, and which of them may be asked for."""

from __future__ import annotations

from typing import Literal

Name = Literal["fp32", "int8", "subspace", "subspace-int8", "cuda"]
Wish = Literal["auto", "fp32", "int8", "subspace", "subspace-int8", "cuda"]
"""A kernel, or that one be chosen."""
