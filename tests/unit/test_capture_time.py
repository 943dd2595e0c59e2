"""When a photo was taken: read from EXIF where it is well formed, unknown where it is not."""

from __future__ import annotations

import json
from datetime import datetime
from io import BytesIO
from typing import Any

import pyarrow as pa
import pytest
from pictures import encoded, scene
from PIL import Image, features
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from frpipe.core.config import Config, load_config
from frpipe.core.errors import ConfigError
from frpipe.core.recipe import Recipe
from frpipe.core.schema import extras_of, image_schema, reserved_names, version_of
from frpipe.stages.locate import Located
from frpipe.stages.tabulate import tabulate
from frpipe.vision.capture_time import CaptureTime, capture_time

UNKNOWN = CaptureTime()
TAGS = {"at": 0x9003, "sub": 0x9291, "zone": 0x9011}
AT = datetime(2024, 5, 6, 7, 8, 9)


def _exif(**tags: Any) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 1
    exif[0x8769] = {TAGS[name]: value for name, value in tags.items()}
    return exif


def _photo(format: str = "JPEG", **tags: Any) -> bytes:
    if format == "TIFF":
        directory = ImageFileDirectory_v2()
        directory[0x8769] = {TAGS[name]: value for name, value in tags.items()}
        return encoded(scene(64, 48), format, tiffinfo=directory)
    return encoded(scene(64, 48), format, exif=_exif(**tags).tobytes())


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_time_is_utc_where_the_zone_is_known(format: str) -> None:
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = _photo(format, at="2024:05:06 07:08:09", sub="25", zone="+09:00")
    assert capture_time(data, format) == (datetime(2024, 5, 5, 22, 8, 9, 250_000), "+09:00")
    data = _photo(format, at="2024:12:31 23:08:09", zone="-03:30")
    assert capture_time(data, format) == (datetime(2025, 1, 1, 2, 38, 9), "-03:30")
    assert capture_time(_photo(format, at="2024:05:06 07:08:09"), format) == (AT, None)
    assert capture_time(encoded(scene(64, 48), format), format) == UNKNOWN


def test_heif_is_read_too() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    target = BytesIO()
    exif = _exif(at="2024:05:06 07:08:09").tobytes()
    pillow_heif.from_pillow(Image.fromarray(scene(64, 48))).save(target, exif=exif)
    assert capture_time(target.getvalue(), "HEIF").at == AT


@pytest.mark.parametrize(
    "at",
    [
        *("0000:00:00 00:00:00", "    :  :     :  :  ", "2024:13:01 00:00:00", "2024:02:30 00:00:00"),
        *("2024:05:06 24:00:00", "2024:05:06 07:08:60", "2024-05-06 07:08:09", "0001:01:01 00:00:00"),
        *("2024:05:06", "", "2024:05:06 07:08:09 and more", "x" * 1000),
    ],
)
def test_a_malformed_date_is_unknown(at: str) -> None:
    assert capture_time(_photo(at=at), "JPEG") == UNKNOWN


@pytest.mark.parametrize("zone", ["+25:00", "Z", "9", "+09:75", "UTC", "+15:00", ""])
def test_a_malformed_zone_is_not_known(zone: str) -> None:
    assert capture_time(_photo(at="2024:05:06 07:08:09", zone=zone), "JPEG") == (AT, None)


def test_what_is_cut_short_or_changed_anywhere_is_no_error() -> None:
    data = _photo(at="2024:05:06 07:08:09", zone="+09:00")
    end = data.index(b"+09:00") + 8
    for at in range(end):
        capture_time(data[:at], "JPEG")
        for value in (0, 255):
            capture_time(data[:at] + bytes([value]) + data[at + 1 : end + 64], "JPEG")
    for format in ("PNG", "WEBP", "TIFF", "GIF", "HEIF", "a plugin"):
        assert capture_time(data, format) == UNKNOWN


class TestSetting:
    def test_columns_are_there_where_they_are_asked_for(self) -> None:
        names = ("image_id", "image_uri", "subject_id", "location", "own")
        plan = pa.table({name: pa.array(["a"], pa.string()) for name in names})
        outcome = Located(captured_at=AT, captured_at_zone="+09:00")
        images = tabulate(0, plan, [outcome], [1], "all", version=3).images
        assert images["captured_at"].to_pylist() == [AT]
        assert (version_of(images.schema), extras_of(images.schema).names) == (3, ["own"])
        without = tabulate(0, plan, [outcome], [1], "all").images
        assert (version_of(without.schema), extras_of(without.schema).names) == (2, ["own"])
        assert "captured_at" not in without.column_names

    def test_vectors_are_compared_with_those_of_runs_that_do_not_ask(self) -> None:
        facts = {"sha256": "ab", "input": {}}
        asked = load_config(None, ["decode.captured_at=true"])
        recipes = [Recipe(config.recipe(), facts, facts, {}) for config in (Config(), asked)]
        assert len({recipe.preprocessing_hash for recipe in recipes}) == 1
        assert [recipe.schema_version for recipe in recipes] == [2, 3]

    def test_an_own_column_of_that_name_stays_the_manifests(self) -> None:
        own = pa.schema([("captured_at", pa.string()), ("captured_at_zone", pa.string())])
        schema = image_schema(own)
        assert (version_of(schema), extras_of(schema).names) == (2, ["captured_at", "captured_at_zone"])
        assert "captured_at" not in reserved_names()
        assert "captured_at" in reserved_names(3)

    def test_recipes_that_do_not_ask_are_as_they_were(self) -> None:
        assert "captured_at" not in json.dumps(Config().recipe())
        asked = load_config(None, ["decode.captured_at=true"])
        assert asked.recipe()["decode"]["captured_at"] is True
        assert not asked.single_look().decode.captured_at
        once = ["detect.turns=off", "detect.refine=off", "detect.not_photographs=keep"]
        once += ["detect.max_side_px=640", "detect.bucket_sides_px=[640]"]
        with pytest.raises(ConfigError, match="captured_at"):
            load_config(None, ["decode.captured_at=true", *once])


@pytest.mark.parametrize(
    ("at", "zone"), [("9999:12:31 23:59:59", "-09:00"), ("1826:01:01 00:00:00", "+14:00")]
)
def test_a_time_that_its_zone_leads_out_of_the_calendar_is_unknown(at: str, zone: str) -> None:
    assert capture_time(_photo(at=at, zone=zone), "JPEG") == UNKNOWN
