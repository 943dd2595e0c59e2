"""A decoder for tests whose format kills the worker that reads it."""

from __future__ import annotations

import os
import signal

import numpy as np


def decode(data: bytes) -> np.ndarray | None:
    """None for any other format, so that the built-in decoders go on."""
    if not data.startswith(b"POISON"):
        return None
    if data.endswith(b"crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if data.endswith(b"hang"):
        signal.pause()
    _fill_memory()
    return None


def _fill_memory() -> None:
    """Take 3 GB; without a limit, die as the kernel would make us."""
    block = np.ones(3 << 30, np.uint8)
    os.kill(os.getpid(), signal.SIGKILL if block[0] else signal.SIGSEGV)
