"""Why a photo that was looked at once may end otherwise where photos are looked at again."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

Scope = Literal["all", "found"]
"""all: every listed photo.  found: those of which a row that is there may be otherwise."""


class Cause(StrEnum):
    """In the order in which they are shown."""

    LOW_SCORE = "low_score"
    SMALL = "small"
    IMPLAUSIBLE = "implausible"
    ROLLED = "rolled"
    UNJUDGED = "unjudged"
    NOT_KEPT = "not_kept"
    OTHER_INPUT = "other_input"
    CLOSE_UP = "close_up"
    REJECTED = "rejected"
    NO_FACE = "no_face"
    NOT_LOOKED_FOR = "not_looked_for"


MEANING = {
    Cause.LOW_SCORE: "a face whose score does not make it sure: it may be turned, or none",
    Cause.SMALL: "a face that the detector saw small: its landmarks may be off",
    Cause.IMPLAUSIBLE: "a face whose landmarks can be no face's",
    Cause.ROLLED: "a face that is rolled far: it, or its photo, may stand otherwise",
    Cause.UNJUDGED: "faces whose turn the score of this detector says nothing of",
    Cause.NOT_KEPT: "faces that were found and not kept, of which nothing is known",
    Cause.OTHER_INPUT: "the detector is given another scale or another padding now",
    Cause.CLOSE_UP: "looked at from afar too now: a face that fills it may have been missed",
    Cause.REJECTED: "rejected for its faces",
    Cause.NO_FACE: "no face was found: the photo may be turned",
    Cause.NOT_LOOKED_FOR: "small faces were not looked for",
}


def of_scope(scope: Scope) -> frozenset[Cause]:
    """The causes that a scope does again."""
    return frozenset(Cause) if scope == "all" else frozenset(Cause) - {Cause.NOT_LOOKED_FOR}
