"""Forged headers are refused before memory is spent; cut and mangled files end in a rejection at worst."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make import FORGED
from PIL import Image, features

from frpipe.core.config import DecodeConfig
from frpipe.core.reasons import Reason, Reject
from frpipe.vision.decode import decode

ROOT = Path(__file__).resolve().parents[2]
FORMATS = tuple(
    name
    for name in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")
    if name != "AVIF" or features.check("avif")
)

MEASURE = """
    import resource, sys
    from pathlib import Path
    from frpipe.core.config import DecodeConfig
    from frpipe.core.reasons import Reject
    from frpipe.vision.decode import decode

    data = Path(sys.argv[1]).read_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        decode(data, DecodeConfig())
    except Reject as reject:
        print(reject.reason, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_a_forged_header_costs_no_memory(name: str, tmp_path: Path) -> None:
    """Its own process: only the operating system sees what C libraries take."""
    forged = tmp_path / "forged"
    forged.write_bytes(FORGED[name]())
    assert forged.stat().st_size < 20_000
    program = [sys.executable, "-c", textwrap.dedent(MEASURE), str(forged)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    reason, kib = done.stdout.split()
    assert reason == Reason.TOO_MANY_PIXELS
    assert int(kib) < 30_000


@pytest.mark.parametrize("name", ["jpeg", "jpeg-progressive", "png", "webp-extended"])
def test_a_scaled_decode_is_no_way_around_the_limit(name: str) -> None:
    with pytest.raises(Reject) as caught:
        decode(FORGED[name](), DecodeConfig(), shrink=8)
    assert caught.value.reason is Reason.TOO_MANY_PIXELS


def sample(name: str) -> bytes:
    buffer = io.BytesIO()
    image = Image.linear_gradient("L").resize((96, 64))
    image = Image.merge("RGB", (image, image.transpose(Image.Transpose.ROTATE_180), image))
    image.save(buffer, name)
    return buffer.getvalue()


SAMPLES = {name: sample(name) for name in FORMATS}


def survive(data: bytes, truncated: str) -> Reason | None:
    config = DecodeConfig(truncated=truncated, max_pixels=1_000_000, min_side_px=1)
    try:
        photo = decode(data, config)
    except Reject as reject:
        return reject.reason
    assert photo.pixels.shape == (photo.height, photo.width, 3)
    return None


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(FORMATS), share=st.floats(0, 1, exclude_max=True), accept=st.booleans())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_cut_file_is_decoded_or_rejected(name: str, share: float, accept: bool) -> None:
    data = SAMPLES[name]
    survive(data[: int(share * len(data))], "accept" if accept else "reject")


@pytest.mark.parametrize("name", ["JPEG", "PNG", "BMP", "WEBP", "GIF", "PPM"])
def test_half_a_file_is_called_truncated(name: str) -> None:
    half = SAMPLES[name][: len(SAMPLES[name]) // 2]
    assert survive(half, "reject") is Reason.TRUNCATED


@pytest.mark.parametrize("name", ["JPEG", "PNG", "BMP", "PPM"])
def test_half_a_file_is_kept_where_the_policy_says_so(name: str) -> None:
    data = SAMPLES[name]
    assert survive(data[: len(data) * 3 // 4], "accept") is None


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(FORMATS),
    edits=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=20
    ),
    head=st.booleans(),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_mangled_file_is_decoded_or_rejected(name: str, edits: list[tuple[float, int]], head: bool) -> None:
    data = bytearray(SAMPLES[name])
    reach = min(64, len(data)) if head else len(data)
    for share, value in edits:
        data[int(share * reach)] = value
    survive(bytes(data), "accept")
