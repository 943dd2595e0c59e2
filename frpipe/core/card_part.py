"""Parts that cards of thresholds and of calibrations share: strict fields, hashes, reading."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from frpipe.core.errors import ConfigError

# As a gallery takes them: SHA-256 in hex, as a rule.
Hash = Annotated[str, Field(pattern=r"^[!-~]{1,128}$")]


class CardPart(BaseModel):
    """A card, or a part of one: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Format(BaseModel):
    model_config = ConfigDict(strict=True)

    format: str


class Card(CardPart):
    """A file of one format, which its field `format` names. KIND: what it is, in words."""

    KIND: ClassVar[str]

    @classmethod
    def parse(cls, text: str | bytes) -> Self:
        """Read a card. Raises ConfigError: another format, an unknown field, a wrong type, out of range."""
        remedy = f"see docs/thresholds.md for the form of a {cls.KIND}"
        wanted = cls.model_fields["format"].default
        try:
            found = _Format.model_validate_json(text).format
            if found != wanted:
                raise ConfigError(f"the {cls.KIND} is of format {found!r}, not {wanted!r}", remedy)
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ConfigError(f"the {cls.KIND}: {_first_error(error)}", remedy) from None


def _first_error(error: ValidationError) -> str:
    """The first thing that is wrong with a card, in words."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return "it is no JSON"
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown field {where}"
    text = first["msg"].removeprefix("Value error, ")
    return f"{where}: {text}" if where else text
