"""The page on duplicates shows the columns and the measured limit that the code has."""

from __future__ import annotations

from pathlib import Path

import pytest

from frpipe.core.schema import Column, markdown
from frpipe.jobs.dedup.blocks import NEAR_IDENTICAL
from frpipe.jobs.dedup.schema import CLUSTER_COLUMNS, PAIR_COLUMNS
from frpipe.matching.clusters import LARGEST_SPLIT

PAGE = (Path(__file__).resolve().parents[2] / "docs/dedup.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("mark", "columns"), [("pairs", PAIR_COLUMNS), ("clusters", CLUSTER_COLUMNS)])
def test_the_tables_are_those_of_the_schema(mark: str, columns: tuple[Column, ...]) -> None:
    assert f"<!-- {mark} -->\n\n{markdown(columns)}\n" in PAGE


def test_the_numbers_are_those_of_the_code() -> None:
    assert f"the similarity is {NEAR_IDENTICAL} and more" in PAGE
    assert f"more than {LARGEST_SPLIT:,} subjects" in PAGE
