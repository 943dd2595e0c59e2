"""Templates into a gallery: policies, idempotence, order."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from gallery_rows import DIM, NOW, content, ids, people, spec, unit

from frpipe.core.errors import GalleryError, GalleryMismatch
from frpipe.core.schema import vector_type
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import TIME, vector_array


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return Gallery.create(str(tmp_path / "g"), spec())


def test_what_is_enrolled_comes_back(gallery: Gallery) -> None:
    names = ["홍길동", "a/b", "김철수", "x"]
    table = people(names, faces=2, Name=["홍길동", None, "", "동명이인"] * 2)
    done = lifecycle.enroll(gallery, [table])
    snapshot = gallery.snapshot()
    assert (done.added, done.version, snapshot.rows, snapshot.subjects) == (8, 1, 8, 4)
    (found,) = snapshot.tables()
    assert found.equals(table.sort_by([("subject_id", "ascending"), ("face_id", "ascending")]))
    assert snapshot.show("홍길동").num_rows == 2
    assert snapshot.show("nobody").num_rows == 0


def test_optional_columns_may_be_missing(gallery: Gallery) -> None:
    bare = people(ids(3)).select(["subject_id", "face_id", "embedding"])
    lifecycle.enroll(gallery, [bare])
    (found,) = gallery.snapshot().tables()
    assert found.column("quality").null_count == found.column("image_uri").null_count == 3
    assert found.column("enrolled_at").null_count == 0


@pytest.mark.parametrize("policy", ["skip", "append", "replace"])
def test_to_enroll_twice_is_to_enroll_once(gallery: Gallery, policy: str) -> None:
    table = people(ids(100), faces=2, Name=["n"] * 200)
    lifecycle.enroll(gallery, [table], policy)
    later = table.set_column(4, "enrolled_at", pa.array([NOW + timedelta(days=1)] * 200, TIME))
    again = lifecycle.enroll(gallery, [later], policy)
    assert (again.unchanged, again.added, again.version) == (200, 0, 1)
    assert gallery.versions() == [0, 1]


def test_order_and_batches_do_not_matter(tmp_path: Path) -> None:
    table = people(ids(150), faces=2, Name=[str(n) for n in range(300)])
    rows = list(range(300))
    random.Random(1).shuffle(rows)
    mixed = table.take(pa.array(rows))
    one = Gallery.create(str(tmp_path / "one"), spec())
    many = Gallery.create(str(tmp_path / "many"), spec())
    lifecycle.enroll(one, [table])
    lifecycle.enroll(many, (mixed.slice(start, 7) for start in range(0, 300, 7)))
    assert content(one.snapshot()) == content(many.snapshot())
    sizes = [ref.rows for ref in many.snapshot().version.shards]
    assert max(sizes) <= 50
    assert sizes == [ref.rows for ref in one.snapshot().version.shards]


def test_of_two_rows_of_one_key_the_latest_stays_whatever_the_order(tmp_path: Path) -> None:
    old = people(["a", "b"], seed=1)
    new = people(["a", "b"], seed=2).set_column(4, "enrolled_at", pa.array([NOW + timedelta(1)] * 2, TIME))
    for number, order in enumerate(([old, new], [new, old])):
        gallery = Gallery.create(str(tmp_path / str(number)), spec())
        done = lifecycle.enroll(gallery, order)
        assert (done.added, done.skipped) == (2, 2)
        (found,) = gallery.snapshot().tables()
        assert found.column("embedding").equals(new.column("embedding"))


def test_rows_that_tie_are_chosen_by_content_not_by_order(tmp_path: Path) -> None:
    tied = [people(["a"], seed=seed, Name=["n"]) for seed in range(4)]
    chosen = []
    for number, order in enumerate((tied, tied[::-1], tied[2:] + tied[:2])):
        gallery = Gallery.create(str(tmp_path / str(number)), spec())
        lifecycle.enroll(gallery, order)
        chosen.append(content(gallery.snapshot()))
    assert chosen[0] == chosen[1] == chosen[2]


def test_skip_leaves_known_people_alone(gallery: Gallery) -> None:
    lifecycle.enroll(gallery, [people(["a", "b"])])
    before = content(gallery.snapshot())
    done = lifecycle.enroll(gallery, [people(["b", "c"], faces=2, seed=5)], "skip")
    assert (done.added, done.skipped, done.deleted) == (2, 2, 0)
    assert [row for row in content(gallery.snapshot()) if row[0] != "c"] == before


def test_append_adds_new_faces_and_renews_changed_ones(gallery: Gallery) -> None:
    lifecycle.enroll(gallery, [people(["a", "b"], faces=2)])
    given = people(["a"], faces=3, seed=9)
    done = lifecycle.enroll(gallery, [given], "append")
    assert (done.added, done.replaced, done.deleted, done.skipped) == (1, 2, 2, 0)
    assert gallery.snapshot().rows == 5
    assert (
        gallery.snapshot().show("a", vectors=True).column("embedding").to_pylist()
        == given.column("embedding").to_pylist()
    )


def test_replace_leaves_only_what_is_given(gallery: Gallery) -> None:
    table = people(["a", "b"], faces=3)
    lifecycle.enroll(gallery, [table])
    kept = table.slice(1, 1)
    new = people(["a"], seed=4).set_column(1, "face_id", pa.array(["new"]))
    done = lifecycle.enroll(gallery, [kept, new.cast(kept.schema)], "replace")
    assert (done.unchanged, done.replaced, done.deleted) == (1, 1, 2)
    assert sorted(gallery.snapshot().show("a").column("face_id").to_pylist()) == ["a#1", "new"]
    assert gallery.snapshot().show("b").num_rows == 3


def test_an_attribute_that_changed_is_a_change(gallery: Gallery) -> None:
    lifecycle.enroll(gallery, [people(["a"], Name=["Kim"])])
    same = lifecycle.enroll(gallery, [people(["a"], Name=["Kim"], Room=[None])], "append")
    assert same.unchanged == 1
    done = lifecycle.enroll(gallery, [people(["a"], Name=["Lee"])], "append")
    assert (done.replaced, done.deleted) == (1, 1)


def test_attributes_are_the_union_over_rows(gallery: Gallery) -> None:
    lifecycle.enroll(gallery, [people(["a"], Name=["Kim"]), people(["b"], **{"a/b": ["x"]})])
    lifecycle.enroll(gallery, [people(["c"], Room=["7"])])
    snapshot = gallery.snapshot()
    assert snapshot.attributes == ["Name", "Room", "a/b"]
    whole = pa.concat_tables(snapshot.list())
    rows = {row["subject_id"]: (row["Name"], row["Room"], row["a/b"]) for row in whole.to_pylist()}
    assert rows == {"a": ("Kim", None, None), "b": (None, None, "x"), "c": (None, "7", None)}


def test_list_filters_by_attribute(gallery: Gallery) -> None:
    lifecycle.enroll(gallery, [people(ids(90), Department=["A", "B", None] * 30)])
    found = pa.concat_tables(gallery.snapshot().list({"Department": "B"}))
    assert found.num_rows == 30
    assert "embedding" not in found.column_names
    assert pa.concat_tables(gallery.snapshot().list({"subject_id": "p0001"})).num_rows == 1
    with pytest.raises(GalleryError, match="Depatment"):
        next(gallery.snapshot().list({"Depatment": "B"}))


def test_a_person_of_very_many_templates_does_not_make_one_huge_shard(gallery: Gallery) -> None:
    lifecycle.enroll(gallery, [people(["a"], faces=500)])
    assert max(ref.rows for ref in gallery.snapshot().version.shards) <= 50
    assert gallery.snapshot().show("a").num_rows == 500
    assert lifecycle.verify(gallery) == []


def test_no_rows_make_no_version(gallery: Gallery) -> None:
    assert lifecycle.enroll(gallery, []).version == 0
    assert lifecycle.enroll(gallery, [people([])]).version == 0


def test_float16_is_rounded_once_and_then_the_same(tmp_path: Path) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec(dtype="float16"))
    table = people(ids(5))
    lifecycle.enroll(gallery, [table])
    ((_, vectors),) = gallery.snapshot().vectors()
    np.testing.assert_array_equal(vectors, unit(5).astype(np.float16).astype(np.float32))
    assert lifecycle.enroll(gallery, [table], "append").unchanged == 5
    assert lifecycle.enroll(gallery, gallery.snapshot().tables(), "append").unchanged == 5


def _broken(name: str, values: pa.Array) -> pa.Table:
    table = people(["a", "b"])
    return table.set_column(table.column_names.index(name), name, values)


@pytest.mark.parametrize(
    "table",
    [
        _broken("subject_id", pa.array(["a", None])),
        _broken("face_id", pa.array(["", "x"])),
        _broken("embedding", vector_array(unit(2) * np.float32(1.1))),
        _broken("embedding", vector_array(np.full((2, DIM), np.nan, np.float32))),
        _broken("embedding", pa.array([[1.0], [1.0]])),
        people(["a", "b"]).append_column("Age", pa.array([1, 2])),
        people(["a", "b"])
        .append_column("Name", pa.array(["x", "y"]))
        .append_column("", pa.array(["x", "y"])),
        people(["a", "b"]).drop_columns(["face_id"]),
    ],
)
def test_rows_that_no_gallery_can_hold_are_refused_whole(gallery: Gallery, table: pa.Table) -> None:
    with pytest.raises(GalleryError):
        lifecycle.enroll(gallery, [people(ids(3)), table])
    assert gallery.snapshot().rows == 0


def test_another_dimension_is_refused_with_both_named(gallery: Gallery) -> None:
    with pytest.raises(GalleryMismatch, match=r"8 .* 16"):
        lifecycle.enroll(gallery, [people(["a"], dim=8)])


def test_another_recipe_is_refused_with_both_hashes(tmp_path: Path, gallery: Gallery) -> None:
    with pytest.raises(GalleryMismatch, match=f"{'e' * 64}.*{'f' * 64}"):
        gallery.spec.check_recipe("f" * 64, "p" * 64, "d" * 64, DIM)
    with pytest.raises(GalleryMismatch):
        Gallery.ensure(gallery.uri, spec(dim=8))
    assert Gallery.ensure(gallery.uri, spec()).gallery_id == gallery.gallery_id
    with pytest.raises(GalleryError, match="already"):
        Gallery.create(gallery.uri, spec())
    with pytest.raises(GalleryError, match="no gallery"):
        Gallery.open(str(tmp_path / "elsewhere"))


def test_a_quality_of_nan_is_not_known_and_stays_unchanged(gallery: Gallery) -> None:
    table = people(["a"]).set_column(3, "quality", pa.array([float("nan")], pa.float32()))
    lifecycle.enroll(gallery, [table], "append")
    assert lifecycle.enroll(gallery, [table], "append").unchanged == 1


def _column(name: str, values: pa.Array) -> pa.Table:
    table = people(["a", "b"])
    return table.set_column(table.column_names.index(name), name, values)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (_column("subject_id", pa.array(["a\0", "b"])), "NUL"),
        (_column("face_id", pa.array(["a", "\0b"])), "NUL"),
        (
            _column(
                "image_uri",
                pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xed\xa0\x80", b"x"]).buffers()),
            ),
            "not UTF-8",
        ),
        (_column("enrolled_at", pa.array([2**62, 0]).cast(TIME)), "1 to 9999"),
        (_column("embedding", pa.array([None, unit(1)[0]], vector_type(DIM))), "missing"),
        (_column("embedding", vector_array(unit(2) * np.float32(1.0007))), "length 1"),
    ],
)
def test_rows_that_no_gallery_can_hold_are_refused(gallery: Gallery, table: pa.Table, message: str) -> None:
    with pytest.raises(GalleryError, match=message):
        lifecycle.enroll(gallery, [table])
    assert gallery.versions() == [0]


def test_a_float16_gallery_of_lengths_at_the_limit_is_sound_and_merges(tmp_path: Path) -> None:
    half, other = (Gallery.create(str(tmp_path / name), spec(dtype="float16")) for name in ("half", "other"))
    lifecycle.enroll(half, [_column("embedding", vector_array(unit(2) * np.float32(1.0004)))])
    assert lifecycle.verify(half) == []
    assert lifecycle.merge(other, half).added == 2


def test_a_text_that_utf8_cannot_hold_is_an_error(gallery: Gallery) -> None:
    table = _column("embedding", vector_array(unit(2)))
    for call in (
        lambda: lifecycle.enroll(gallery, [table], note="\ud800"),
        lambda: lifecycle.delete(gallery, ["\ud800"]),
        lambda: gallery.snapshot().show("\ud800"),
    ):
        with pytest.raises(GalleryError, match="surrogate"):
            call()
