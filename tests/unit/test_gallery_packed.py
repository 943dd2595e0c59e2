"""Text columns as offsets and bytes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frpipe.gallery.packed import PackedStrings, hashes

_TEXTS = st.lists(st.one_of(st.none(), st.text(max_size=12)), max_size=40)


@given(_TEXTS, st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_any_texts_come_back(texts: list[str | None], skipped: int) -> None:
    texts = [None if text is None else text.encode("utf-8", "replace").decode() for text in texts]
    array = pa.array(texts, pa.string()).slice(skipped)
    assert PackedStrings.of(array).array().equals(array)


def test_korean_empty_null_and_slashes_are_told_apart() -> None:
    texts = ["홍길동", "", None, "a/b//c", "\0", "𝒳"]
    packed = PackedStrings.of(pa.chunked_array([texts[:2], texts[2:]], pa.string()))
    assert packed.array().to_pylist() == texts
    assert packed.valid is not None
    assert packed.valid.tolist() == [1, 1, 0, 1, 1, 1]


def test_without_nulls_nothing_is_kept_of_them() -> None:
    assert PackedStrings.of(pa.array(["a", ""])).valid is None


@pytest.mark.parametrize(
    ("offsets", "data", "valid"),
    [
        ([0, 5], b"abc", None),
        ([1, 3], b"abc", None),
        ([0, 3, 2, 3], b"abc", None),
        ([0, 2**32 - 1, 3], b"abc", None),
        ([0, 1, 2], b"\xea\xb0", None),
        ([0, 3], b"abc", [2]),
        ([0, 1], b"\xff", None),
    ],
)
def test_offsets_and_bytes_that_make_no_strings_are_refused(
    offsets: list[int], data: bytes, valid: list[int] | None
) -> None:
    packed = PackedStrings(
        np.array(offsets, np.uint32),
        np.frombuffer(data, np.uint8),
        None if valid is None else np.array(valid, np.uint8),
    )
    with pytest.raises(ValueError):
        packed.array()


def test_hashes_tell_strings_apart_and_depend_on_nothing_else() -> None:
    texts = [f"person-{number}" for number in range(50_000)] + ["", "\0", "\0\0", "ab", "ba"]
    found = hashes(pa.array(texts))
    assert len(np.unique(found)) == len(texts)
    np.testing.assert_array_equal(hashes(pa.array(texts[::-1]))[::-1], found)
    spread = np.bincount((found >> np.uint64(60)).astype(int), minlength=16) / len(texts)
    assert abs(spread - 1 / 16).max() < 0.005


def _hash(text: str) -> int:
    mask, total, power = 2**64 - 1, 0, 1
    data = text.encode()
    for byte in data:
        power = power * 0x9E3779B97F4A7C15 & mask
        total = total + (byte + 1) * power & mask
    h = total + len(data) & mask
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9 & mask
    h = (h ^ h >> 27) * 0x94D049BB133111EB & mask
    return h ^ h >> 31


def test_hashes_are_the_polynomial_that_they_say() -> None:
    texts = ["", "a", "홍길동", "p0001" * 7]
    assert hashes(pa.array(texts)).tolist() == [_hash(text) for text in texts]
