"""What probes are compared with: those in sight, those asked for, and a mean a person."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from gallery_rows import DIM, ids, people, spec

from frpipe.core.errors import GalleryError
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.search_view import Score, SearchView
from frpipe.gallery.spec import AES

ROWS = 3 * 60
Templates = dict[str, list[np.ndarray]]


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """Sixty people; two templates of each came first and one later, in other shards."""
    return _fill(Gallery.create(str(tmp_path / "G"), spec()))


def _fill(gallery: Gallery) -> Gallery:
    teams: list[str | None] = [("red", "blue", None)[n // 2 % 3] for n in range(120)]
    lifecycle.enroll(gallery, [people(ids(60), faces=2, team=teams)])
    later = people(ids(60), seed=1)
    renamed = pa.array([f"{name}#later" for name in ids(60)])
    later = later.set_column(later.schema.get_field_index("face_id"), "face_id", renamed)
    lifecycle.enroll(gallery, [later], "append")
    assert gallery.snapshot().rows == ROWS
    return gallery


def _lineup(gallery: Gallery, score: Score = "max", hold_bytes: int = 0, **where: str) -> SearchView:
    return SearchView(gallery.snapshot(), where, score, hold_bytes)


def _read(search_view: SearchView) -> Templates:
    found: Templates = {}
    for subject_ids, vectors in search_view.blocks():
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(subject_ids), DIM)
        for name, vector in zip(subject_ids.to_pylist(), vectors, strict=True):
            found.setdefault(name, []).append(vector)
    return found


def _truth(gallery: Gallery, keep: Any = lambda row: True) -> Templates:
    found: Templates = {}
    for table in gallery.snapshot().tables():
        for row in filter(keep, table.to_pylist()):
            found.setdefault(row["subject_id"], []).append(np.array(row["embedding"], np.float32))
    return found


def _equal(found: Templates, expected: Templates) -> bool:
    def listed(templates: Templates) -> dict[str, list[bytes]]:
        return {name: sorted(vector.tobytes() for vector in some) for name, some in templates.items()}

    return listed(found) == listed(expected)


def test_all_in_sight_once(gallery: Gallery) -> None:
    search_view = _lineup(gallery)
    assert (search_view.rows, search_view.subjects) == (ROWS, 60)
    assert _equal(_read(search_view), _truth(gallery))
    lifecycle.delete(gallery, ids(20))
    search_view = _lineup(gallery)
    assert (search_view.rows, search_view.subjects) == (120, 40)
    assert _equal(_read(search_view), _truth(gallery))
    assert "p0003" not in _read(search_view)


def test_slices_of_the_shards_are_all_of_it(gallery: Gallery) -> None:
    search_view = _lineup(gallery)
    ends = range(0, len(search_view.shards), 2)
    parts = [ids for first in ends for ids, _ in search_view.blocks(slice(first, first + 2))]
    assert len(parts) == len(search_view.shards) > 3
    assert sum(map(len, parts)) == ROWS


def test_where_is_a_value_of_each_attribute(gallery: Gallery) -> None:
    search_view = _lineup(gallery, team="red")
    expected = _truth(gallery, lambda row: row["team"] == "red")
    assert (search_view.rows, search_view.subjects) == (40, 20)
    assert _equal(_read(search_view), expected)
    assert _equal(_read(_lineup(gallery, team="red", subject_id="p0003")), {"p0003": expected["p0003"]})
    nobody = _lineup(gallery, team="green")
    assert (nobody.rows, nobody.subjects, _read(nobody)) == (0, 0, {})
    assert _read(_lineup(gallery, "mean", team="green")) == {}


@pytest.mark.parametrize("name", ["tema", "embedding"])
def test_where_knows_the_attributes(gallery: Gallery, name: str) -> None:
    with pytest.raises(GalleryError, match=name):
        _lineup(gallery, **{name: "red"})


@pytest.mark.parametrize("deleted", [0, 20])
def test_a_mean_is_over_all_templates_of_a_person_wherever_they_lie(gallery: Gallery, deleted: int) -> None:
    lifecycle.delete(gallery, ids(deleted))
    means = _read(_lineup(gallery, "mean"))
    truth = _truth(gallery)
    assert means.keys() == truth.keys()
    for name, (mean,) in means.items():
        assert np.allclose(mean, np.mean(np.array(truth[name], float), axis=0), rtol=0, atol=1e-7)


def test_an_empty_gallery_has_no_blocks(tmp_path: Path) -> None:
    empty = Gallery.create(str(tmp_path / "E"), spec())
    scores: tuple[Score, ...] = ("max", "mean")
    for score in scores:
        search_view = _lineup(empty, score, team="red")
        assert (search_view.rows, search_view.subjects, list(search_view.blocks())) == (0, 0, [])


@pytest.mark.parametrize("hold_mb", [0, 1])
def test_what_is_held_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hold_mb: int
) -> None:
    monkeypatch.setenv("FRPIPE_GALLERY_KEY", b64encode(b"k" * 32).decode())
    secret = _fill(Gallery.create(str(tmp_path / "S"), spec(encryption=AES, dtype="float16")))
    search_view = _lineup(secret, hold_bytes=hold_mb << 20)
    expected = _truth(secret)
    assert _equal(_read(search_view), expected)
    for path in (tmp_path / "S/shards").iterdir():
        path.unlink()
    if hold_mb:
        assert _equal(_read(search_view), expected)
    else:
        with pytest.raises(GalleryError, match="missing"):
            _read(search_view)


def test_no_more_is_held_than_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRPIPE_GALLERY_KEY", b64encode(b"k" * 32).decode())
    secret = _fill(Gallery.create(str(tmp_path / "S"), spec(encryption=AES)))
    shards = secret.snapshot().version.shards
    search_view = _lineup(secret, hold_bytes=shards[0].bytes + shards[1].bytes)
    _read(search_view)
    assert 1 <= len(search_view._held) <= 2


def test_what_is_mapped_is_not_held(gallery: Gallery) -> None:
    search_view = _lineup(gallery, hold_bytes=1 << 30)
    _read(search_view)
    assert not search_view._held


def test_backward_it_is_the_same_under_the_same_names(gallery: Gallery) -> None:
    search_view = _lineup(gallery)
    there, back = ([*search_view.named_blocks(backward=backward)] for backward in (False, True))
    assert [name for name, _ in there] == [name for name, _ in back[::-1]]
    assert len({name for name, _ in there}) == len(there) > 2
    for (_, (ids_there, one)), (_, (ids_back, other)) in zip(there, back[::-1], strict=True):
        assert ids_there.equals(ids_back) and np.array_equal(one, other)


def test_a_compaction_meanwhile_is_said(gallery: Gallery) -> None:
    search_view = _lineup(gallery)
    lifecycle.delete(gallery, ids(5))
    lifecycle.compact(gallery)
    with pytest.raises(GalleryError, match="purged by a compaction"):
        _read(search_view)
