"""Templates of several photos and media: pooled by hand, compared and searched as a user asks for it."""

from __future__ import annotations

import json
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from embedded_runs import drawn_run

from frpipe.cli.jobs.metrics import main
from frpipe.core.errors import ManifestError
from frpipe.jobs.evaluate.template_list import TemplateList
from frpipe.jobs.evaluate.template_results import PooledTemplates
from frpipe.jobs.features import FeatureRun
from frpipe.matching.pooling import media_means

PEOPLE = [f"p{n:02d}" for n in range(12)]


def _unit(*values: float) -> np.ndarray:
    return np.array(values) / np.linalg.norm(values)


# by hand


def test_media_are_averaged_first_by_hand() -> None:
    """A video of two frames at right angles and a photo: (1,1,0)/sqrt2 and (0,0,1), so (1,1,sqrt2)/2."""
    frames = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    found = media_means(frames, np.zeros(3, np.int64), np.array([5, 5, 6]), 1)
    assert found[0] == pytest.approx([0.5, 0.5, np.sqrt(0.5)], abs=1e-7)
    alone = media_means(frames, np.zeros(3, np.int64), np.arange(3), 1)
    assert alone[0] == pytest.approx(_unit(1, 1, 1), abs=1e-7)


def test_a_long_video_weighs_no_more_than_a_photo() -> None:
    vectors = np.concatenate([np.tile([[1.0, 0.0]], (99, 1)), [[0.0, 1.0]]])
    found = media_means(vectors, np.zeros(100, np.int64), np.r_[np.zeros(99, np.int64), 1], 1)
    assert found[0] == pytest.approx(_unit(1, 1), abs=1e-7)


def test_one_photo_is_its_template_and_the_order_of_rows_says_nothing() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    template, medium = rng.integers(0, 5, 40), rng.integers(0, 9, 40)
    order = rng.permutation(40)
    one = media_means(vectors, template, medium, 6)
    other = media_means(vectors[order], template[order], medium[order], 6)
    assert one == pytest.approx(other, abs=1e-6)
    assert not one[5].any() and np.linalg.norm(one[:5], axis=1) == pytest.approx(1)
    assert media_means(vectors[:1], np.zeros(1, int), np.zeros(1, int), 1)[0] == pytest.approx(vectors[0])


def test_what_has_no_direction_is_no_template() -> None:
    found = media_means(np.array([[1.0, 0], [-1.0, 0]]), np.zeros(2, np.int64), np.arange(2), 1)
    assert not found.any()
    assert media_means(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, np.int64), 2).shape == (2, 4)


