"""The faces of a finished enroll output as probes, in units of several parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.io import run
from frpipe.io.folder import Folder
from frpipe.io.outputs import read_part_output
from frpipe.io.parts import FACES

Parts = tuple[int, ...]


def probe_units(out: Folder, rows: int) -> list[Parts]:
    """The parts of an output in bundles of at least `rows` faces, but for the last; each in one, in order."""
    files = json.loads(out.read(run.FILES))["files"]
    faces = {int(f["name"][-14:-8]): f["rows"] for f in files if f["name"].startswith(f"{FACES}/")}
    units: list[Parts] = []
    bundle: list[int] = []
    count = 0
    for part in sorted(faces):
        bundle.append(part)
        count += faces[part]
        if count >= rows:
            units.append(tuple(bundle))
            bundle, count = [], 0
    return [*units, tuple(bundle)] if bundle else units


def probe_vectors(out: Folder, parts: Parts) -> NDArray[np.float32]:
    """(n, dim) unit vectors of all faces of some parts, in order."""
    tables = [read_part_output(out, part, ["image_id"], ["embedding"])[1] for part in parts]
    column = pa.concat_tables(tables)["embedding"].combine_chunks()
    dim = column.type.list_size
    vectors: NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    return vectors


def probe_rows(
    out: Folder, parts: Parts, image_names: Sequence[str], face_names: Sequence[str]
) -> tuple[pa.Table, pa.Table]:
    """(images, faces) of some parts, the named columns of each."""
    pairs: Iterator[tuple[pa.Table, pa.Table]] = (
        read_part_output(out, part, list(image_names), list(face_names)) for part in parts
    )
    images, faces = zip(*pairs, strict=True)
    return pa.concat_tables(images), pa.concat_tables(faces)
