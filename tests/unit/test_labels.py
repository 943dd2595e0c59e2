"""Wrong labels that are planted are found, and nothing else is first."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from frpipe.core.errors import ConfigError
from frpipe.gallery import labels
from frpipe.gallery.labels import examine
from frpipe.gallery.schema import vector_array

DIM = 64


def _photos(people: int, each: int, noise: float = 0.5) -> list[tuple[str, str, np.ndarray]]:
    rng = np.random.default_rng(3)
    rows = []
    for person in range(people):
        centre = rng.normal(size=DIM)
        rows += [(f"p{person:02d}", f"f{n}", centre + noise * rng.normal(size=DIM)) for n in range(each)]
    return rows


def _tables(rows: list[tuple[str, str, np.ndarray]], size: int = 7) -> list[pa.Table]:
    tables = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        vectors = np.stack([row[2] / np.linalg.norm(row[2]) for row in part]).astype(np.float32)
        columns = {
            "subject_id": [row[0] for row in part],
            "face_id": [row[1] for row in part],
            "image_uri": pa.nulls(len(part), pa.string()),
            "embedding": vector_array(vectors),
        }
        tables.append(pa.table(columns))
    return tables


def test_clean_labels_give_no_suspects() -> None:
    found = examine(lambda: _tables(_photos(12, 4)), DIM, threshold=0.5)
    assert (found.subjects, found.templates) == (12, 48)
    assert (found.suspect_photos, found.suspect_pairs) == (0, 0)
    assert len(found.spreads) == 12


def test_a_photo_under_the_wrong_name_is_first() -> None:
    rows = _photos(12, 4)
    rows[5] = (rows[5][0], rows[5][1], rows[40][2])  # the second person's second photo shows the eleventh
    found = examine(lambda: _tables(rows), DIM, threshold=0.5)
    worst = found.photos[0]
    assert (worst.subject_id, worst.face_id, worst.nearest_id) == ("p01", "f1", "p10")
    assert worst.nearest is not None
    assert worst.own < 0.5 < worst.nearest
    assert found.spreads[0].subject_id == "p01"


def test_own_is_the_likeness_to_the_centroid_of_the_others() -> None:
    rows = _photos(3, 3)
    rows[1] = (rows[1][0], rows[1][1], rows[8][2])
    worst = examine(lambda: _tables(rows), DIM, threshold=0.5).photos[0]
    unit = [row[2] / np.linalg.norm(row[2]) for row in rows]
    others = unit[0] + unit[2]
    assert worst.own == pytest.approx(unit[1] @ others / np.linalg.norm(others), abs=1e-5)


def test_one_person_under_two_ids_is_one_pair() -> None:
    rows = [*_photos(10, 3), ("copy", "f0", _photos(10, 3)[6][2])]
    found = examine(lambda: _tables(rows), DIM, threshold=0.5)
    assert [{pair.subject_id, pair.other_id} for pair in found.pairs] == [{"p02", "copy"}]


def test_two_people_of_one_photo_each_are_a_pair_by_the_threshold_alone() -> None:
    vector = np.ones(DIM)
    rows = [("a", "f0", vector), ("b", "f0", vector), *_photos(4, 1)]
    assert examine(lambda: _tables(rows), DIM, threshold=None).pairs == []
    pair = examine(lambda: _tables(rows), DIM, threshold=0.9).pairs[0]
    assert ({pair.subject_id, pair.other_id}, pair.own) == ({"a", "b"}, None)


def test_a_limit_cuts_the_lists_and_not_the_counts() -> None:
    rows = _photos(20, 2, noise=5)
    found = examine(lambda: _tables(rows), DIM, threshold=0.9, limit=3)
    assert len(found.photos) == len(found.spreads) == 3
    assert found.suspect_photos == 40


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_however_few_are_compared_at_once_the_answer_is_the_same(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    rows = _photos(20, 3, noise=3)
    rows += [("same", "f0", rows[4][2]), ("same", "f1", rows[4][2]), ("alone", "f0", rows[9][2])]
    whole = examine(lambda: _tables(rows, 1000), DIM, threshold=0.4, limit=limit)
    monkeypatch.setattr(labels, "_ROWS", 5)
    monkeypatch.setattr(labels, "_PEOPLE", 3)
    found = examine(lambda: _tables(rows, 8), DIM, threshold=0.4, limit=limit)
    assert whole.suspect_photos > 4 < whole.suspect_pairs
    for each, other in zip(_flat(found), _flat(whole), strict=True):
        assert each == (pytest.approx(other, abs=1e-5) if isinstance(other, float) else other)


def _flat(found: object) -> list[object]:
    """All numbers and texts of an answer, in order."""
    if isinstance(found, labels.Labels):
        found = found.as_dict()
    if isinstance(found, dict):
        found = list(found.values())
    return [leaf for each in found for leaf in _flat(each)] if isinstance(found, list) else [found]


def test_an_empty_gallery_and_a_single_person_are_no_error() -> None:
    assert examine(list, DIM).subjects == 0
    alone = examine(lambda: _tables(_photos(1, 3)), DIM, threshold=0.5)
    assert (alone.suspect_pairs, alone.subjects) == (0, 1)


def test_too_much_work_is_refused_unless_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "MAX_OPERATIONS", 1000)
    with pytest.raises(ConfigError, match="operations"):
        examine(lambda: _tables(_photos(3, 2)), DIM)
    assert examine(lambda: _tables(_photos(3, 2)), DIM, force=True).subjects == 3
