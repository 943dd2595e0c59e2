"""The form in which ids are compared."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
import pytest

from frpipe.core.text import alike, canonical_text
from frpipe.core.text_column import canonical_column

NFC, NFD = "김지수", unicodedata.normalize("NFD", "김지수")


def test_what_looks_the_same_is_the_same() -> None:
    assert NFC != NFD
    assert canonical_text(NFD) == NFC == canonical_text(NFC)
    assert canonical_text("a\udcff") == "a\udcff"


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_a_column_keeps_its_nulls_and_its_type(kind: pa.DataType) -> None:
    column = pa.array([NFD, None, "ann"], kind)
    assert canonical_column(column).equals(pa.array([NFC, None, "ann"], kind))
    chunks = pa.chunked_array([column, column.slice(0, 0)])
    assert canonical_column(chunks).to_pylist() == [NFC, None, "ann"]


@pytest.mark.parametrize("texts", [[], [None], ["ann", None], [NFC]])
def test_a_column_in_order_is_given_back(texts: list[str | None]) -> None:
    column = pa.array(texts, pa.string())
    assert canonical_column(column) is column


def test_what_may_be_meant_as_one_is_found() -> None:
    assert alike(["Ann", "ann ", "an\u200bn", "ａｎｎ", "bob", NFC]) == [
        ["Ann", "ann ", "an\u200bn", "ａｎｎ"]
    ]
