"""What every worker of a run is told: small, plain, and the same for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from frpipe.core.config import Config
from frpipe.core.recipe import Recipe
from frpipe.core.schema import reserved_names
from frpipe.io.output.embeddings import reserved
from frpipe.models.card import Card
from frpipe.models.registry import Registry
from frpipe.stages.obeyed import NOBODY, Obeyed
from frpipe.stages.stage import stage_class, stage_classes

StageCards = dict[str, dict[str, Card]]
"""By stage, and by the setting that names the card."""


class RunSpec(BaseModel):
    """Orders for the workers of one launch of a run. `launch` is new each time the command is started.

    config, judge, further, stage_cards: as `Models` has them.  obeyed: whom and what not to enroll; no part
    of the recipe, and in no file of the run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: str
    launch: str
    config: Config
    detector: Card
    embedder: Card
    judge: Card | None = None
    further: tuple[Card, ...] = ()
    stage_cards: StageCards = {}
    # Ray may write the text of what a worker is given to its own logs.
    obeyed: Obeyed = Field(NOBODY, repr=False)

    @property
    def models(self) -> tuple[Card, ...]:
        """The cards of the models that the run needs."""
        return tuple({card.name: card for card in self.named.values()}.values())

    def models_of(self, pool: Literal["locate", "embed", "enroll", "publish"]) -> tuple[Card, ...]:
        """The cards of the models that a worker of a pool loads."""
        embedders = {card.name for card in (self.embedder, *self.further)}
        others = {card.name for card in self.models if card.name not in embedders}
        wanted = {"locate": others, "embed": embedders, "enroll": others | embedders}.get(pool, set())
        return tuple(card for card in self.models if card.name in wanted)

    @property
    def named(self) -> dict[str, Card]:
        """The same by what each does; the judge may be the detector itself."""
        cards = {"detector": self.detector, "judge": self.judge, "embedder": self.embedder}
        cards |= {f"embedder {card.name}": card for card in self.further}
        for stage, models in self.stage_cards.items():
            cards |= {f"{stage} {setting}": card for setting, card in models.items()}
        return {role: card for role, card in cards.items() if card is not None}

    @property
    def recipe(self) -> Recipe:
        models = (self.config, self.detector, self.embedder, self.judge, self.further, self.stage_cards)
        return Models(*models).recipe

    @property
    def reserved_names(self) -> frozenset[str]:
        """Names that a manifest may not use for columns of its own, those of further stages among them."""
        names = reserved_names(self.recipe.schema_version) | reserved(card.name for card in self.further)
        stages = stage_classes([*self.config.stages])
        return names | {
            each.name for stage in stages for each in (*stage.face_columns, *stage.timed_columns())
        }


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
        """Raises ModelError: there is no such card, or it has another role; ConfigError: a stage's."""
        registry = Registry.default()
        detector = registry.card_for("detector", config.detect.model)
        embedder, *further = (registry.card_for("embedder", each.model) for each in config.embed)
        beside = (tuple(further), _stage_cards(config, registry))
        if detector.looks is None or config.detect.is_single_look:
            return cls(config.single_look(), detector, embedder, None, *beside)
        judge = registry.card_for("detector", detector.looks.judge)
        return cls(config, detector, embedder, judge, *beside)

    @property
    def recipe(self) -> Recipe:
        """The recipe of a settled configuration."""
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
    for stage in stage_classes([*config.stages]):
        settings = config.stages[stage.name]
        if stage.roles:
            cards[stage.name] = {
                name: registry.card_for(role, str(settings[name])) for name, role in stage.roles.items()
            }
    return cards


def _stage_facts(name: str, cards: Mapping[str, Card]) -> dict[str, Any]:
    """What of a stage decides the output, beside its settings."""
    stage = stage_class(name)
    return {
        "version": stage.version,
        "models": {setting: model_facts(card) for setting, card in cards.items()},
        "reasons": sorted(stage.reasons),
        "changes_vectors": stage.changes_vectors,
    }


def model_facts(card: Card) -> dict[str, object]:
    """What of a card changes a number: the hash of the weights, the input recipe, the outputs."""
    return card.model_dump(mode="json", include={"sha256", "input", "detector"}) | (
        {"dim": card.embedder.dim} if card.embedder else {}
    )
