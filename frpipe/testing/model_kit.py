"""The base of the kits of all networks: a card, and its weights."""

from __future__ import annotations

import pytest

from frpipe.models.card import Card
from frpipe.models.session import Session


class ModelKit:
    """The kit of a network. Override `card` and `session`."""

    @pytest.fixture(scope="class")
    @classmethod
    def card(cls) -> Card:
        """The card of the network."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def session(cls, card: Card) -> Session:
        """The network's weights in a session, on the CPU."""
        raise NotImplementedError
