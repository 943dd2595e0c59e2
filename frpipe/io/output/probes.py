"""The faces of a finished enroll output as probes, in units of several parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.io.output import run
from frpipe.io.output.features import read_part_output
from frpipe.io.output.parts import FACES, IMAGES
from frpipe.io.storage.folder import Folder

Parts = tuple[int, ...]
# Photos without a face make rows too: a unit ends at so many photos for each probe that it may hold.
_PHOTOS_PER_PROBE = 16
# Files of a unit that are asked for at once.
_AT_ONCE = 8


class PartRows(NamedTuple):
    """What a part holds."""

    photos: int
    faces: int


def part_rows(out: Folder) -> dict[int, PartRows]:
    """The parts of a finished output, in order, as its file list says."""
    rows = {file.name: file.rows for file in run.file_list(out)}
    parts = {
        int(n.removeprefix(f"{FACES}/part-").split(".")[0]): n for n in rows if n.startswith(f"{FACES}/")
    }
    return {
        part: PartRows(rows[parts[part].replace(FACES, IMAGES, 1)], rows[parts[part]])
        for part in sorted(parts)
    }


def probe_units(parts: Mapping[int, PartRows], rows: int) -> list[Parts]:
    """The parts in bundles of at least `rows` faces, but for the last; each in one, in order."""
    units: list[Parts] = []
    bundle: list[int] = []
    photos = faces = 0
    for part, count in parts.items():
        bundle.append(part)
        photos, faces = photos + count.photos, faces + count.faces
        if faces >= rows or photos >= _PHOTOS_PER_PROBE * rows:
            units.append(tuple(bundle))
            bundle, photos, faces = [], 0, 0
    return [*units, tuple(bundle)] if bundle else units


def probe_vectors(out: Folder, parts: Parts, embedder: str | None = None) -> NDArray[np.float32]:
    """(n, dim) unit vectors of all faces of some parts, in order. Raises OutputError as `probe_rows`."""
    column = probe_rows(out, parts, ["image_id"], ["embedding"], embedder)[1]["embedding"].combine_chunks()
    dim = column.type.list_size
    vectors: NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    return vectors


def probe_rows(
    out: Folder,
    parts: Parts,
    image_names: Sequence[str],
    face_names: Sequence[str],
    embedder: str | None = None,
) -> tuple[pa.Table, pa.Table]:
    """(images, faces) of some parts, the named columns of each. embedder: as of `read_part_output`.

    Raises OutputError for a part that is damaged, or has not these columns.
    """
    with ThreadPoolExecutor(min(_AT_ONCE, len(parts)), "probes") as pool:
        names = [*image_names], [*face_names]
        pairs = list(pool.map(lambda part: read_part_output(out, part, *names, embedder), parts))
    images, faces = zip(*pairs, strict=True)
    return pa.concat_tables(images), pa.concat_tables(faces)
