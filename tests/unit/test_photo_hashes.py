"""Photos by hashes: which rows of a gallery a run speaks of, and whether they lay at another place."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from frpipe.core.errors import ConfigError
from frpipe.gallery.packed import hashes
from frpipe.gallery.photos import (
    RunPhotos,
    check_source,
    image_ids,
    made_of,
    place_hashes,
    root_of,
    told_rows,
    with_source,
)


def test_a_photo_is_the_face_id_without_its_index() -> None:
    faces = ["a/1.jpg#0", "a#b.jpg#12", "photo:0930e3", "김지수/1.jpg#3", "x\n#1", "#0"]
    assert image_ids(pa.array(faces)).to_pylist() == [
        "a/1.jpg",
        "a#b.jpg",
        "photo:0930e3",
        "김지수/1.jpg",
        "x\n",
        "",
    ]


def test_places_are_compared_in_one_spelling_and_relative_ones_are_not_known() -> None:
    same = ["/a/./b/1.jpg", "/a/b/1.jpg", "file:///a/b/1.jpg", "/a/c/../b/1.jpg"]
    assert len({int(each) for each in place_hashes(pa.array(same))}) == 1
    assert place_hashes(pa.array(["b/1.jpg", None, ""])).tolist() == [0, 0, 0]
    assert place_hashes(pa.array(["s3a://b/1"])) == place_hashes(pa.array(["s3://b/1"]))


def test_rows_are_found_as_by_looking_at_each() -> None:
    chance = random.Random(3)
    ids = [f"p{n}/1.jpg" for n in range(300)]
    spoken = {name: f"/{chance.choice('ab')}/{name}" for name in chance.sample(ids, 120)}
    run = RunPhotos()
    names = list(spoken)
    for start in range(0, 120, 50):
        some = names[start : start + 50]
        run.add(pa.array(some), pa.array([spoken[name] for name in some]))
    places = [f"/{chance.choice('ab')}/{name}" for name in ids]
    groups = [chance.sample(range(300), chance.randrange(1, 5)) for _ in range(40)]
    photo, place = hashes(pa.array(ids)), place_hashes(pa.array(places))
    derived = [None] * 300 + [made_of(photo[group], place[group]) for group in groups] + ["no list", "0" * 24]
    faces = [f"{name}#0" for name in ids] + [f"mean:{n:020x}" for n in range(42)]
    live = np.array(sorted(chance.sample(range(342), 250)))
    columns = (pa.array(faces), pa.array([*places, *[None] * 42]), pa.array(derived))
    found = told_rows(*(column.take(pa.array(live)) for column in columns), run)
    members = [[n] for n in range(300)] + groups + [[], []]
    for at, row in enumerate(live.tolist()):
        told = [n for n in members[row] if ids[n] in spoken]
        assert found.rows[at] == bool(told)
        assert found.elsewhere[at] == any(spoken[ids[n]] != places[n] for n in told)
        assert found.lost[at] == (bool(told) and len(told) < len(members[row]))
    held = {n for row in live.tolist() for n in members[row] if ids[n] in spoken}
    assert set(found.photos.tolist()) == set(photo[sorted(held)].tolist())


def test_a_run_that_speaks_of_nothing_finds_nothing() -> None:
    found = told_rows(pa.array(["a#0"]), pa.array(["/a"]), None, RunPhotos())
    assert not found.rows.any()


def test_a_source_goes_before_the_ids_and_is_a_word() -> None:
    table = pa.table({"subject_id": ["a"], "face_id": ["a/1.jpg#0"], "frpipe.made_of": ["0" * 24]})
    assert with_source(table, "").equals(table)
    assert with_source(table, "hall").to_pylist() == [
        {"subject_id": "a", "face_id": "hall/a/1.jpg#0", "frpipe.made_of": None}
    ]
    for name in (" hall", "hall/", "a\nb"):
        with pytest.raises(ConfigError):
            check_source(name)


def test_the_root_of_a_photo_is_told_where_its_place_ends_in_its_id() -> None:
    assert root_of("p1/1.jpg", "/a/p1/1.jpg") == "/a"
    assert root_of("1.jpg", "/1.jpg") == "/"
    assert root_of("1.jpg", "/a/2.jpg") is None
