"""How a photo can end, and why. The lists are closed: a new reason is a new version of the schema."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where a manifest row ends. Each row ends in exactly one."""

    OK = "ok"
    NO_FACE = "no_face"
    REJECTED = "rejected"


class Reason(StrEnum):
    """Why a row is `rejected`. The prefix of each group is the stage that said no."""

    # fetch
    NOT_FOUND = "not_found"
    ACCESS_DENIED = "access_denied"
    FETCH_FAILED = "fetch_failed"
    OUTSIDE_ROOT = "outside_root"
    EMPTY = "empty"
    TOO_MANY_BYTES = "too_many_bytes"
    # decode
    UNKNOWN_FORMAT = "unknown_format"
    MISSING_CODEC = "missing_codec"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_FEW_PIXELS = "too_few_pixels"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    # detect
    MANY_FACES = "many_faces"
    # align
    DEGENERATE_LANDMARKS = "degenerate_landmarks"
    # crop
    BOX_OUTSIDE = "box_outside"
    # embed
    NON_FINITE_EMBEDDING = "non_finite_embedding"
    # any stage that runs native code on the photo
    CRASHED_WORKER = "crashed_worker"
    HUNG_WORKER = "hung_worker"
    EXHAUSTED_MEMORY = "exhausted_memory"


class Reject(Exception):
    """Raised while one photo is handled; a stage catches it and writes a row. Never leaves a job."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
