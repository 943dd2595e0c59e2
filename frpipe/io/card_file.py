"""Read and write the bytes of a card of a threshold or a calibration, local or remote."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from frpipe.core.errors import ConfigError
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder

T = TypeVar("T")


def load(uri: str, what: str, parse: Callable[[bytes], T]) -> T:
    """Read the card in a file. what: its kind, in words.  Raises ConfigError: not there, or no such card."""
    folder, name = _place(uri)
    try:
        data = folder.read(name)
    except FileNotFoundError:
        raise ConfigError(f"there is no {what} {uri}", "check the path") from None
    try:
        return parse(data)
    except ConfigError as error:
        raise ConfigError(f"{uri}: {error.message}", error.remedy) from None


def save(uri: str, text: str) -> None:
    """Write a card, over an older one if there is one."""
    folder, name = _place(uri)
    folder.write(name, text.encode())


def _place(uri: str) -> tuple[Folder, str]:
    folder, name = uris.parent(uris.canonical(uri))
    return Folder.at(folder), name
