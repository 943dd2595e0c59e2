"""Objects on their way from one process of a job to another: never to a file, and never from one.

To read them runs what they hold. So they may come only out of memory that processes of one job share, as
arguments and results do that Ray or `multiprocessing` move.
"""

from __future__ import annotations

import pickle
from typing import Any


def packed(thing: object) -> bytes:
    """Pack an object for `unpacked` in another process of the same job."""
    return pickle.dumps(thing)


def unpacked(data: bytes) -> Any:
    """Unpack what another process of the same job has packed; never what storage or a user gives."""
    return pickle.loads(data)
