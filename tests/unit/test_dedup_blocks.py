"""Pairs of two blocks: what is left out, what is counted, and that nothing known is compared again."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from frpipe.core.errors import OutputError
from frpipe.jobs.dedup.blocks import NEAR_IDENTICAL, Block, Counts, Rule, alike
from frpipe.jobs.dedup.schema import PAIR_SCHEMA
from frpipe.matching.blas import Blas

RULE = Rule(0.4, 1000)


def _at(*degrees: float) -> np.ndarray:
    """Unit vectors in a plane: the similarity of two is the cosine of the angle between them."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def _block(
    subjects: list[str],
    vectors: np.ndarray,
    *,
    photos: list[str | None] | None = None,
    indices: list[int] | None = None,
    fresh: list[bool] | None = None,
) -> Block:
    count = len(subjects)
    columns = {
        "subject_id": pa.array(subjects, pa.string()),
        "face_id": pa.array([f"{name}#{n}" for n, name in enumerate(subjects)], pa.string()),
        "image_uri": pa.array([f"{name}.jpg" for name in subjects], pa.string()),
        "photo": pa.array(photos, pa.string()) if photos else pa.nulls(count, pa.string()),
        "face_index": pa.array(indices, pa.int32()) if indices else pa.nulls(count, pa.int32()),
    }
    return Block(pa.table(columns), vectors, np.array(fresh or [True] * count))


def _pairs(table: pa.Table) -> list[tuple[str, str, str]]:
    return [(row["subject_a"], row["subject_b"], row["kind"]) for row in table.to_pylist()]


def test_templates_of_one_subject_are_counted_and_are_no_pair() -> None:
    table, counts = alike(_block(["b", "a", "b"], _at(0, 40, 62)), None, RULE, Blas())
    assert _pairs(table) == [("a", "b", "same_person"), ("a", "b", "same_person")]
    assert counts == Counts(compared=3, same_person=2, same_subject=1)


def test_the_smaller_id_is_always_a_and_rows_are_whole() -> None:
    table, _ = alike(_block(["z"], _at(0)), _block(["é", "a"], _at(30, 60)), RULE, Blas())
    rows = table.to_pylist()
    assert table.schema.equals(PAIR_SCHEMA)
    assert [(row["subject_a"], row["face_b"], row["image_uri_b"]) for row in rows] == [
        ("a", "z#0", "z.jpg"),
        ("z", "é#0", "é.jpg"),
    ]
    assert rows[0]["similarity"] == pytest.approx(0.5)
    assert rows[0]["distance"] == 1 - rows[0]["similarity"]


def test_two_faces_of_one_photo_are_no_pair_and_its_copy_is_the_same_photo() -> None:
    block = _block(
        ["a", "b", "c", "d"],
        _at(0, 30, 30.001, 0.001),
        photos=["p", "p", "p", None],
        indices=[0, 1, 1, 0],
    )
    table, counts = alike(block, None, RULE, Blas())
    assert counts.same_image == 2
    assert _pairs(table) == [
        ("a", "d", "same_photo"),
        ("b", "c", "same_photo"),
        ("b", "d", "same_person"),
        ("c", "d", "same_person"),
    ]


def test_without_bytes_a_photo_is_known_by_its_similarity() -> None:
    angle = float(np.degrees(np.arccos(NEAR_IDENTICAL)))
    table, _ = alike(_block(["a", "b", "c"], _at(0, angle - 0.1, -angle - 0.1)), None, RULE, Blas())
    assert _pairs(table)[:2] == [("a", "b", "same_photo"), ("a", "c", "same_person")]


def test_only_pairs_with_a_fresh_template_are_compared() -> None:
    rng = np.random.default_rng(3)
    names = [f"s{n:02d}" for n in range(30)]
    vectors = _at(*rng.uniform(0, 360, 30))
    fresh = rng.random(30) < 0.3
    one, other = slice(0, 17), slice(17, 30)
    whole, _ = alike(_block(names, vectors), None, RULE, Blas())
    blocks = [_block(names[s], vectors[s], fresh=fresh[s].tolist()) for s in (one, other)]
    parts = [alike(a, b, RULE, Blas()) for a, b in ((blocks[0], None), (blocks[1], None), tuple(blocks))]
    new = {name for name, is_new in zip(names, fresh, strict=True) if is_new}
    expected = [row for row in whole.to_pylist() if {row["subject_a"], row["subject_b"]} & new]
    found = [row for table, _ in parts for row in table.to_pylist()]
    key = ["subject_a", "subject_b", "similarity"]
    assert sorted([row[k] for k in key] for row in found) == sorted([row[k] for k in key] for row in expected)
    old = 30 - len(new)
    assert sum(counts.compared for _, counts in parts) == 30 * 29 // 2 - old * (old - 1) // 2


def test_more_pairs_than_wanted_are_an_error_that_says_what_to_do() -> None:
    block = _block(list("abcdef"), _at(*range(6)))
    with pytest.raises(OutputError, match="14 pairs") as caught:
        alike(block, None, Rule(0.4, 14), Blas())
    assert "--threshold" in caught.value.remedy
    assert alike(block, None, Rule(0.4, 15), Blas())[1].pairs == 15


def test_counts_survive_a_file() -> None:
    counts = Counts(1, 2, 3, 4, 5)
    table = pa.table({"a": [1]}).replace_schema_metadata(counts.metadata())
    assert Counts.of(table) == counts
    with pytest.raises(OutputError):
        Counts.of(pa.table({"a": [1]}))
