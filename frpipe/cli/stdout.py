"""Keep standard output for our result alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_clean() -> Iterator[None]:
    """Send what libraries and their child processes print to standard output to standard error meanwhile.

    Ray's raylet reports lost workers there; a caller that parses our JSON must not find them in it.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
