"""Read and write threshold cards as files."""

from __future__ import annotations

from frpipe.core.errors import ConfigError
from frpipe.core.threshold import ThresholdCard
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder


def load(uri: str) -> ThresholdCard:
    """Read the threshold card in a file, local or remote. Raises ConfigError: not there, or no card."""
    folder, name = _place(uri)
    try:
        data = folder.read(name)
    except FileNotFoundError:
        raise ConfigError(f"there is no threshold card {uri}", "check the path") from None
    try:
        return ThresholdCard.parse(data)
    except ConfigError as error:
        raise ConfigError(f"{uri}: {error.message}", error.remedy) from None


def save(uri: str, card: ThresholdCard) -> None:
    """Write a card, over an older one if there is one."""
    folder, name = _place(uri)
    folder.write(name, card.json_text().encode())


def _place(uri: str) -> tuple[Folder, str]:
    folder, name = uris.parent(uris.canonical(uri))
    return Folder.at(folder), name
