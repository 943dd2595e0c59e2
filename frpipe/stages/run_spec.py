"""What every worker of a run is told: small, plain, and the same for all of them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from frpipe.core.config import Config
from frpipe.core.recipe import Recipe
from frpipe.models.card import Card
from frpipe.stages.models import recipe_of
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
