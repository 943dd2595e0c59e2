"""Read ids from a file, or from standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from frpipe.core.errors import ConfigError


def ids_in(source: str | None) -> list[str]:
    """Read ids, one a line. Only a line feed ends a line: an id may hold any other separator.

    source: a path; `-`: standard input; None: there are none.
    """
    if source is None:
        return []
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise ConfigError("a file of ids cannot be read as UTF-8 text", "check its path") from None
    return [line for line in (line.removesuffix("\r") for line in text.split("\n")) if line]
