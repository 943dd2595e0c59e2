"""The models that a configuration names, and the recipe that they make of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from frpipe.core.config import Config
from frpipe.models.card import Card
from frpipe.models.registry import Registry

if TYPE_CHECKING:
    from frpipe.core.recipe import Recipe

StageCards = dict[str, dict[str, Card]]
"""Cards by stage, and by the setting that names the card."""


class Models(NamedTuple):
    """The cards that a configuration names, and the configuration as they can carry it out.

    judge: None where photos are looked at once: so asked for, or the detector's card has no numbers for more.
    further: of the embedders behind the first.  stage_cards: of the further stages.
    """

    config: Config
    detector: Card
    embedder: Card
    judge: Card | None
    further: tuple[Card, ...] = ()
    stage_cards: StageCards = {}  # noqa: RUF012 - a NamedTuple's default

    @classmethod
    def of(cls, config: Config) -> Self:
        """Find the cards. Raises ModelError: one is missing, or of another role; ConfigError: a stage's."""
        registry = Registry.default()
        detector = registry.card_for("detector", config.detect.model)
        embedder, *further = (registry.card_for("embedder", each.model) for each in config.embed)
        config = config.with_models(detector.name, [embedder.name, *(card.name for card in further)])
        beside = (tuple(further), _stage_cards(config, registry))
        if detector.looks is None or config.detect.is_single_look:
            return cls(config.single_look(), detector, embedder, None, *beside)
        judge = registry.card_for("detector", detector.looks.judge)
        return cls(config, detector, embedder, judge, *beside)

    @property
    def recipe(self) -> Recipe:
        """The recipe of a settled configuration."""
        # Columns are Arrow's, which a comparison of two photos does without.
        from frpipe.core.recipe import Recipe  # noqa: PLC0415

        looks, judge = None, self.judge
        if self.detector.looks and judge:
            looks = {**self.detector.looks.model_dump(mode="json"), "judge": model_facts(judge)}
        return Recipe.of(
            self.config,
            model_facts(self.detector),
            model_facts(self.embedder),
            looks,
            further={card.name: model_facts(card) for card in self.further},
            stages={name: _stage_facts(name, self.stage_cards.get(name, {})) for name in self.config.stages},
        )


def _stage_cards(config: Config, registry: Registry) -> StageCards:
    """The cards that the settings of stages name."""
    cards: StageCards = {}
    if not config.stages:
        return cards
    # A stage declares columns, which are Arrow's: a comparison of two photos does without.
    from frpipe.stages.stage import stage_classes  # noqa: PLC0415

    for stage in stage_classes([*config.stages]):
        settings = config.stages[stage.name]
        if stage.roles:
            cards[stage.name] = {
                name: registry.card_for(role, str(settings[name]))
                for name, role in stage.roles.items()
                if settings[name] is not None
            }
    return cards


def _stage_facts(name: str, cards: Mapping[str, Card]) -> dict[str, Any]:
    """Facts of a stage that decide the output, beside its settings."""
    from frpipe.stages.stage import stage_class  # noqa: PLC0415 - as above

    stage = stage_class(name)
    return {
        "version": stage.version,
        "models": {setting: model_facts(card) for setting, card in cards.items()},
        "reasons": sorted(stage.reasons),
        "changes_vectors": stage.changes_vectors,
        **({"holds": True} if stage.holds else {}),
    }


def model_facts(card: Card) -> dict[str, object]:
    """Facts of a card that change a number: the hash of the weights, the input recipe, the outputs."""
    facts = card.model_dump(mode="json", include={"sha256", "input", "detector"})
    further = card.model_dump(mode="json", include={"quality", "pose", "pad"}, exclude_none=True)
    if card.pad:
        # A warning, and no number: runs of before it was on cards have the same facts.
        del further["pad"]["needs_colour"]
    return facts | ({"dim": card.embedder.dim} if card.embedder else {}) | further
