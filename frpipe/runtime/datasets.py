"""Tables that are read piece by piece, as a Ray Dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import ray.data
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask


class Piece(NamedTuple):
    """A table that a worker reads, and the number of its rows. read: is pickled, so it holds no secret."""

    read: Callable[[], pa.Table]
    rows: int


def dataset(name: str, schema: pa.Schema, pieces: Sequence[Piece]) -> ray.data.Dataset:
    """A dataset of the pieces, each read by one task when its turn comes; Ray keeps no order of them.

    name: as Ray shows the operator, behind `Read`.  schema: of every piece.
    """
    nothing = Piece(schema.empty_table, 0)
    given = pieces or [nothing]
    # One block a piece: Ray would cut small ones into a great many.
    return ray.data.read_datasource(_Pieces(name, schema, given), override_num_blocks=len(given))


class _Pieces(Datasource):  # type: ignore[misc]
    def __init__(self, name: str, schema: pa.Schema, pieces: Sequence[Piece]) -> None:
        super().__init__()
        self._name, self._schema, self._pieces = name, schema, pieces

    def get_name(self) -> str:
        return self._name

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        return [self._task(piece, per_task_row_limit) for piece in self._pieces]

    def _task(self, piece: Piece, limit: int | None) -> ReadTask:
        read, facts = piece.read, BlockMetadata(piece.rows, None, None, None)
        return ReadTask(lambda: [read()], facts, schema=self._schema, per_task_row_limit=limit)
