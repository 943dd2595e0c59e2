"""Read and write calibration cards as files."""

from __future__ import annotations

from frpipe.core.calibration import CalibrationCard
from frpipe.io import card_file


def load(uri: str) -> CalibrationCard:
    """Read the calibration card in a file, local or remote. Raises ConfigError: not there, or no card."""
    return card_file.load(uri, "calibration card", CalibrationCard.parse)


def save(uri: str, card: CalibrationCard) -> None:
    """Write a card, over an older one if there is one."""
    card_file.save(uri, card.json_text())
