"""Turn what networks against presentation attacks say of crops into probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from frpipe.core.errors import ModelError
from frpipe.models.card import BONA_FIDE, Card, PadSpec
from frpipe.models.crop_model import CropModel

ATTACK = "attack"
Floats = NDArray[np.float64]


def probabilities(model: CropModel, crops: NDArray[np.uint8]) -> Floats:
    """Probabilities (n, classes), each row of sum 1, in the order of the card's classes.

    crops: (n, side, side, 3) uint8 RGB, enlarged as its card says.
    Raises ModelError: the network does not give such a row for each crop.
    """
    spec = spec_of(model.card)
    given = model.run(crops)[0].astype(np.float64)
    if given.shape != (len(crops), len(spec.classes)) or not np.isfinite(given).all():
        raise _other(model, f"{len(spec.classes)} numbers")
    if spec.outputs == "logits":
        given = np.exp(given - given.max(axis=1, keepdims=True))
        return np.asarray(given / given.sum(axis=1, keepdims=True))
    if (given < 0).any() or (np.abs(given.sum(axis=1) - 1) > 1e-3).any():
        raise _other(model, f"{len(spec.classes)} probabilities")
    return given


def fused(specs: Sequence[PadSpec], each: Sequence[Floats]) -> tuple[Floats, list[str]]:
    """Fuse probabilities: (n,) that of bona fide, and each face's most probable class.

    That is by the mean of the networks' probabilities, class by class where all know the same classes; else
    of `bona_fide` and `attack`.  each: what `probabilities` gives, one for each card.
    """
    classes = specs[0].classes
    if any(spec.classes != classes for spec in specs):
        bona_fide = [rows[:, spec.classes.index(BONA_FIDE)] for spec, rows in zip(specs, each, strict=True)]
        classes, each = (BONA_FIDE, ATTACK), [np.column_stack([one, 1 - one]) for one in bona_fide]
    mean = np.mean(each, axis=0)
    return mean[:, classes.index(BONA_FIDE)], [classes[number] for number in mean.argmax(axis=1)]


def spec_of(card: Card) -> PadSpec:
    """The part of a card about its role pad. Raises ModelError: it is of another role."""
    if card.pad is None:
        raise ModelError(f"{card.name} is no model of role pad", "name one that is")
    return card.pad


def _other(model: CropModel, what: str) -> ModelError:
    return ModelError(
        f"{model.card.name} does not give {what} for each crop", "bring the weights that its card describes"
    )
