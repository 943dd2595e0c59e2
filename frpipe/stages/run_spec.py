"""What every worker of a run is told: small, plain, and the same for all of them."""

from __future__ import annotations

from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from frpipe.core.config import Config
from frpipe.core.recipe import Recipe
from frpipe.models.card import Card
from frpipe.models.registry import Registry
from frpipe.stages.obeyed import NOBODY, Obeyed


class RunSpec(BaseModel):
    """Orders for the workers of one launch of a run. `launch` is new each time the command is started.

    config, judge: as `Models` has them.  obeyed: whom and what not to enroll; no part of the recipe,
    and in no file of the run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: str
    launch: str
    config: Config
    detector: Card
    embedder: Card
    judge: Card | None = None
    # Ray may write the text of what a worker is given to its own logs.
    obeyed: Obeyed = Field(NOBODY, repr=False)

    @property
    def models(self) -> tuple[Card, ...]:
        """The cards of the models that the run needs."""
        return tuple({card.name: card for card in self.named.values()}.values())

    @property
    def named(self) -> dict[str, Card]:
        """The same by what each does; the judge may be the detector itself."""
        cards = {"detector": self.detector, "judge": self.judge, "embedder": self.embedder}
        return {role: card for role, card in cards.items() if card is not None}

    @property
    def recipe(self) -> Recipe:
        return recipe_of(self.config, self.detector, self.embedder, self.judge)


class Models(NamedTuple):
    """The cards that a configuration names, and the configuration as they can carry it out.

    judge: None where photos are looked at once: so asked for, or the detector's card has no numbers for more.
    """

    config: Config
    detector: Card
    embedder: Card
    judge: Card | None

    @classmethod
    def of(cls, config: Config) -> Self:
        """Raises ModelError: there is no such card, or it has another role."""
        registry = Registry.default()
        detector = registry.card_for("detector", config.detect.model)
        embedder = registry.card_for("embedder", config.embed.model)
        if detector.looks is None or config.detect.is_single_look:
            return cls(config.single_look(), detector, embedder, None)
        return cls(config, detector, embedder, registry.card_for("detector", detector.looks.judge))

    @property
    def recipe(self) -> Recipe:
        return recipe_of(self.config, self.detector, self.embedder, self.judge)


def recipe_of(config: Config, detector: Card, embedder: Card, judge: Card | None) -> Recipe:
    """The recipe of a settled configuration."""
    looks = None
    if detector.looks and judge:
        looks = {**detector.looks.model_dump(mode="json"), "judge": model_facts(judge)}
    return Recipe.of(config, model_facts(detector), model_facts(embedder), looks)


def model_facts(card: Card) -> dict[str, object]:
    """What of a card changes a number: the hash of the weights, the input recipe, the outputs."""
    return card.model_dump(mode="json", include={"sha256", "input", "detector"}) | (
        {"dim": card.embedder.dim} if card.embedder else {}
    )
