"""Errors that metrics raise."""

from __future__ import annotations

from frpipe.core.errors import FrpipeError


class ScoresError(FrpipeError, ValueError):
    """The error for scores, ranks or labels that no rate can be computed from."""

    code = "scores"
    exit_code = 13
