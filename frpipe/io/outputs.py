"""Read the published output of an enroll run: whole parts only, by their marks."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import OutputError
from frpipe.io.folder import Folder
from frpipe.io.parts import FACES, IMAGES, done_parts, part_name


def read_outputs(
    out: Folder, image_names: list[str] | None = None, face_names: list[str] | None = None
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """(images, faces) of each published part, in order; None reads all columns.

    Raises OutputError if the folder holds no enroll output.
    """
    parts = sorted(done_parts(out))
    if not parts:
        raise OutputError(f"{out.uri} holds no enroll output", "give the --output of a jobs/enroll.py run")
    for part in parts:
        yield read_part_output(out, part, image_names, face_names)


def read_part_output(
    out: Folder, part: int, image_names: list[str] | None = None, face_names: list[str] | None = None
) -> tuple[pa.Table, pa.Table]:
    """(images, faces) of one published part; None reads all columns."""
    name = part_name(part)
    with out.open(f"{IMAGES}/{name}") as images, out.open(f"{FACES}/{name}") as faces:
        return pq.read_table(images, columns=image_names), pq.read_table(faces, columns=face_names)
