"""Columns of faces that are held back by a further stage, and of the photos that they are of."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.schema import Column, stage_of

HELD_COLUMNS = (
    Column("held_reason", pa.string(), "why the face is held back, a reason of the stage that held it first"),
    Column("held_measure", pa.string(), "what was measured"),
    Column("held_value", pa.float64(), "its value, in the unit of the measure"),
    Column("held_limit", pa.float64(), "the limit that it did not meet"),
)
FACES_HELD = Column("faces_held", pa.int32(), "rows of this photo in `held`", True)
HELD_INSTEAD = Column(
    "held_instead",
    pa.string(),
    "where it has rows in `faces`: by which policies the face that is meant is a held one, "
    "`largest`, `centre-largest` or `both`",
    True,
)
HELD_NAMES = frozenset({*(column.name for column in HELD_COLUMNS), FACES_HELD.name, HELD_INSTEAD.name})
BOTH = "both"
NO_COLOUR = "no_colour"
"""What `pad_flags` says of a face below the limit that may be so because it has no colour."""
HELD_FACE = "held_face"
"""Why a photo's other faces stand for nobody: the face that is meant is held back."""


def is_held_instead(images: pa.Table, policy: str) -> NDArray[np.bool_]:
    """Mark, (photos,), where the face that a policy means is held back, so that no other may stand for it."""
    if HELD_INSTEAD.name not in images.column_names:
        return np.zeros(images.num_rows, bool)
    if stage_of(images.schema.field(HELD_INSTEAD.name)) is None:  # the manifest's own
        return np.zeros(images.num_rows, bool)
    hit = pc.is_in(images[HELD_INSTEAD.name], value_set=pa.array([policy, BOTH], pa.string()))
    mask: NDArray[np.bool_] = hit.to_numpy().astype(bool)
    return mask
