"""Show the faces that a change was refused for on standard output, as was asked. Errors name nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from frpipe.cli.table import printable


@contextmanager
def doubts_shown() -> Iterator[None]:
    """List the doubted faces of a change that is refused for them, then raise the error on."""
    from frpipe.gallery.likeness import DoubtError
    from frpipe.jobs.likeness import doubts_text

    try:
        yield
    except DoubtError as error:
        print("\n".join(map(printable, doubts_text(error.doubts))))
        raise
