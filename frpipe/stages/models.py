"""The models that a configuration names, and the recipe that they make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

from frpipe.core.config import Config
from frpipe.models.card import Card
from frpipe.models.registry import Registry

if TYPE_CHECKING:
    from frpipe.core.recipe import Recipe


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
    # Columns are Arrow's, which a comparison of two photos does without.
    from frpipe.core.recipe import Recipe  # noqa: PLC0415

    looks = None
    if detector.looks and judge:
        looks = {**detector.looks.model_dump(mode="json"), "judge": model_facts(judge)}
    return Recipe.of(config, model_facts(detector), model_facts(embedder), looks)


def model_facts(card: Card) -> dict[str, object]:
    """What of a card changes a number: the hash of the weights, the input recipe, the outputs."""
    return card.model_dump(mode="json", include={"sha256", "input", "detector"}) | (
        {"dim": card.embedder.dim} if card.embedder else {}
    )
