"""The specification of a run for its workers: small, plain, and the same for all of them."""

from __future__ import annotations

from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from frpipe.core.config import Config
from frpipe.core.held import HELD_NAMES
from frpipe.core.recipe import Recipe
from frpipe.core.schema import LATER_COLUMNS, reserved_names
from frpipe.io.output.embeddings import reserved
from frpipe.models.card import Card
from frpipe.stages.models import Models, StageCards
from frpipe.stages.obeyed import NOBODY, Obeyed
from frpipe.stages.stage import stage_classes


class RunSpec(BaseModel):
    """The orders for the workers of one launch of a run. `launch` is new each time the command is started.

    claim: the name of the output's claim; empty: not compared.  config, judge, further, stage_cards: as
    `Models` has them.  columns: as `Recipe` has them.  obeyed: whom and what not to enroll; no part of the
    recipe, and in no file of the run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: str
    launch: str
    claim: str = ""
    config: Config
    detector: Card
    embedder: Card
    judge: Card | None = None
    further: tuple[Card, ...] = ()
    stage_cards: StageCards = {}
    columns: tuple[str, ...] = LATER_COLUMNS
    # Ray may write the text of what a worker is given to its own logs.
    obeyed: Obeyed = Field(NOBODY, repr=False)

    @property
    def models(self) -> tuple[Card, ...]:
        """The cards of the models that the run needs."""
        return tuple({card.name: card for card in self.named.values()}.values())

    def models_of(self, pool: str) -> tuple[Card, ...]:
        """The cards of the models that a worker of a pool loads."""
        embedders = {card.name for card in (self.embedder, *self.further)}
        others = {card.name for card in self.models if card.name not in embedders}
        wanted = {"locate": others, "embed": embedders, "enroll": others | embedders}.get(pool, set())
        return tuple(card for card in self.models if card.name in wanted)

    @property
    def named(self) -> dict[str, Card]:
        """The cards by what each model does; the judge may be the detector itself."""
        cards = {"detector": self.detector, "judge": self.judge, "embedder": self.embedder}
        cards |= {f"embedder {card.name}": card for card in self.further}
        for stage, models in self.stage_cards.items():
            cards |= {f"{stage} {setting}": card for setting, card in models.items()}
        return {role: card for role, card in cards.items() if card is not None}

    @property
    def recipe(self) -> Recipe:
        models = (self.config, self.detector, self.embedder, self.judge, self.further, self.stage_cards)
        return replace(Models(*models).recipe, columns=self.columns)

    @property
    def reserved_names(self) -> frozenset[str]:
        """Names that a manifest may not use for columns of its own, those of further stages among them."""
        recipe, further = self.recipe, reserved(card.name for card in self.further)
        names = reserved_names(recipe.schema_version, recipe.columns) | further
        stages = stage_classes([*self.config.stages])
        if any(stage.holds for stage in stages):
            names |= HELD_NAMES
        return names | {
            each.name for stage in stages for each in (*stage.face_columns, *stage.timed_columns())
        }
