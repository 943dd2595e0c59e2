"""A photo gives the same template, bit by bit, in whatever company, order, part, batch and file it comes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import frozen
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from frpipe.core.config import load_config
from frpipe.gallery.gallery import Gallery
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.enroll.job import Enrollment
from frpipe.runtime.runtime import Runtime
from frpipe.testing.executors import InThisProcess

Pixels = NDArray[np.uint8]
_SHOWN = ("anna-1.png", "bela-1.png", "cora-1.png", "emil-1.png", "two.png")
# What undoes an orientation of EXIF 2..8, as Pillow calls it: its inverse is stored.
_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
Faces = dict[str, dict[str, Any]]


def _written(folder: Path, name: str, photo: Image.Image) -> list[tuple[str, Path]]:
    """Write the same pixels in many ways; the name of each way, and its file."""
    pixels = np.asarray(photo)
    opaque = Image.fromarray(np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]))
    ways: list[tuple[str, Path]] = []

    def put(way: str, picture: Image.Image, ending: str, **options: Any) -> None:
        path = folder / f"{name}-{way}.{ending}"
        picture.save(path, **options)
        ways.append((way, path))

    put("png", photo, "png")
    put("alpha", opaque, "png")
    put("tiff", photo, "tif", compression="tiff_lzw")
    put("bmp", photo, "bmp")
    put("webp", opaque, "webp", lossless=True, exact=True)
    put("animated", photo, "png", save_all=True, append_images=[Image.new("RGB", photo.size)])
    deep = folder / f"{name}-deep.png"
    cv2.imwrite(str(deep), cv2.cvtColor(pixels.astype(np.uint16) * 257, cv2.COLOR_RGB2BGR))
    ways.append(("deep", deep))
    for orientation, stored in _STORED.items():
        exif = Image.Exif()
        exif[274] = orientation
        put(f"exif{orientation}", photo.transpose(stored), "png", exif=exif)
    return ways


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[tuple[str, str]]]:
    """Rows of a manifest, id and address: each photo in many files, and some that cannot be read."""
    place = tmp_path_factory.mktemp("same")
    with frozen.copied(place / "frozen") as home:
        found: list[tuple[str, str]] = []
        for name in _SHOWN:
            photo = Image.open(home / "photos" / name).convert("RGB")
            stem = name.partition(".")[0]
            found += [(f"{stem}|{way}", str(path)) for way, path in _written(place, stem, photo)]
            found += [(f"{stem}|twice", str(place / f"{stem}-png.png")), (f"bad-{stem}", "missing.png")]
        grey = Image.open(home / "photos" / _SHOWN[0]).convert("L")
        values = np.asarray(grey)
        for way, picture in (
            ("rgb", grey.convert("RGB")),
            ("l", grey),
            ("la", Image.merge("LA", [grey, Image.new("L", grey.size, 255)])),
            ("palette", grey.convert("P")),
            ("deep", Image.fromarray(values.astype(np.uint16) * 257)),
        ):
            picture.save(place / f"grey-{way}.png")
            found.append((f"grey|{way}", str(place / f"grey-{way}.png")))
        yield found


def _enrolled(rows: list[tuple[str, str]], out: Path, *settings: str, local: bool = False) -> Faces:
    manifest = out.with_suffix(".csv")
    lines = (f"{name},{uri},{name.partition('|')[0]}" for name, uri in rows)
    manifest.write_text("\n".join(("image_id,image_uri,subject_id", *lines)) + "\n")
    config = load_config(None, [*frozen.settings(), "detect.not_photographs=keep", *settings])
    runtime = Runtime(None, "local") if local else InThisProcess()
    Enrollment(str(manifest), str(out), config, runtime).run()
    faces: pa.Table = pq.read_table(out / "faces")
    return {row["face_id"]: row for row in faces.drop_columns(["image_uri"]).to_pylist()}


@pytest.fixture(scope="module")
def base(rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Faces:
    return _enrolled(rows, tmp_path_factory.mktemp("base") / "out")


def test_the_same_pixels_give_the_same_faces_in_every_file(base: Faces) -> None:
    by_photo: dict[str, dict[str, list[Any]]] = {}
    for face_id, row in base.items():
        photo, _, way = row["image_id"].partition("|")
        told = {name: value for name, value in row.items() if name not in ("face_id", "image_id")}
        by_photo.setdefault(photo, {}).setdefault(way, []).append((face_id.rpartition("#")[2], told))
    assert len(by_photo["anna-1"]) > 14 and len(by_photo["grey"]) == 5
    for photo, ways in by_photo.items():
        first = next(iter(ways.values()))
        for way, faces in ways.items():
            assert faces == first, (photo, way)


@pytest.mark.parametrize(
    ("settings", "local"),
    [
        (("resources.locate.batch_rows=1", "resources.embed.batch_rows=3", "resources.part_rows=90"), False),
        (("resources.locate.threads=2", "resources.window_rows=3", "resources.part_rows=17"), False),
        (("resources.part_rows=30",), True),
    ],
)
def test_company_order_parts_batches_and_processes_change_nothing(
    rows: list[tuple[str, str]], base: Faces, tmp_path: Path, settings: tuple[str, ...], local: bool
) -> None:
    shuffled = random.Random(len(settings)).sample(rows, len(rows))
    assert _enrolled(shuffled, tmp_path / "out", *settings, local=local) == base


@pytest.mark.parametrize("kept", ["mean", pytest.param("quality-mean", marks=pytest.mark.slow)])
def test_the_order_of_photos_changes_no_template_made_of_several(
    rows: list[tuple[str, str]], tmp_path: Path, kept: str
) -> None:
    templates: list[Mapping[str, Any]] = []
    rows = [row for row in rows if row[0].partition("|")[2] in ("png", "rgb", "exif3", "twice", "la")]
    for seed in (0, 1):
        out, gallery = tmp_path / f"out-{seed}", tmp_path / f"gallery-{seed}"
        shuffled = random.Random(seed).sample(rows, len(rows))
        _enrolled(shuffled, out, "quality={}", f"resources.part_rows={9 + 8 * seed}")
        Consolidation(str(out), str(gallery), templates=kept).run()  # type: ignore[arg-type]
        tables = Gallery.open(str(gallery)).snapshot().tables()
        templates.append(
            {row["subject_id"]: row["embedding"] for table in tables for row in table.to_pylist()}
        )
    assert len(templates[0]) == len(_SHOWN) + 1 and templates[0] == templates[1]
