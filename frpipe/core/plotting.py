"""Guard matplotlib against an environment that names a backend which is not installed."""

from __future__ import annotations

import os
from importlib.util import find_spec

_OF_A_MODULE = "module://"


def forget_missing_backend() -> None:
    """Take MPLBACKEND out of the environment where it names a module that is not installed.

    matplotlib could not be imported then. A notebook names its own backend to all that it starts, in other
    environments too; what frpipe draws needs none.
    """
    named = os.environ.get("MPLBACKEND", "")
    if named.startswith(_OF_A_MODULE):
        package = named.removeprefix(_OF_A_MODULE).partition(".")[0]
        if not package or find_spec(package) is None:
            del os.environ["MPLBACKEND"]
