"""Difficult files seen in the wild: each is decoded or rejected, and nothing else happens."""

from __future__ import annotations

import ast
import csv
from pathlib import Path

import pytest

from frpipe.core.config import DecodeConfig
from frpipe.core.reasons import Reason, Reject
from frpipe.vision.decode import decode
from frpipe.vision.header import read_header

# Its stored pixels are upright; only an XMP tag says otherwise. AVIF is turned by its irot and imir alone
# (MIAF, ISO/IEC 23000-22), and frpipe reads XMP in no format.
XMP_ONLY = "pillow/xmp_tags_orientation.avif"
pytestmark = pytest.mark.shared


def rows(shared: Path) -> list[dict[str, str]]:
    with (shared / "data/awkward/INDEX.tsv").open(encoding="utf-8") as index:
        return list(csv.DictReader(index, delimiter="\t"))


@pytest.mark.parametrize("truncated", ["reject", "accept"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Invalid APNG")
def test_each_is_decoded_or_rejected(shared: Path, truncated: str) -> None:
    config = DecodeConfig(truncated=truncated, min_side_px=1)
    listed = rows(shared)
    assert len(listed) == 79
    for row in listed:
        data = (shared / "data/awkward" / row["file"]).read_bytes()
        try:
            photo = decode(data, config)
        except Reject as reject:
            readable = row["pillow_result"] == "ok"
            assert not readable or reject.reason is Reason.TRUNCATED, row["file"]
        else:
            assert photo.pixels.shape == (photo.height, photo.width, 3), row["file"]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Invalid APNG")
def test_sizes_and_orientations_are_those_of_the_index(shared: Path) -> None:
    compared = 0
    for row in rows(shared):
        if row["pillow_result"] is None or row["file"] == XMP_ONLY:
            continue
        header = read_header((shared / "data/awkward" / row["file"]).read_bytes())
        assert (header.width, header.height) == ast.literal_eval(row["size"]), row["file"]
        told = row["orientation"].removeprefix("orient=")
        assert header.orientation == (int(told) if told in set("12345678") else 1), row["file"]
        compared += 1
    assert compared > 60


def test_an_avif_is_turned_once(shared: Path) -> None:
    folder = shared / "data/awkward"
    turned = decode((folder / "pillow/rot3mir1.avif").read_bytes(), DecodeConfig())
    assert (turned.orientation, turned.width, turned.height) == (5, 640, 427)
    # Sky above, grass below.
    assert turned.pixels[:60, :, 2].mean() > turned.pixels[-60:, :, 2].mean() + 60
    upright = decode((folder / XMP_ONLY).read_bytes(), DecodeConfig())
    assert (upright.orientation, upright.width, upright.height) == (1, 326, 268)
