"""The photos that the benchmarks run on, and manifests of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def shared_folder(path: Path) -> Path:
    """The folder with `data/` and `models/`; SystemExit where it is not there."""
    if not (path / "data" / "lfw").is_dir() or not (path / "models").is_dir():
        sys.exit(
            f"no photos and models in {path}: the benchmarks need data/lfw, data/groups and models there; "
            "pass another folder with --shared"
        )
    return path.resolve()


def lfw(shared: Path, most: int | None = None) -> list[Path]:
    """LFW photos, 250x250 and 150x150; of a limited number every k-th."""
    found = sorted((shared / "data/lfw/images").glob("*/*.jpg"))
    found += sorted((shared / "data/lfw/images_unaligned150").rglob("*.jpg"))
    if most is None or most >= len(found):
        return found
    return [found[index] for index in np.linspace(0, len(found) - 1, most).astype(int)]


def write_manifest(path: Path, photos: list[Path]) -> Path:
    """A manifest of local photos."""
    pq.write_table(pa.table({"image_uri": [str(photo) for photo in photos]}), path)
    return path
