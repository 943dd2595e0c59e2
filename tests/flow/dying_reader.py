"""A reader of units that kills its worker once; in a module that workers of a cluster find."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def dies_once(place: str, unit: int) -> int:
    """Ten times the unit. place: a folder, for the mark that somebody died over the fifth."""
    mark = Path(place, "died")
    if unit == 5 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 * unit
