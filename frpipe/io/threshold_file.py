"""Read and write threshold cards as files."""

from __future__ import annotations

from frpipe.core.threshold import ThresholdCard
from frpipe.io import card_file


def load(uri: str) -> ThresholdCard:
    """Read the threshold card in a file, local or remote. Raises ConfigError: not there, or no card."""
    return card_file.load(uri, "threshold card", ThresholdCard.parse)


def save(uri: str, card: ThresholdCard) -> None:
    """Write a card, over an older one if there is one."""
    card_file.save(uri, card.json_text())
