"""Parts that cards of thresholds and of calibrations share: strict fields, hashes, errors in words."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

# As a gallery takes them: SHA-256 in hex, as a rule.
Hash = Annotated[str, Field(pattern=r"^[!-~]{1,128}$")]


class CardPart(BaseModel):
    """A card, or a part of one: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Format(BaseModel):
    model_config = ConfigDict(strict=True)

    format: str


def format_of(text: str | bytes) -> str:
    """The format that a card's JSON names. Raises ValidationError."""
    return _Format.model_validate_json(text).format


def first_error(error: ValidationError) -> str:
    """The first thing that is wrong with a card, in words."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return "it is no JSON"
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown field {where}"
    text = first["msg"].removeprefix("Value error, ")
    return f"{where}: {text}" if where else text
