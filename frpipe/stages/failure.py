"""An error of ours on its way from a worker to the driver, as a row."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pyarrow as pa

from frpipe.core.errors import FrpipeError

FAILURE = "failure"


def failure(error: FrpipeError) -> pa.Table:
    """A table of one row that holds the error."""
    return pa.table({FAILURE: [json.dumps([error.code, error.message, error.remedy])]})


def revive(text: str) -> FrpipeError:
    """The error again, of its own class."""
    code, message, remedy = json.loads(text)
    kind = next((each for each in _family(FrpipeError) if each.code == code), FrpipeError)
    return kind(message, remedy)


def _family(kind: type[FrpipeError]) -> Iterator[type[FrpipeError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _family(child)
