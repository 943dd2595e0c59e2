"""A face that does not fit its person is said at once, by every way in, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from album_runs import Shot, enrolled, face
from gallery_rows import content, people, spec

from frpipe.cli.main import main
from frpipe.gallery import lifecycle, likeness
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.likeness import DoubtError, Examination, Likeness, nearest_own
from frpipe.gallery.schema import vector_array
from frpipe.jobs.consolidate.job import Consolidation

DOUBT = Likeness(0.5)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    made = Gallery.create(str(tmp_path / "g"), spec())
    lifecycle.enroll(made, [_rows("anna", 1, 2), _rows("bert", 3)])
    return made


def _rows(subject: str, *seeds: int) -> pa.Table:
    """Faces of one person: the first seed's, and others near it."""
    vectors = [face(seeds[0]), *(face(seed, near=seeds[0]) for seed in seeds[1:])]
    table = people([subject], faces=len(seeds))
    names = pa.array([f"{subject}/{seed}.jpg#0" for seed in seeds])
    table = table.set_column(1, table.schema.field(1), names)
    return table.set_column(5, table.schema.field(5), vector_array(np.stack(vectors)))


def _doubts(gallery: Gallery, table: pa.Table, how: Likeness = DOUBT) -> list[tuple[str, str, str]]:
    found = lifecycle.enroll(gallery, [table], "append", likeness=how).doubts
    assert found is not None
    assert (found.unlike_own, found.like_another) == tuple(
        sum(each.kind == kind for each in found.shown) for kind in ("unlike_own", "like_another")
    )
    return [(each.kind, each.face_id, each.other_face_id) for each in found.shown]


def test_a_strangers_face_under_a_known_id_is_said_with_the_nearest_and_its_similarity(
    gallery: Gallery,
) -> None:
    stranger = _rows("anna", 9)
    (found,) = _doubts(gallery, stranger)
    assert found[:2] == ("unlike_own", "anna/9.jpg#0")
    entry = gallery.log()[-1]
    assert (entry.counts["unlike_own"], entry.counts["like_another"]) == (1, 0)


def test_a_face_that_is_another_persons_is_said(gallery: Gallery) -> None:
    carl = _rows("carl", 1)
    assert _doubts(gallery, carl) == [("like_another", "carl/1.jpg#0", "anna/1.jpg#0")]


def test_new_faces_are_compared_with_each_other_too(gallery: Gallery) -> None:
    given = pa.concat_tables([_rows("dora", 20), _rows("emil", 20), _rows("fred", 21, 22)])
    found = _doubts(gallery, given)
    assert sorted(each[1] for each in found) == ["dora/20.jpg#0", "emil/20.jpg#0"]


def test_a_face_that_fits_and_one_that_is_there_already_are_no_matter(gallery: Gallery) -> None:
    assert _doubts(gallery, _rows("anna", 1, 2, 4)) == []
    assert "unlike_own" in gallery.log()[-1].counts
    assert _doubts(gallery, _rows("anna", 1, 2, 4)) == []


def test_what_goes_with_the_same_change_does_not_count(gallery: Gallery) -> None:
    done = lifecycle.enroll(gallery, [_rows("anna", 9)], "replace", likeness=DOUBT)
    assert done.doubts is not None
    assert done.doubts.unlike_own == 0


def test_strict_refuses_before_anything_is_written(gallery: Gallery, tmp_path: Path) -> None:
    before, files = content(gallery.snapshot()), sorted(tmp_path.rglob("*"))
    with pytest.raises(DoubtError) as refused:
        lifecycle.enroll(gallery, [_rows("carl", 1), _rows("dora", 30)], likeness=Likeness(0.5, strict=True))
    assert refused.value.doubts.like_another == 1
    assert "carl" not in str(refused.value)
    assert (content(gallery.snapshot()), sorted(tmp_path.rglob("*"))) == (before, files)


def test_a_search_that_takes_too_long_is_not_done_and_that_is_said(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likeness, "MAX_OPERATIONS", 1)
    done = lifecycle.enroll(gallery, [_rows("carl", 1)], likeness=DOUBT)
    assert done.doubts is not None
    assert done.doubts.like_another is None
    assert gallery.log()[-1].counts["not_compared_with_others"] == 1
    with pytest.raises(Exception, match="too many to be compared"):
        lifecycle.enroll(gallery, [_rows("dora", 1)], likeness=Likeness(0.5, strict=True))


def test_the_nearest_of_the_same_person_is_that_of_brute_force() -> None:
    chance = np.random.default_rng(5)
    codes = np.concatenate([np.repeat(np.arange(30), 3), np.zeros(40, int), np.arange(30, 40)])
    chance.shuffle(codes)
    vectors = chance.normal(size=(len(codes), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = np.where(codes[:, None] == codes, vectors @ vectors.T, -2)
    np.fill_diagonal(scores, -2)
    best, at = nearest_own(codes, vectors)
    np.testing.assert_allclose(best, scores.max(axis=1), atol=1e-6)
    alone = scores.max(axis=1) == -2
    assert (at[alone] == -1).all()
    assert (at[~alone] == scores.argmax(axis=1)[~alone]).all()


def test_every_way_in_says_it_on_standard_output(
    gallery: Gallery, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Gallery.create(str(tmp_path / "h"), spec())
    lifecycle.enroll(other, [_rows("carl", 1)])
    assert main(["gallery", "export", other.uri, "--layout", "parquet", "-o", str(tmp_path / "h.out")]) == 0
    out = enrolled(tmp_path / "run", {"carl/1.jpg": Shot("carl", [face(1)])})
    at = ["--threshold", "0.5"]
    ways = (["merge", gallery.uri, other.uri], ["import", gallery.uri, str(tmp_path / "h.out")])
    for way in (*ways, ["enroll", gallery.uri, "--features", out]):
        capsys.readouterr()
        assert main(["gallery", *way, *at, "--strict"]) == 10
        told = capsys.readouterr()
        line = "carl, carl/1.jpg#0: nearest 1.000, anna/1.jpg#0 of anna"
        assert line in told.out
        assert "carl" not in told.err
        assert main(["gallery", *way, *at, "--json"]) == 0
        told = capsys.readouterr()
        assert json.loads(told.out)["doubts"]["like_another"] == 1
        lifecycle.delete(gallery, ["carl"], suppress=None)
    done = Consolidation(out, gallery.uri).run()
    assert "not looked at: whether the faces fit" in done.text()


def test_doubts_of_equal_similarity_are_told_apart() -> None:
    def rows(person: str, axes: list[int]) -> pa.Table:
        vectors = np.eye(4, dtype=np.float32)[axes]
        faces = [f"{person}/{axis}#0" for axis in axes]
        ids = [pa.array(names, pa.string()) for names in ([person] * len(axes), faces)]
        return pa.table([*ids, vector_array(vectors)], names=["subject_id", "face_id", "embedding"])

    def looked(*people: str) -> Examination:
        found = Examination(Likeness(0.5), 4, 100)
        for person in people:
            new = [0, 1] if person == "anna" else [2]
            found.take(rows(person, new), rows(person, [3] if person != "anna" else []))
        return found

    both = looked("anna")
    both.add(looked("bert", "carl"))
    at_once = looked("anna", "bert", "carl")
    snapshot = SimpleNamespace(version=SimpleNamespace(shards=[]))
    assert both.end(snapshot, {}) == at_once.end(snapshot, {})  # type: ignore[arg-type]
    assert both.new == 4
