"""From the vectors of a person to their templates."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from frpipe.gallery.schema import template_schema, vector_array, vectors_of
from frpipe.gallery.templates import TemplatePolicy, derived_id, medoid, reduce_templates
from frpipe.jobs.consolidate.reading import grouped

DIM = 4


def _row(
    subject: str, face: str, vector: list[float], quality: float | None = 0.5, **own: str
) -> dict[str, object]:
    unit = np.array(vector, np.float64) / np.linalg.norm(vector)
    day = int(face[1:]) if face[1:].isdigit() else 1
    return {
        "subject_id": subject,
        "face_id": face,
        "image_uri": f"{face}.jpg",
        "quality": quality,
        "enrolled_at": datetime(2026, 1, day, tzinfo=UTC),
        "embedding": unit.astype(np.float32),
        **own,
    }


def _table(*rows: dict[str, object]) -> pa.Table:
    names = sorted({name for row in rows for name in row} - set(template_schema(DIM).names))
    columns = []
    schema = template_schema(DIM, names)
    for field in schema:
        values = [row.get(field.name) for row in rows]
        columns.append(
            vector_array(np.stack(values)) if field.name == "embedding" else pa.array(values, field.type)
        )  # type: ignore[arg-type]
    return pa.Table.from_arrays(columns, schema=schema)


TWO = (
    _row("b", "f2", [0, 1, 0, 0], 0.1, Name="Bea"),
    _row("a", "f1", [1, 0, 0, 0], 0.9),
    _row("b", "f1", [1, 0, 0, 0], 0.3),
    _row("b", "f3", [0, 1, 0, 0], 0.2, Name="Bee"),
)


def test_all_keeps_every_row_sorted() -> None:
    table = reduce_templates(_table(*TWO), "all")
    assert table.select(["subject_id", "face_id"]).to_pylist() == [
        {"subject_id": "a", "face_id": "f1"},
        *({"subject_id": "b", "face_id": f"f{n}"} for n in (1, 2, 3)),
    ]


def test_mean_is_the_direction_of_the_sum() -> None:
    table = reduce_templates(_table(*TWO), "mean")
    assert table["subject_id"].to_pylist() == ["a", "b"]
    np.testing.assert_allclose(vectors_of(table)[1], np.array([1, 2, 0, 0]) / np.sqrt(5), rtol=1e-6)
    row = table.slice(1).to_pylist()[0]
    assert row["quality"] == pytest.approx(0.2)
    assert (row["enrolled_at"].day, row["image_uri"]) == (3, None)


@pytest.mark.parametrize("policy", ["mean", "quality-mean"])
def test_a_derived_template_has_what_its_photos_agree_on_and_the_others_are_counted(
    policy: TemplatePolicy,
) -> None:
    rows = (
        _row("a", "f1", [1, 0, 0, 0], camera="north", Name="Ann"),
        _row("a", "f2", [1, 0, 0, 0], camera="south"),
        _row("b", "f1", [1, 0, 0, 0], camera="north", Name="Bob"),
        _row("b", "f2", [1, 0, 0, 0], camera="north", Name="Bob"),
    )
    disputed = Counter[str]()
    table = reduce_templates(_table(*rows), policy, disputed)
    assert table["camera"].to_pylist() == [None, "north"]
    assert table["Name"].to_pylist() == ["Ann", "Bob"]
    assert +disputed == {"camera": 1}


def test_quality_weighs_each_vector() -> None:
    table = reduce_templates(_table(*TWO), "quality-mean")
    np.testing.assert_allclose(vectors_of(table)[1], [np.sqrt(0.5), np.sqrt(0.5), 0, 0], rtol=1e-6)


def test_without_any_quality_the_weights_are_even() -> None:
    rows = [{**row, "quality": None} for row in TWO]
    even = reduce_templates(_table(*rows), "quality-mean")
    np.testing.assert_array_equal(vectors_of(even), vectors_of(reduce_templates(_table(*rows), "mean")))
    assert even["quality"].null_count == 2


def test_the_medoid_is_a_row_that_was_there() -> None:
    table = reduce_templates(_table(*TWO), "medoid")
    assert table["face_id"].to_pylist() == ["f1", "f2"]
    assert table["image_uri"].to_pylist() == ["f1.jpg", "f2.jpg"]
    assert medoid(np.eye(3, dtype=np.float32)) == 0


def test_opposite_vectors_have_no_mean_and_give_the_medoid() -> None:
    rows = (_row("a", "f1", [1, 0, 0, 0]), _row("a", "f2", [-1, 0, 0, 0]))
    table = reduce_templates(_table(*rows), "mean")
    assert vectors_of(table).tolist() == [[1, 0, 0, 0]]


@pytest.mark.parametrize("policy", ["mean", "quality-mean", "medoid"])
def test_the_order_of_rows_changes_nothing(policy: TemplatePolicy) -> None:
    rng = np.random.default_rng(5)
    rows = [
        _row(f"s{n % 7}", f"f{n}", rng.normal(size=DIM).tolist(), float(rng.uniform())) for n in range(1, 29)
    ]
    one = reduce_templates(_table(*rows), policy)
    other = reduce_templates(_table(*rng.permutation(np.array(rows, object))), policy)
    assert one.equals(other)
    np.testing.assert_allclose(np.linalg.norm(vectors_of(one), axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("policy", ["mean", "quality-mean", "medoid"])
@pytest.mark.parametrize("people", [10, 100, 3000])
def test_everybody_has_the_template_of_their_own_photos(policy: TemplatePolicy, people: int) -> None:
    """With the attribute, the time and the id that go with it: groups come in any order."""
    rng = np.random.default_rng(people)
    rows = [
        _row(str(person), f"f{1 + photo}", vector, Name=f"name of {person}")
        for person in range(people)
        for vector in [rng.normal(size=DIM).tolist()]
        for photo in range(1 + person % 3)
    ]
    given = _table(*rows)
    expected = dict(zip(given["subject_id"].to_pylist(), vectors_of(given), strict=True))
    table = reduce_templates(given, policy)
    assert table.num_rows == people == len(set(table["subject_id"].to_pylist()))
    for row, vector in zip(table.drop_columns(["embedding"]).to_pylist(), vectors_of(table), strict=True):
        np.testing.assert_allclose(vector, expected[row["subject_id"]], atol=1e-6)
        assert row["Name"] == f"name of {row['subject_id']}"
        if policy != "medoid":
            own = [f"f{1 + photo}" for photo in range(1 + int(row["subject_id"]) % 3)]
            assert row["face_id"] == derived_id(policy, own)


def test_a_derived_id_names_the_photos_it_was_made_of() -> None:
    ids = [
        reduce_templates(_table(*rows), "mean")["face_id"][0].as_py()
        for rows in (TWO[2:], TWO[2:], (*TWO[2:], TWO[0]))
    ]
    assert ids[0] == ids[1] != ids[2]
    assert ids[0].startswith("mean:")


def test_an_attribute_may_have_any_name() -> None:
    rows = [{**TWO[1], "0_first": "x", "quality_mean": "y"}]
    table = reduce_templates(_table(*rows), "mean")
    assert table.select(["0_first", "quality_mean"]).to_pylist() == [{"0_first": "x", "quality_mean": "y"}]


def test_grouping_brings_all_rows_of_a_person_together() -> None:
    rng = np.random.default_rng(6)
    tables = [
        _table(*(_row(f"s{rng.integers(30)}", f"f{1 + n % 28}-{part}", [1, 0, 0, 0]) for n in range(25)))
        for part in range(8)
    ]
    buckets = list(grouped(tables, DIM, bucket_rows=40))
    assert len(buckets) > 2
    people = [set(bucket["subject_id"].to_pylist()) for bucket in buckets]
    assert sum(len(some) for some in people) == len(set.union(*people)) == 30
    assert sum(bucket.num_rows for bucket in buckets) == 200
