"""Attributes of templates and of people: what is kept on every way out of a gallery and back."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
from album_runs import Shot, enrolled, face
from erase_runs import finished_run
from gallery_rows import DIM, NOW, content, people, spec, unit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frpipe.cli.main import main
from frpipe.core.errors import GalleryError
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.photos import MADE_OF, RunPhotos
from frpipe.gallery.policy import Policy
from frpipe.gallery.schema import TIME, template_schema, vector_array
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.consolidate.reading import derived
from frpipe.jobs.gallery_files import Layout, export, import_file

LAYOUTS: tuple[Layout, ...] = ("lecture", "parquet")
Row = tuple[str, str, dict[str, str | None]]


def _table(rows: Sequence[Row], seed: int = 0, scale: float = 1.0) -> pa.Table:
    names = sorted({name for *_, own in rows for name in own})
    columns: dict[str, Any] = {
        "subject_id": [row[0] for row in rows],
        "face_id": [row[1] for row in rows],
        "image_uri": [f"{row[1]}.jpg" for row in rows],
        "quality": pa.array([0.25] * len(rows), pa.float32()),
        "enrolled_at": pa.array([NOW] * len(rows), TIME),
        "embedding": vector_array(unit(len(rows), seed) * np.float32(scale)),
        **{name: pa.array([row[2].get(name) for row in rows], pa.string()) for name in names},
    }
    return pa.table(columns, schema=template_schema(DIM, names))


TWO = (("s1", "a1#0", {"camera": "north", "Name": "Ann"}), ("s1", "a2#0", {"camera": "south"}))


def _gallery(place: Path, *rows: Row, **changes: Any) -> Gallery:
    made = Gallery.create(str(place), spec(**changes))
    lifecycle.enroll(made, [_table(rows)])
    return made


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_templates_do_not_agree_on_survives_an_export(tmp_path: Path, layout: Layout) -> None:
    gallery, file = _gallery(tmp_path / "g", *TWO), str(tmp_path / "g.hdf")
    export(gallery, file, layout)
    other = Gallery.create(str(tmp_path / "h"), spec())
    assert import_file(other, file).added == 2
    assert content(other.snapshot()) == content(gallery.snapshot())
    # The template without a name still has none.
    assert other.snapshot().show("s1")["Name"].to_pylist() == ["Ann", None]
    done = import_file(gallery, file)
    assert (done.unchanged, done.version) == (2, 1)


def test_a_persons_dataset_says_what_the_templates_agree_on(tmp_path: Path) -> None:
    gallery = _gallery(tmp_path / "g", *TWO)
    export(gallery, str(tmp_path / "g.hdf"), "lecture")
    with h5py.File(tmp_path / "g.hdf") as file:
        assert file["s1"]["Name"][()].decode() == "Ann"
        assert "camera" not in file["s1"]
        first, second = (file["s1/Feature Map"][f"feature_{n}"].attrs for n in (1, 2))
        assert first["attribute:camera"] == "north" and "attribute:Name" not in first
        assert second["attribute:camera"] == "south"
        assert isinstance(second["attribute:Name"], h5py.Empty)


def test_an_export_of_before_gives_every_template_what_its_person_has(tmp_path: Path) -> None:
    """Before, a file had the datasets of persons alone."""
    gallery, file = _gallery(tmp_path / "g", *TWO), tmp_path / "g.hdf"
    export(gallery, str(file), "lecture")
    with h5py.File(file, "r+") as old:
        old["s1"].create_dataset("camera", data="north", dtype=h5py.string_dtype())
        for feature in old["s1/Feature Map"].values():
            for name in [name for name in feature.attrs if name.startswith("attribute:")]:
                del feature.attrs[name]
    other = Gallery.create(str(tmp_path / "h"), spec())
    assert import_file(other, str(file)).added == 2
    assert (
        other.snapshot().show("s1").select(["camera", "Name"]).to_pylist()
        == [{"camera": "north", "Name": "Ann"}] * 2
    )


def _set(name: str, value: Any) -> Any:
    def edit(file: h5py.File) -> None:
        file["s1/Feature Map/feature_1"].attrs[name] = value

    return edit


FORGED = {
    "a column of ours": _set("attribute:embedding", "x"),
    "no name": _set("attribute:", "x"),
    "a number": _set("attribute:camera", 7),
    "too long": _set("attribute:camera", "x" * ((1 << 16) + 1)),
}


@pytest.mark.parametrize("edit", FORGED.values(), ids=list(FORGED))
def test_an_attribute_that_no_template_can_have_is_refused(tmp_path: Path, edit: Any) -> None:
    gallery, file = _gallery(tmp_path / "g", *TWO), tmp_path / "g.hdf"
    export(gallery, str(file), "lecture")
    with h5py.File(file, "r+") as forged:
        edit(forged)
    with pytest.raises(GalleryError, match="refused"):
        import_file(gallery, str(file))
    assert gallery.snapshot().number == 1


@pytest.mark.parametrize(
    "rows",
    [[("s", "f", {"Note": "x" * ((1 << 16) + 1)})], [("s", "f", {f"n{n}": "x" for n in range(4)})]],
    ids=["a long text", "many attributes"],
)
def test_what_could_not_be_read_back_is_not_exported(
    tmp_path: Path, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frpipe.gallery.hdf5_exchange.MAX_ATTRIBUTES", 3)
    gallery = _gallery(tmp_path / "g", *rows)
    with pytest.raises(GalleryError, match="cannot keep") as caught:
        export(gallery, str(tmp_path / "g.hdf"), "lecture")
    assert "parquet" in caught.value.remedy
    assert not (tmp_path / "g.hdf").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["float32", "float16", "encrypted"])
def test_vectors_come_back_to_the_last_bit(
    tmp_path: Path, layout: Layout, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they are as far from length 1 as a gallery takes them, and rounded then."""
    changes: dict[str, Any] = {"dtype": "float16"} if kind == "float16" else {}
    if kind == "encrypted":
        monkeypatch.setenv("FRPIPE_GALLERY_KEY", "A" * 43 + "=")
        changes["encryption"] = "aes-256-gcm"
    gallery = Gallery.create(str(tmp_path / "g"), spec(**changes))
    for number, scale in enumerate((1, 1 - 4.9e-4, 1 + 4.9e-4)):
        rows = [(f"s{n}", f"f{number}", {}) for n in range(20)]
        lifecycle.enroll(gallery, [_table(rows, number, scale)], "append")
    export(gallery, str(tmp_path / "x.hdf"), layout)
    done = import_file(gallery, str(tmp_path / "x.hdf"))
    assert (done.unchanged, done.version) == (60, 3)
    other = Gallery.create(str(tmp_path / "h"), spec(**changes))
    import_file(other, str(tmp_path / "x.hdf"))
    assert content(other.snapshot()) == content(gallery.snapshot())


_TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=3)
_VALUE = st.none() | st.sampled_from(["", "x", "y"]) | _TEXT
_NAMES = st.sampled_from(["Name", "a/b", "Feature Map", ".", "50%", "템", "é", "templates"])
_ROW = st.tuples(
    st.sampled_from(["0", "1", "e\u0301"]),
    st.sampled_from(["f#0", "f#1", "g#0"]),
    st.dictionaries(_NAMES, _VALUE, max_size=4),
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(_ROW, min_size=1, max_size=8), layout=st.sampled_from(LAYOUTS), half=st.booleans())
def test_to_import_a_gallerys_own_export_changes_nothing(rows: list[Row], layout: Layout, half: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place, changes = Path(folder), {"dtype": "float16" if half else "float32", "rows_per_shard": 4}
        gallery = _gallery(place / "g", *rows, **changes)
        before = content(gallery.snapshot())
        export(gallery, str(place / "x.hdf"), layout)
        for policy in ("append", "replace", "skip"):
            done = import_file(gallery, str(place / "x.hdf"), policy)
            assert (done.added, done.replaced, done.deleted, done.version) == (0, 0, 0, 1)
        other = Gallery.create(str(place / "h"), spec(**changes))
        import_file(other, str(place / "x.hdf"))
        assert content(other.snapshot()) == before


@pytest.mark.parametrize(
    ("policy", "name", "camera"),
    [("append", "Ann", "west"), ("replace", None, "west"), ("skip", "Ann", "north")],
)
def test_a_photo_that_is_enrolled_again_keeps_the_attributes_that_are_not_given(
    tmp_path: Path, policy: Policy, name: str | None, camera: str
) -> None:
    gallery = _gallery(tmp_path / "g", *TWO)
    lifecycle.enroll(gallery, [_table([("s1", "a1#0", {"camera": "west"}), ("s2", "b", {})], seed=5)], policy)
    row = gallery.snapshot().show("s1").sort_by("face_id").to_pylist()[0]
    assert (row.get("Name"), row["camera"]) == (name, camera)
    # Nobody else gets them.
    assert gallery.snapshot().show("s2").to_pylist()[0].get("Name") is None


def test_another_face_of_the_same_photo_has_the_attributes_of_the_photo(tmp_path: Path) -> None:
    gallery = _gallery(tmp_path / "g", *TWO)
    lifecycle.enroll(gallery, [_table([("s1", "a1#3", {}), ("s1", "a10#0", {})], seed=6)], "append")
    found = {row["face_id"]: row["Name"] for row in gallery.snapshot().show("s1").to_pylist()}
    assert (found["a1#3"], found["a10#0"]) == ("Ann", None)


def test_the_same_again_without_its_attributes_is_unchanged(tmp_path: Path) -> None:
    gallery = _gallery(tmp_path / "g", *TWO)
    bare = _table([(subject, face, {}) for subject, face, _ in TWO])
    assert lifecycle.enroll(gallery, [bare], "append").unchanged == 2
    assert gallery.snapshot().number == 1


def test_who_loses_a_race_takes_the_attributes_that_the_winner_gave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = _gallery(tmp_path / "g", ("s1", "a1#0", {"Name": "Ann"}))
    real, raced = gallery.catalog.commit, []

    def commit(version: Any) -> bool:
        if not raced:
            raced.append(1)
            lifecycle.enroll(Gallery.open(gallery.uri), [_table([("s1", "a1#0", {"Name": "Bea"})])], "append")
        return real(version)

    monkeypatch.setattr(gallery.catalog, "commit", commit)
    lifecycle.enroll(gallery, [_table([("s1", "a1#0", {"camera": "west"})], seed=7)], "append")
    row = gallery.snapshot().show("s1").to_pylist()[0]
    assert (row["Name"], row["camera"]) == ("Bea", "west")


def test_a_merge_keeps_what_either_gallery_knows(tmp_path: Path) -> None:
    gallery, other = _gallery(tmp_path / "g", *TWO), _gallery(tmp_path / "h", ("s1", "a2#0", {"Name": "Bea"}))
    lifecycle.merge(gallery, other)
    rows = gallery.snapshot().show("s1").sort_by("face_id")
    assert rows.select(["Name", "camera"]).to_pylist() == [
        {"Name": "Ann", "camera": "north"},
        {"Name": "Bea", "camera": "south"},
    ]


def test_lists_and_pages_show_every_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gallery = _gallery(tmp_path / "g", *TWO)
    lifecycle.enroll(gallery, [people(["s2"], camera=["east"])])
    assert main(["gallery", "list", gallery.uri]) == 0
    assert "north | south" in capsys.readouterr().out
    assert main(["gallery", "list", gallery.uri, "--json"]) == 0
    one, other = map(json.loads, capsys.readouterr().out.splitlines())
    assert (one["attributes"], one["disputed"]) == ({"Name": "Ann"}, {"camera": ["north", "south"]})
    assert other["attributes"] == {"camera": "east"} and "disputed" not in other
    assert main(["gallery", "show", gallery.uri, "s1"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["Name", "Ann"]
    assert "camera" in lines[0] and "north" in lines[1] and "south" in lines[2]


def test_an_attribute_may_have_the_name_of_a_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery = _gallery(tmp_path / "g", ("s1", "f", {"templates": "wood"}))
    assert main(["gallery", "list", gallery.uri, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["templates"], row["attributes"]) == (1, {"attribute:templates": "wood"})
    assert main(["gallery", "show", gallery.uri, "s1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["attributes"] == {"templates": "wood"}


def test_a_consolidation_says_of_how_many_people_the_photos_do_not_agree(tmp_path: Path) -> None:
    out = finished_run(tmp_path)
    done = Consolidation(out.uri, str(tmp_path / "g"), templates="mean").run()
    # One person has two photos: with another tag each, and only one has a boss.
    assert done.disputed == {"tags": 1}
    assert "the photos of so many people do not agree: tags (1)" in done.text()
    snapshot = Gallery.open(str(tmp_path / "g")).snapshot()
    assert snapshot.show("person-0").select(["tags", "boss"]).to_pylist() == [
        {"tags": None, "boss": "boss-of-7"}
    ]
    assert snapshot.show("person-1")["tags"].to_pylist() == ["t1"]
    whole = Consolidation(out.uri, str(tmp_path / "all")).run()
    assert not whole.disputed and "disputed" not in whole.text()


def test_a_run_without_attributes_takes_none_away_under_skip(tmp_path: Path) -> None:
    """What the gallery has of a photo that a run speaks of is brought up to date, not emptied."""
    shots = {"a1": Shot("s1", [face(1)])}
    out = enrolled(tmp_path / "run", shots)
    Consolidation(out, str(tmp_path / "g")).run()
    gallery = Gallery.open(str(tmp_path / "g"))
    (table,) = gallery.snapshot().tables()
    lifecycle.enroll(gallery, [table.append_column("camera", pa.array(["north"]))], "append")
    done = Consolidation(out, gallery.uri, "skip").run()
    assert (done.unchanged, done.replaced) == (1, 0)
    again = Consolidation(
        enrolled(tmp_path / "new", {"a1": Shot("s1", [face(2)])}, day=2), gallery.uri, "skip"
    )
    assert again.run().replaced == 1
    assert gallery.snapshot().show("s1")["camera"].to_pylist() == ["north"]


@pytest.mark.parametrize("policy", ["append", "skip"])
def test_a_mean_whose_photos_do_not_agree_any_more_has_no_value(tmp_path: Path, policy: Policy) -> None:
    gallery = Gallery.create(str(tmp_path / "g"), spec())
    for camera, how in ((["north", "north"], "append"), (["north", "south"], policy)):
        held = RunPhotos()
        held.add(pa.array(["s1"]), pa.nulls(1, pa.string()))
        mean = derived(people(["s1"], faces=2, camera=camera), "mean")
        lifecycle.enroll(gallery, [mean], how, photos=held)
    assert gallery.snapshot().show("s1")["camera"].to_pylist() == [None]
    # A list without the column says nothing.
    lifecycle.enroll(gallery, [derived(people(["s2"], faces=2, camera=["east", "east"]), "mean")], "append")
    lifecycle.enroll(gallery, [derived(people(["s2"], faces=2), "mean")], "append")
    assert gallery.snapshot().show("s2")["camera"].to_pylist() == ["east"]


def test_a_mean_that_comes_without_its_photos_still_knows_them(tmp_path: Path) -> None:
    """An export of before it knew them, or another gallery: the same key is of the same photos."""
    gallery = Gallery.create(str(tmp_path / "g"), spec())
    mean = derived(people(["s1"], faces=2), "mean")
    lifecycle.enroll(gallery, [mean], "append")
    assert lifecycle.enroll(gallery, [mean.drop_columns([MADE_OF])], "append").unchanged == 1
    run = RunPhotos()
    run.add(pa.array(["s1"]), pa.nulls(1, pa.string()))
    assert lifecycle.enroll(gallery, [], "append", photos=run).superseded == 1
