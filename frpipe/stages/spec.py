"""What every worker of a run is told: small, plain, and the same for all of them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from frpipe.core.config import Config
from frpipe.core.recipe import Recipe
from frpipe.models.card import Card


class RunSpec(BaseModel):
    """Orders for the workers of one launch of a run. `launch` is new each time the command is started."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: str
    launch: str
    config: Config
    detector: Card
    embedder: Card

    @property
    def models(self) -> tuple[Card, Card]:
        """The cards of the models that the run needs."""
        return self.detector, self.embedder

    @property
    def recipe(self) -> Recipe:
        return Recipe.of(self.config, model_facts(self.detector), model_facts(self.embedder))


def model_facts(card: Card) -> dict[str, object]:
    """What of a card changes a number: the hash of the weights, the input recipe, the outputs."""
    return card.model_dump(mode="json", include={"sha256", "input", "detector"}) | (
        {"dim": card.embedder.dim} if card.embedder else {}
    )
