"""The registry of models: which there are, and where their weights lie on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from frpipe.core.errors import ModelError, ModelMissing
from frpipe.core.yaml_text import load_yaml
from frpipe.models.card import Card
from frpipe.models.store import check_sha256, file_sha256, locked, publish

if TYPE_CHECKING:
    from frpipe.models.download import Say

# The detector, the judge of turns that its card names, and the embedder.
DEFAULT_PACK = ("retinaface_mv1_025", "yunet_2023mar", "sface_2021dec")

_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Registry:
    """A registry: cards by name, and weights by card.

    Cards of a later folder stand in for those of the same name in an earlier one. Weights are looked for in
    each of `model_dirs`, then in the cache.
    """

    card_dirs: tuple[Path, ...]
    model_dirs: tuple[Path, ...]
    cache: Path

    @classmethod
    def default(cls) -> Registry:
        """Make the registry of this machine.

        It has the cards of frpipe and of FRPIPE_CARD_DIR; weights of FRPIPE_MODEL_DIR and of the cache, which
        is FRPIPE_CACHE or ~/.cache/frpipe. Both folders may be several, separated as in PATH.
        """
        installed = _PACKAGE / "_data" / "models" / "cards"
        cards = installed if installed.is_dir() else _PACKAGE.parent / "models" / "cards"
        cache = os.environ.get("FRPIPE_CACHE") or Path.home() / ".cache" / "frpipe"
        return cls(
            (cards, *_folders("FRPIPE_CARD_DIR")), _folders("FRPIPE_MODEL_DIR"), Path(cache) / "models"
        )

    @cached_property
    def _paths(self) -> dict[str, Path]:
        """The file of each card, by name. A card is read when it is asked for, since YAML takes its time."""
        absent = [folder for folder in self.card_dirs if not folder.is_dir()]
        if absent:
            raise ModelError(f"there is no folder of cards {absent[0]}", "mend FRPIPE_CARD_DIR")
        return {path.stem: path for folder in self.card_dirs for path in sorted(folder.glob("*.yaml"))}

    @cached_property
    def _read(self) -> dict[str, Card]:
        return {}

    def cards(self) -> dict[str, Card]:
        """Read every card, by name. ModelError: one of them cannot be read."""
        return {name: self.card(name) for name in self._paths}

    def card(self, name: str, role: str | None = None) -> Card:
        """One card by its name, or by an alias where that is one card's (of the role, if one is given).

        ModelError, with what is near, where there is none, or where it cannot be read.
        """
        found = self.named(name)
        fitting = [card for card in found if role in (None, card.role)] or found
        if len(fitting) > 1:
            choice = ", ".join(f"{card.name} ({card.role})" for card in fitting)
            raise ModelError(f"{name} may be any of {choice}", "choose one of them")
        return fitting[0]

    def named(self, name: str) -> list[Card]:
        """The card of a name, or all that an alias stands for. Raises ModelError as `card` does."""
        if name in self._paths:
            if name not in self._read:
                self._read[name] = read_card(self._paths[name])
            return [self._read[name]]
        from frpipe.models.aliases import called, unknown  # noqa: PLC0415 - few names are no card's

        readable = self._readable()
        found = called(name, readable)
        if not found:
            raise unknown(name, readable)
        return found

    def among(self, there: Collection[str], name: str) -> str | None:
        """The name among those given that a name, or an alias, stands for; None where it stands for none."""
        if name in there:
            return name
        with contextlib.suppress(ModelError):
            return next((card.name for card in self.named(name) if card.name in there), None)
        return None

    def pack(self, name: str) -> list[Card]:
        """The cards that a name stands for, one of each role, and the judge of a detector behind it.

        Raises ModelError as `card` does.
        """
        cards = [self.card(name, role) for role in dict.fromkeys(card.role for card in self.named(name))]
        return cards + [self.card(card.looks.judge) for card in cards if card.looks]

    def _readable(self) -> list[Card]:
        cards = []
        for name in self._paths:
            with contextlib.suppress(ModelError):
                cards.append(self.card(name))
        return cards

    def card_for(self, role: str, name: str) -> Card:
        """Read a card of a role, as `card` does; ModelError also where it has another role."""
        card = self.card(name, role)
        if card.role != role:
            others = ", ".join(sorted(other.name for other in self._readable() if other.role == role))
            choice = (
                f"choose one of {others}" if others else "there is none yet: add its card (docs/stages.md)"
            )
            raise ModelError(f"{name} is a card of role {card.role}, not {role}", choice)
        return card

    def locate(self, card: Card) -> Path | None:
        """The place of the weights, unchecked; None where they are not on this machine."""
        paths = (folder / card.file for folder in (*self.model_dirs, self.cache))
        return next((path for path in paths if path.is_file()), None)

    def find(self, card: Card) -> Path:
        """The place of the weights, their SHA-256 checked. Raises ModelMissing or ModelMismatch."""
        path = self._present(card)
        self._check(card, path, file_sha256(path))
        return path

    def read(self, card: Card) -> bytes:
        """Read the weights once and check them as `find` does: what is run is what was checked."""
        path = self._present(card)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise self._missing(card) from None
        self._check(card, path, hashlib.sha256(data).hexdigest())
        return data

    def _present(self, card: Card) -> Path:
        path = self.locate(card)
        if path is None:
            raise self._missing(card)
        return path

    def require(self, cards: Iterable[Card]) -> None:
        """Check that cards' weights are on this machine; ModelMissing says what brings those that are not."""
        missing = {card.name: card for card in cards if self.locate(card) is None}
        if missing:
            raise self._missing(*missing.values())

    def _missing(self, *cards: Card) -> ModelMissing:
        from frpipe.models.fetch import how_to_get  # noqa: PLC0415

        names = ", ".join(f"{card.name} ({card.file})" for card in cards)
        return ModelMissing(f"the weights of {names} are not on this machine", how_to_get(*cards))

    def _check(self, card: Card, path: Path, sha256: str) -> None:
        cached = path.parent == self.cache
        remedy = (
            f"frpipe models pull {card.name}" if cached else "put the right file there, or take this one away"
        )
        check_sha256(sha256, card.sha256, str(path), remedy)

    def pull(self, card: Card, say: Say = lambda _: None, accepted: Collection[str] = ()) -> Path:
        """Find the weights, and fetch into the cache what is missing or damaged. Raises what `fetch` does.

        accepted: names of terms that the user has agreed to.
        """
        path = self.locate(card)
        if path is not None and path.parent != self.cache:
            return self.find(card)
        # Archives, downloads and package managers: not for whoever has the weights already.
        from frpipe.models.fetch import fetch  # noqa: PLC0415

        return fetch(card, self.cache, say, accepted)

    def admit(self, card: Card, data: bytes) -> Path:
        """Put weights that came by another way into the cache. ModelMismatch: they are not the card's."""
        check_sha256(
            hashlib.sha256(data).hexdigest(), card.sha256, f"{card.name} as given", "nothing was kept"
        )
        target = self.cache / card.file
        with locked(target):
            if not target.is_file() or file_sha256(target) != card.sha256:
                publish(data, target)
        return target


def read_card(path: Path) -> Card:
    """Read a card from a YAML file that bears its name. ModelError says what is wrong with it."""
    try:
        data: Any = load_yaml(path.read_text(encoding="utf-8"))
        card = Card.model_validate(data)
    except yaml.YAMLError:
        raise ModelError(f"the card {path} is not YAML", "mend the file") from None
    except ValidationError as error:
        raise _explain(path, error) from None
    if card.name != path.stem:
        raise ModelError(f"the card {path} calls itself {card.name}", f"rename the file to {card.name}.yaml")
    return card


def _explain(path: Path, error: ValidationError) -> ModelError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    if field == "sha256" and first["type"] == "missing":
        return ModelError(
            f"the card {path} does not pin its weights", f"frpipe models pin {path} FILE.onnx writes the hash"
        )
    return ModelError(f"the card {path}: {field}: {first['msg']}", "docs/models.md describes every field")


def _folders(variable: str) -> tuple[Path, ...]:
    return tuple(Path(part) for part in os.environ.get(variable, "").split(os.pathsep) if part)
