"""Consolidate with `--subject-face agreeing`: the face that is like the person's other photos."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from album_runs import Shot, enrolled, face
from hypothesis import given, settings
from hypothesis import strategies as st

from frpipe.cli.main import main
from frpipe.core.errors import ConfigError
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import vector_array
from frpipe.jobs.consolidate.agreeing import DIFFERENCES, AgreeingFaces
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.consolidate.result import Consolidated

ANNA, BELA, CORA = 1, 2, 3


def _run(features: str, gallery: Path, **options: object) -> tuple[Consolidated, list[str]]:
    """Consolidate; the result, and the faces in the gallery."""
    done = Consolidation(features, str(gallery), subject_face="agreeing", **options).run()  # type: ignore[arg-type]
    return done, _faces(gallery)


def _faces(gallery: Path) -> list[str]:
    tables = Gallery.open(str(gallery)).snapshot().tables(["face_id"], vectors=False)
    return sorted(name for table in tables for name in table["face_id"].to_pylist())


@pytest.fixture
def album(tmp_path: Path) -> str:
    """Anna on four photos, on one of which the rule takes Bela, beside her; Cora on one, with Bela."""
    shots = {
        "anna-1": Shot("anna", [face(11, ANNA)]),
        "anna-2": Shot("anna", [face(12, ANNA), face(21, BELA)]),
        "anna-3": Shot("anna", [face(22, BELA), face(13, ANNA)]),
        "anna-4": Shot("anna", [face(14, ANNA)]),
        "cora-1": Shot("cora", [face(23, BELA), face(31, CORA)]),
        "nobody": Shot(None, [face(24, BELA), face(32, CORA)]),
        "empty": Shot.empty("anna"),
    }
    return enrolled(tmp_path / "out", shots)


def test_the_face_that_is_like_the_other_photos_is_taken(album: str, tmp_path: Path) -> None:
    told: list[pa.Table] = []
    done, faces = _run(album, tmp_path / "G", differences_to=told.append)
    assert faces == ["anna-1#0", "anna-2#0", "anna-3#1", "anna-4#0", "cora-1#0"]
    row = {"subject_id": "anna", "image_id": "anna-3", "face_id": "anna-3#1", "rule_face_id": "anna-3#0"}
    assert done.agreement is not None
    assert done.as_dict()["agreement"] == {
        **{"photos": 3, "alone": 1, "differing": 1, "people": 1},
        "shown": (row,),
    }
    assert pa.concat_tables(told).to_pylist() == [row]
    assert "3 photos with several faces: 1 with another face than the rule's, of 1 person" in done.text()
    assert "anna" not in done.text().split("gallery ")[0]
    assert (done.faces, done.used, done.left_out) == (10, 5, {"another_face": 3, "no_subject": 2})


def test_the_rule_stays_the_default(album: str, tmp_path: Path) -> None:
    done = Consolidation(album, str(tmp_path / "G")).run()
    assert done.agreement is None and "anna-3#0" in _faces(tmp_path / "G")


def test_a_gallery_by_the_rule_is_brought_up_to_date(album: str, tmp_path: Path) -> None:
    Consolidation(album, str(tmp_path / "G")).run()
    done, faces = _run(album, tmp_path / "G")
    assert (done.superseded, "anna-3#1" in faces, "anna-3#0" in faces) == (1, True, False)
    again, _ = _run(album, tmp_path / "G")
    assert (again.added, again.replaced, again.unchanged) == (0, 0, 5)


def test_means_are_made_of_the_faces_that_agree(album: str, tmp_path: Path) -> None:
    done, _ = _run(album, tmp_path / "G", templates="mean")
    (table,) = Gallery.open(str(tmp_path / "G")).snapshot().tables(["subject_id", "embedding"])
    vectors = dict(zip(table["subject_id"].to_pylist(), np.stack(table["embedding"].to_numpy()), strict=True))
    alone = np.mean([face(seed, ANNA) for seed in (11, 12, 13, 14)], axis=0)
    assert vectors["anna"] == pytest.approx(alone / np.linalg.norm(alone), abs=1e-3)
    assert done.templates == 2


def test_a_dry_run_says_the_same_and_writes_nothing(album: str, tmp_path: Path) -> None:
    planned = Consolidation(album, str(tmp_path / "G"), subject_face="agreeing").dry_run()
    done, _ = _run(album, tmp_path / "H")
    assert planned.agreement == done.agreement
    assert not (tmp_path / "G").exists()


def test_two_photos_of_the_same_two_people_do_not_exchange_them(tmp_path: Path) -> None:
    """By the other photo alone each would be the other person. Which of them is meant, nobody can tell."""
    shots = {
        "anna-1": Shot("anna", [face(11, ANNA), face(21, BELA)]),
        "anna-2": Shot("anna", [face(22, BELA), face(12, ANNA)]),
    }
    done, faces = _run(enrolled(tmp_path / "out", shots), tmp_path / "G")
    assert faces in (["anna-1#0", "anna-2#1"], ["anna-1#1", "anna-2#0"])
    assert done.agreement is not None and (done.agreement.photos, done.agreement.differing) == (2, 1)


def test_where_the_rule_is_mostly_wrong_with_strangers_the_person_is_found(tmp_path: Path) -> None:
    shots = {f"anna-{n}": Shot("anna", [face(100 + n), face(10 + n, ANNA)]) for n in range(6)}
    shots["anna-6"] = Shot("anna", [face(16, ANNA)])
    done, faces = _run(enrolled(tmp_path / "out", shots), tmp_path / "G")
    assert faces == [*(f"anna-{n}#1" for n in range(6)), "anna-6#0"]
    assert done.agreement is not None and done.agreement.differing == 6


def test_of_equals_the_rules_face_is_taken_and_then_the_better_scored() -> None:
    anna, other = face(1), face(2)
    rows = [("a#0", anna, True), ("b#0", anna, False), ("b#1", anna, True)]
    assert _taken(rows) == {"a#0", "b#1"}
    rows = [("a#0", anna, True), ("b#10", anna, False), ("b#2", anna, False), ("b#11", other, True)]
    assert _taken(rows) == {"a#0", "b#2"}


def _table(rows: list[tuple[str, np.ndarray, bool]], person: str = "p") -> pa.Table:
    names, vectors, marks = zip(*rows, strict=True)
    return pa.table(
        {
            "subject_id": [person] * len(rows),
            "face_id": list(names),
            "embedding": vector_array(np.stack(vectors)),
            "frpipe.by_rule": pa.array(["yes" if mark else None for mark in marks], pa.string()),
        }
    )


def _taken(rows: list[tuple[str, np.ndarray, bool]]) -> set[str]:
    return set(AgreeingFaces().of(_table(rows))["face_id"].to_pylist())


@st.composite
def _people(draw: st.DrawFn) -> pa.Table:
    """Faces of some people's photos, in any order. Few vectors are drawn from: many are equal."""
    tables = []
    for person in range(draw(st.integers(1, 4))):
        rows = []
        for photo in range(draw(st.integers(1, 5))):
            count = draw(st.integers(1, 4))
            rule = draw(st.integers(0, count - 1))
            seeds = [draw(st.integers(0, 5)) for _ in range(count)]
            rows += [(f"{person}/{photo}#{n}", face(seed), n == rule) for n, seed in enumerate(seeds)]
        tables.append(_table(rows, f"p{person}"))
    table = pa.concat_tables(tables)
    return table.take(pa.array(draw(st.permutations(range(table.num_rows)))))


