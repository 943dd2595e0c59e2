"""The table that travels between the pools: one part, whole, as one row.

Ray splits and merges blocks of many rows as it sees fit; a part must stay in one piece, because it is the
unit that is committed. So a part is a single row whose tables are Arrow IPC buffers (docs/adr/0001).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from frpipe.vision.enlarge import Enlarged


@dataclass(frozen=True, slots=True)
class PartBatch:
    """A part on its way.

    images: one row per photo.  faces: one row per aligned face, `row` being its photo's row in `images`.
    crops: (n, 112, 112, 3) uint8 RGB, one per face; empty once the faces are embedded.  enlarged: of each
    kind that a further stage asked for, (n, side, side, 3); they are not packed: stages run where photos are,
    and these crops end with them.
    """

    part: int
    images: pa.Table
    faces: pa.Table
    crops: np.ndarray
    enlarged: Mapping[Enlarged, np.ndarray] = field(default_factory=dict)

    def pack(self) -> pa.Table:
        """Pack the part as a table of one row."""
        columns = {
            "part": pa.array([self.part], pa.int64()),
            "images": _large_binary(_to_ipc(self.images)),
            "faces": _large_binary(_to_ipc(self.faces)),
            "crops": _large_binary(pa.py_buffer(np.ascontiguousarray(self.crops))),
            "crop_shape": pa.array([list(self.crops.shape)], pa.list_(pa.int64())),
        }
        return pa.table(columns)

    @classmethod
    def unpack(cls, table: pa.Table) -> PartBatch:
        """Unpack a part from such a table. The arrays are views into it."""
        shape = table.column("crop_shape")[0].as_py()
        crops = np.frombuffer(table.column("crops")[0].as_buffer(), np.uint8).reshape(shape)
        return cls(
            part=table.column("part")[0].as_py(),
            images=_from_ipc(table.column("images")[0].as_buffer()),
            faces=_from_ipc(table.column("faces")[0].as_buffer()),
            crops=crops,
        )


def _large_binary(buffer: pa.Buffer) -> pa.Array:
    offsets = pa.py_buffer(np.array([0, buffer.size], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, buffer])


def _to_ipc(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _from_ipc(buffer: pa.Buffer) -> pa.Table:
    return pa.ipc.open_stream(buffer).read_all()
