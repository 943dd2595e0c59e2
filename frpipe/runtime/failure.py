"""Errors on their way from a worker to the driver, as text."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa

from frpipe.core.errors import FrpipeError

FAILURE = "failure"
# Errors that storage and its libraries raise where nothing of ours has explained them.
EXPECTED = (FrpipeError, OSError, pa.ArrowInvalid)


def failure(error: Exception) -> pa.Table:
    """A table of one row that holds the error."""
    return pa.table({FAILURE: [as_text(error)]})


def as_text(error: Exception) -> str:
    """Write an error as one line.

    Of a foreign error only the kind and its own short text are kept: messages may hold paths.
    """
    if isinstance(error, FrpipeError):
        return json.dumps([error.code, error.message, error.remedy])
    cause = getattr(error, "strerror", None) or type(error).__name__
    return json.dumps(
        ["storage", f"a worker's storage failed: {cause}", "see that it is there, then run again"]
    )


def revive(text: str) -> FrpipeError:
    """Make the error again, of its own class."""
    code, message, remedy = json.loads(text)
    kind = next((each for each in _family(FrpipeError) if each.code == code), FrpipeError)
    return kind(message, remedy)


def _family(kind: type[FrpipeError]) -> Iterator[type[FrpipeError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _family(child)
