"""Columns of faces that are held back by a further stage, and of the photos that they are of."""

from __future__ import annotations

import pyarrow as pa

from frpipe.core.schema import Column

HELD_COLUMNS = (
    Column("held_reason", pa.string(), "why the face is held back, a reason of the stage that held it first"),
    Column("held_measure", pa.string(), "what was measured"),
    Column("held_value", pa.float64(), "its value, in the unit of the measure"),
    Column("held_limit", pa.float64(), "the limit that it did not meet"),
)
FACES_HELD = Column("faces_held", pa.int32(), "rows of this photo in `held`", True)
HELD_NAMES = frozenset({*(column.name for column in HELD_COLUMNS), FACES_HELD.name})
# In place of the name of a stage, which no stage has: `faces_held` counts what any of them holds.
BY_ANY = "held"
