"""A decoder for tests whose format kills the worker that reads it."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from pathlib import Path

import cv2
import numpy as np

_SEEN: list[bytes] = []


def decode(data: bytes) -> np.ndarray | None:
    """None for any other format, so that the built-in decoders go on."""
    if not data.startswith(b"POISON"):
        return None
    if data.endswith(b"crash"):
        _die()
    if data.endswith(b"threads"):
        return _die() if cv2.getNumThreads() != 1 else None
    if data.endswith(b"often"):
        return _die_while_lives(Path(os.fsdecode(data[len(b"POISON") : -len(b" often")])))
    if data.endswith(b"pair"):
        _SEEN.append(data)
        return _die() if len(_SEEN) > 1 else None
    if data.endswith(b"waits"):
        return _wait_for(Path(os.fsdecode(data[len(b"POISON") : -len(b" waits")])))
    if data.endswith(b"hang"):
        signal.pause()
    _fill_memory()
    return None


def _die() -> None:
    """Die by a signal; without the stack, which would stand in the output of the tests."""
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGSEGV)


def _die_while_lives(lives: Path) -> None:
    left = lives.read_bytes()
    if left:
        lives.write_bytes(left[1:])
        _die()


def _wait_for(file: Path) -> None:
    for _ in range(600):
        if file.exists():
            break
        time.sleep(0.1)


def _fill_memory() -> None:
    """Take 3 GB; without a limit, die as the kernel would make us."""
    block = np.ones(3 << 30, np.uint8)
    os.kill(os.getpid(), signal.SIGKILL if block[0] else signal.SIGSEGV)