@settings(max_examples=150, deadline=None)
@given(_people(), st.data())
def test_one_face_of_each_photo_whatever_the_order_and_never_less_alike(
    table: pa.Table, data: st.DataObject
) -> None:
    told: list[pa.Table] = []
    choice = AgreeingFaces(told.append)
    taken = choice.of(table)
    shuffled = table.take(pa.array(data.draw(st.permutations(range(table.num_rows)))))
    assert AgreeingFaces().of(shuffled).equals(taken)
    photos = [name.partition("#")[0] for name in table["face_id"].to_pylist()]
    assert sorted(name.partition("#")[0] for name in taken["face_id"].to_pylist()) == sorted({*photos})
    rule = table.filter(table["frpipe.by_rule"].is_valid())
    for person in set(table["subject_id"].to_pylist()):
        ours, rules = (_alike(each, person) for each in (taken, rule))
        mine = [row for each in told for row in each.to_pylist() if row["subject_id"] == person]
        assert ours > rules - 1e-9 if mine else ours == pytest.approx(rules)
    _no_face_is_more_alike(table, taken)
    faces = set(taken["face_id"].to_pylist()) - {*rule["face_id"].to_pylist()}
    assert faces == {name for each in told for name in each["face_id"].to_pylist()}
    assert choice.found.differing == len(faces)


def _no_face_is_more_alike(every: pa.Table, taken: pa.Table) -> None:
    """No face is more like the taken faces of the person's other photos than the one that its photo has."""
    vectors = {row["face_id"]: np.array(row["embedding"], np.float64) for row in every.to_pylist()}
    now = {name.partition("#")[0]: name for name in taken["face_id"].to_pylist()}
    for name, vector in vectors.items():
        photo = name.partition("#")[0]
        others = [each for each in now if each.partition("/")[0] == name.partition("/")[0] and each != photo]
        if others:
            mean = np.mean([vectors[now[each]] for each in others], axis=0)
            assert vector @ mean <= vectors[now[photo]] @ mean + 1e-8


def _alike(table: pa.Table, person: str) -> float:
    own = [row["embedding"] for row in table.to_pylist() if row["subject_id"] == person]
    vectors = np.array(own, np.float64)
    return float((vectors @ vectors.T).sum())


def test_it_needs_all_faces_of_the_photos(album: str, tmp_path: Path) -> None:
    facts = json.loads((tmp_path / "out/run.json").read_text())
    embed = {"model": "x", "flip": False}
    settings = {"decode": {}, "detect": {"policy": "largest"}, "align": {}, "embed": embed}
    facts["identity"]["recipe"] = {"settings": settings, "detector": {}, "embedder": {"input": {}}}
    (tmp_path / "out/run.json").write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match=r"one face a photo \(detect.policy: largest\)"):
        _run(album, tmp_path / "G")
    with pytest.raises(ConfigError, match="require-one"):
        _run(album, tmp_path / "G", faces="require-one")


def test_by_command(album: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "consolidate", "--features", album, "--gallery", str(tmp_path / "G"), "--json"]
    assert main([*words, "--differences", str(tmp_path / "d.parquet")]) == 2
    assert "give --subject-face agreeing" in capsys.readouterr().err
    words += ["--subject-face", "agreeing", "--differences", str(tmp_path / "d.parquet")]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)["agreement"]
    listed = pq.read_table(tmp_path / "d.parquet")
    assert listed.schema.equals(DIFFERENCES) and listed.to_pylist() == told["shown"]
    note = Gallery.open(str(tmp_path / "G")).log()[-1].note
    assert '"subject_face": "agreeing"' in note

    other = ["gallery", "enroll", str(tmp_path / "H"), "--features", album, "--subject-face", "agreeing"]
    assert main(other) == 0
    assert _faces(tmp_path / "H") == _faces(tmp_path / "G")
    assert main(["gallery", "enroll", str(tmp_path / "H"), "--photo", "x.jpg", "--id", "a", *other[-2:]]) == 2
