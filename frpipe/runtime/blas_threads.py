"""How many threads matrix products take."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import product
from pathlib import Path

_NAMES = tuple(
    f"{prefix}openblas_{{}}_num_threads{suffix}" for prefix, suffix in product(("scipy_", ""), ("64_", ""))
)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Have OpenBLAS compute with one thread in what is forked meanwhile, as in a worker of Ray with one CPU.

    It reads OMP_NUM_THREADS when it is loaded, and a fork has it loaded already. Other libraries, which are
    not what wheels of NumPy bring, and systems without /proc keep their threads: slower where workers are as
    many as CPUs, with the same results.
    """
    with ExitStack() as stack:
        for library in _loaded("openblas"):
            for name in _NAMES:
                get, put = (getattr(library, name.format(verb), None) for verb in ("get", "set"))
                if get is not None and put is not None:
                    stack.callback(put, get())
                    put(1)
        yield


def _loaded(word: str) -> list[ctypes.CDLL]:
    """Libraries of this process with a word in the name of their file."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    paths = {fields[5] for fields in (line.split(maxsplit=5) for line in lines) if len(fields) == 6}
    found = []
    for path in sorted(path for path in paths if word in Path(path).name and ".so" in path):
        with suppress(OSError):
            found.append(ctypes.CDLL(path))
    return found
