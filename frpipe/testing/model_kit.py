"""What the kits of all networks take: a card, and its weights."""

from __future__ import annotations

import pytest

from frpipe.models.card import Card
from frpipe.models.session import Session


class ModelKit:
    """Override `card` and `session`."""

    @pytest.fixture(scope="class")
    @classmethod
    def card(cls) -> Card:
        """The card of the network."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def session(cls, card: Card) -> Session:
        """Its weights, on the CPU."""
        raise NotImplementedError