# as a user goes


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photos of each of twelve people: a template of three, two of them of one video, and one of three
    photos; a template of a photo that is not there."""
    found = tmp_path_factory.mktemp("templates")
    drawn_run(found / "features", PEOPLE, 6)
    rows = ["template_id,image_id,media"]
    for who in PEOPLE:
        rows += [f"{who}/g,{who}-{n},{'clip' if n < 2 else ''}" for n in range(3)]
        rows += [f"{who}/p,{who}-{n}," for n in range(3, 6)]
    (found / "templates.csv").write_text("\n".join([*rows, "nobody,absent,"]))
    pairs = [f"{a}/g,{b}/p" for a in PEOPLE for b in PEOPLE]
    (found / "pairs.csv").write_text("\n".join(["a,b", *pairs]))
    (found / "gallery.csv").write_text("\n".join(["template_id", *(f"{who}/g" for who in PEOPLE[:8])]))
    (found / "probes.csv").write_text("\n".join(["template_id", *(f"{who}/p" for who in PEOPLE)]))
    return found


def _job(place: Path, *words: object, code: int = 0) -> str:
    asked = ["templates", "--features", place / "features", "--templates", place / "templates.csv", *words]
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        done = main([str(word) for word in asked])
    assert done == code, err.getvalue()
    return out.getvalue() + err.getvalue()


def _pooled(place: Path) -> PooledTemplates:
    source = FeatureRun.open(str(place / "features"))
    return PooledTemplates.of(TemplateList.read(str(place / "templates.csv")), source, "centre-largest")


def test_the_pairs_are_those_of_vectors_pooled_by_hand(place: Path) -> None:
    _, faces = FeatureRun.open(str(place / "features")).features.part(0)
    vectors = dict(zip(faces["image_id"].to_pylist(), np.array(faces["embedding"].to_pylist()), strict=True))
    clip = _unit(*(vectors["p03-0"] + vectors["p03-1"]))
    one = _unit(*(clip + vectors["p03-2"]))
    other = _unit(*sum(vectors[f"p05-{n}"] for n in (3, 4, 5)))
    trials = _pooled(place).compared(str(place / "pairs.csv")).trials
    (row,) = np.flatnonzero((trials.a == "p03/g") & (trials.b == "p05/p"))
    assert trials.similarity[row] == pytest.approx(one @ other, abs=1e-6)
    assert trials.mated.sum() == len(PEOPLE) and not trials.mated[row]


def test_the_same_pairs_without_media_are_others(place: Path, tmp_path: Path) -> None:
    rows = [line.rsplit(",", 1)[0] for line in (place / "templates.csv").read_text().splitlines()]
    (tmp_path / "plain.csv").write_text("\n".join(rows))
    source = FeatureRun.open(str(place / "features"))
    plain = PooledTemplates.of(TemplateList.read(str(tmp_path / "plain.csv")), source, "centre-largest")
    number = plain.listed.number["p00/g"]
    assert not np.allclose(plain.vectors[number], _pooled(place).vectors[number])


def test_verification_of_templates_has_a_report(place: Path) -> None:
    assert "EER" in _job(place, "--pairs", place / "pairs.csv", "--output", place / "one", "--threshold", 0.4)
    numbers = pq.read_table(place / "one/numbers.parquet").to_pylist()
    fmr = next(n for n in numbers if n["measure"] == "FMR" and n["column"] is None)
    assert (fmr["at"], fmr["trials"]) == (0.4, len(PEOPLE) * (len(PEOPLE) - 1))
    assert json.loads((place / "one/report.json").read_text())["task"] == "verification"


def test_identification_of_templates_finds_who_is_there(place: Path) -> None:
    words = ("--gallery", place / "gallery.csv", "--probes", place / "probes.csv", "--output", place / "many")
    _job(place, *words)
    numbers = pq.read_table(place / "many/numbers.parquet").to_pylist()
    first = next(n for n in numbers if n["measure"] == "CMC" and n["at"] == 1)
    assert first["trials"] == 8
    found = _pooled(place).searched(str(place / "gallery.csv"), str(place / "probes.csv"), 3).trials
    best = found.subject[[np.flatnonzero(found.probe == n)[0] for n in range(8)]]
    assert first["count"] == (best == found.truth[:8]).sum()


def test_a_template_without_a_photo_is_a_failure(place: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a,b,mated\nnobody,p00/p,true\np00/g,p00/p,true\np00/g,p01/p,false\n")
    found = _pooled(place).compared(str(tmp_path / "pairs.csv"))
    assert np.isnan(found.trials.similarity).tolist() == [True, False, False]
    assert found.trials.lost_a.tolist() == [True, False, False]
    assert "1 template has no photo" in found.warnings[-1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("template_id\na\n", "image_id"),
        ("template_id,image_id\na,x\na,x\n", "twice"),
        ("template_id,image_id\na,\n", "rows without image_id"),
        ("template_id,image_id\n", "no rows"),
        ("template_id,image_id,subject_id\na,x,ann\na,y,bob\n", "two people"),
    ],
)
def test_lists_that_cannot_be_used_are_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ManifestError, match=said):
        TemplateList.read(str(tmp_path / "list.csv"))


def test_a_template_that_is_not_listed_and_half_a_question_are_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a,b\nother,p00/p\n")
    assert "lacks" in _job(place, "--pairs", tmp_path / "pairs.csv", "--output", tmp_path / "x", code=3)
    assert "either" in _job(place, "--gallery", place / "gallery.csv", "--output", tmp_path / "x", code=2)
    assert not (tmp_path / "x").exists()
