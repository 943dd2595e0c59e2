"""Plots, which are drawn into files and need no window."""

from __future__ import annotations

from frpipe.core.plotting import forget_missing_backend

forget_missing_backend()
