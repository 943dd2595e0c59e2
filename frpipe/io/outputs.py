"""Read the published output of an enroll run: whole parts only, by their marks."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from frpipe.core.errors import FrpipeError, OutputError
from frpipe.io.folder import Folder
from frpipe.io.parts import FACES, IMAGES, done_parts, part_name


def read_outputs(
    out: Folder, image_names: list[str] | None = None, face_names: list[str] | None = None
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """(images, faces) of each published part, in order; None reads all columns.

    Raises OutputError if the folder holds no enroll output.
    """
    for part in sorted(refuse_no_output(out, done_parts(out))):
        yield read_part_output(out, part, image_names, face_names)


def refuse_no_output(out: Folder, parts: set[int]) -> set[int]:
    """The parts of an enroll output. Raises OutputError where there are none."""
    if not parts:
        raise OutputError(f"{out.uri} holds no enroll output", "give the --output of a jobs/enroll.py run")
    return parts


def image_columns(out: Folder) -> list[str]:
    """Names of the columns of `images`: ours, then the manifest's. Raises OutputError as `read_outputs`."""
    parts = refuse_no_output(out, done_parts(out))
    with out.open(f"{IMAGES}/{part_name(min(parts))}") as file:
        names: list[str] = pq.read_schema(file).names
    return names


def read_part_output(
    out: Folder, part: int, image_names: list[str] | None = None, face_names: list[str] | None = None
) -> tuple[pa.Table, pa.Table]:
    """(images, faces) of one published part; None reads all columns.

    Raises OutputError where it is damaged.
    """
    name = part_name(part)
    return _read(out, f"{IMAGES}/{name}", image_names), _read(out, f"{FACES}/{name}", face_names)


def _read(out: Folder, name: str, columns: list[str] | None) -> pa.Table:
    """In this thread alone: Arrow's own, if they still hold a Python file at exit, abort the process."""
    try:
        with out.open(name) as file:
            return pq.read_table(
                file,
                columns=columns,
                use_threads=False,
                pre_buffer=False,
                page_checksum_verification=True,
            )
    except FrpipeError:
        raise
    except (pa.ArrowException, OSError, UnicodeError):
        raise OutputError(
            f"{name} of the enroll output is damaged, or lacks a column that is needed",
            "run the enroll job again on it; if that changes nothing, enroll into a new output",
        ) from None
