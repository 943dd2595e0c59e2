"""Statuses of photos and reasons for them. docs/outputs.md names all; further stages declare their own."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The status that a manifest row ends in: each row in exactly one."""

    OK = "ok"
    NO_FACE = "no_face"
    REJECTED = "rejected"


class Reason(StrEnum):
    """The reason why a row is `rejected`. `STAGE_OF` names the stage that says so."""

    NOT_FOUND = "not_found"
    ACCESS_DENIED = "access_denied"
    FETCH_FAILED = "fetch_failed"
    OUTSIDE_ROOT = "outside_root"
    BAD_ADDRESS = "bad_address"
    EMPTY = "empty"
    TOO_MANY_BYTES = "too_many_bytes"
    BAD_MEMBER = "bad_member"
    SUPPRESSED = "suppressed"
    UNKNOWN_FORMAT = "unknown_format"
    MISSING_CODEC = "missing_codec"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_FEW_PIXELS = "too_few_pixels"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    BLANK = "blank"
    MANY_FACES = "many_faces"
    DEGENERATE_LANDMARKS = "degenerate_landmarks"
    BOX_OUTSIDE = "box_outside"
    IMPLAUSIBLE_FACE = "implausible_face"
    NOT_A_PHOTOGRAPH = "not_a_photograph"
    NON_FINITE_EMBEDDING = "non_finite_embedding"
    CRASHED_WORKER = "crashed_worker"
    HUNG_WORKER = "hung_worker"
    EXHAUSTED_MEMORY = "exhausted_memory"


PASSING = (
    Reason.NOT_FOUND,
    Reason.ACCESS_DENIED,
    Reason.FETCH_FAILED,
    Reason.CRASHED_WORKER,
    Reason.HUNG_WORKER,
    Reason.EXHAUSTED_MEMORY,
)
"""Reasons that may be gone tomorrow: they lie with storage or workers, and say nothing of the content.

Not among them is `suppressed`: a gallery then has nothing of the photo, as its list says."""

_STAGES: dict[str, tuple[Reason, ...]] = {
    "fetch": (
        Reason.NOT_FOUND,
        Reason.ACCESS_DENIED,
        Reason.FETCH_FAILED,
        Reason.OUTSIDE_ROOT,
        Reason.BAD_ADDRESS,
        Reason.EMPTY,
        Reason.TOO_MANY_BYTES,
        Reason.BAD_MEMBER,
        Reason.SUPPRESSED,
    ),
    "decode": (
        Reason.UNKNOWN_FORMAT,
        Reason.MISSING_CODEC,
        Reason.TOO_MANY_PIXELS,
        Reason.TOO_FEW_PIXELS,
        Reason.TRUNCATED,
        Reason.CORRUPT,
        Reason.BLANK,
    ),
    "detect": (Reason.MANY_FACES, Reason.IMPLAUSIBLE_FACE),
    "align": (Reason.DEGENERATE_LANDMARKS, Reason.BOX_OUTSIDE, Reason.NOT_A_PHOTOGRAPH),
    "embed": (Reason.NON_FINITE_EMBEDDING,),
    "any": (Reason.CRASHED_WORKER, Reason.HUNG_WORKER, Reason.EXHAUSTED_MEMORY),
}
STAGE_OF = {reason: stage for stage, reasons in _STAGES.items() for reason in reasons}
"""The stage that says no; any: whichever runs native code on the photo."""


class Reject(Exception):
    """Raised while one photo is handled; a stage catches it and writes a row. Never leaves a job."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
