"""The settings of the stage `pad`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from frpipe.core.config import Section

# YAML takes a bare `off` for false.
Policy = Annotated[
    Literal["off", "flag", "reject"], BeforeValidator(lambda value: "off" if value is False else value)
]


class PadSettings(Section):
    """Settings of `pad`."""

    policy: Policy = Field(
        "flag",
        description="off: nothing is looked at, as without the stage; flag: faces below the limit are "
        "marked; reject: they are held back",
    )
    model: str = Field("minifasnet_v2", description="a card of role pad")
    second_model: str | None = Field(
        "minifasnet_v1se",
        description="another, whose probabilities are averaged with those of the first; null: one alone",
    )
    min_score: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="least pad_score, 0 to 1; null: the mean of what the cards suggest"
    )

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.second_model == self.model:
            raise ValueError("model and second_model are the same card; second_model: null takes one alone")
        return self
