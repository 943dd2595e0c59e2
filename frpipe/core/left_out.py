"""Photos that have lost the face that is meant: no other face of theirs stands for it.

The columns that say so stand in `images` of a run whose recipe lists them, before those of further stages.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.schema import stage_of
from frpipe.core.subject import LEFT_OUT_BY, SubjectRule

LEFT_OUT_FACE = "left_out_face"
"""Why a photo's other faces stand for nobody: the face that is meant was left out."""


def columns_there(images: pa.Schema) -> dict[SubjectRule, str]:
    """The columns of a table of images, by policy; none in outputs of before, nor those of a manifest."""
    there = images.names
    return {
        policy: name
        for policy, name in LEFT_OUT_BY.items()
        if name in there and stage_of(images.field(name)) is not None
    }


def is_left_out(images: pa.Table, policy: str) -> NDArray[np.bool_]:
    """Mark, (photos,), where the face that a policy means was left out."""
    name = next((name for rule, name in columns_there(images.schema).items() if rule == policy), None)
    if name is None:
        return np.zeros(images.num_rows, bool)
    mask: NDArray[np.bool_] = pc.is_valid(images[name]).to_numpy().astype(bool)
    return mask


def subjects_lost(images: pa.Table) -> pa.ChunkedArray | None:
    """The reason, (photos,), why each has faces, but not its subject's, by `centre-largest`; else null.

    None where images have no such column.
    """
    name = columns_there(images.schema).get("centre-largest")
    if name is None:
        return None
    return pc.if_else(pc.greater(images["faces"], 0), images[name], pa.scalar(None, pa.string()))


def reasons_of(images: pa.Table) -> list[pa.ChunkedArray]:
    """The reasons of all policies, a column each; none where there are no such columns."""
    return [images[name] for name in columns_there(images.schema).values()]
