"""Ray Data users' own pipelines: the page on them is one program, run here on a Ray of this machine."""

from __future__ import annotations

import base64
import csv
import pickle
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray.data as ray_data
import yaml
from frozen import DETECTOR, EMBEDDER, Frozen, copied

from frpipe.compose import features, templates
from frpipe.core.config import load_config
from frpipe.core.errors import FileDamaged, GalleryError, OutputError
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.enroll.job import Enrollment
from frpipe.jobs.features import FeatureRun
from frpipe.runtime import datasets
from frpipe.runtime.session import cluster
from frpipe.testing.executors import InThisProcess
from frpipe.testing.photos import red_squares

PAGE = Path(__file__).resolve().parents[2] / "docs/ray-data.md"
SETTINGS = {"detect": {"model": DETECTOR, "not_photographs": "keep"}, "embed": {"model": EMBEDDER}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    """What the page speaks of: photos, settings, a table, an output in parts, an encrypted gallery."""
    pytest.importorskip("cryptography")
    place = tmp_path_factory.mktemp("page") / "home"
    with copied(place) as found, pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        Path("settings.yaml").write_text(yaml.safe_dump(SETTINGS))
        rows = [f"{path},{path.stem}" for path in Path("photos").iterdir() if path.stem != "two"]
        Path("people.csv").write_text("\n".join(("path,department", *rows)) + "\n")
        config = load_config("settings.yaml", ["resources.part_rows=4"])
        Enrollment("photos.csv", "out/photos", config, InThisProcess()).run()
        spec = replace(FeatureRun.open("out/photos").spec, encryption="aes-256-gcm", rows_per_shard=2)
        for folder in place.glob("people.gallery/**/*"):
            if folder.is_file():
                folder.unlink()
        Gallery.create("people.gallery", spec)
        Consolidation("out/photos", "people.gallery").run()
        yield found


@pytest.fixture(scope="module")
def ray(home: Frozen) -> Iterator[None]:
    """One Ray for all: its workers have the environment of this moment."""
    with cluster("local", lambda _: None):
        yield


@pytest.fixture(scope="module")
def page(ray: None) -> dict[str, Any]:
    """The names that the page has defined, once it has run from top to bottom."""
    text = PAGE.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "__main__"}
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) > 6
    for block in blocks:
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], str(PAGE), "exec"), names)
    return names


def test_the_page_loses_no_photo_and_finds_who_is_on_it(home: Frozen, page: dict[str, Any]) -> None:
    rows = page["outcomes"].to_pandas()
    assert {Path(path).name for path in rows["path"]} == {path.name for path in (home / "photos").iterdir()}
    assert set(rows["status"]) == {"ok", "no_face", "rejected"}
    lost = {row["path"] for file in Path("out/lost").iterdir() for row in csv.DictReader(file.open())}
    assert lost == set(rows["path"][rows["status"] != "ok"]) and lost
    assert page["pixels"].count() == 1
    found = pq.read_table("out/found").to_pylist()
    assert len(found) == (rows["status"] == "ok").sum()
    anna = [row for row in found if row["path"].endswith("anna-1.png")]
    assert [row["subject_id"] for row in anna] == ["anna"] and anna[0]["similarity"] > 0.999
    assert np.linalg.norm(anna[0]["embedding"]) == pytest.approx(1, abs=1e-6)


def test_the_page_joins_its_faces_with_a_table(page: dict[str, Any]) -> None:
    rows = page["joined"].take_all()
    assert len(rows) == page["usable"].count()
    for row in rows:
        name = Path(row["path"]).stem
        assert row["department"] == (None if name == "two" else name) and len(row["embedding"]) == 32


def test_pixels_as_ray_gives_them_are_photos(page: dict[str, Any]) -> None:
    photos = [red_squares(240, 320, 3, seed) for seed in range(2)]
    embed_faces, grid = page["embed_faces"], np.ones((2, 3), np.float32)
    for images in (photos, [photos[0], photos[1][:200]]):
        given = ray_data.from_items([{"image": i, "n": n, "grid": grid} for n, i in enumerate(images)])
        several = np.empty(2, object)
        several[:] = images
        expected = embed_faces({"image": several, "n": np.arange(2)})
        assert expected.num_rows > 2
        for form in ("numpy", "pandas", "pyarrow"):
            made = embed_faces(given.take_batch(2, batch_format=form))
            assert made.select(expected.column_names).equals(expected), form
            stored = ray_data.from_arrow(made).take(1)[0]
            assert np.array_equal(np.stack(list(stored["grid"])), grid), form


def test_features_are_those_of_the_reader(home: Frozen, ray: None) -> None:
    reader = FeatureRun.open("out/photos").features
    expected = [row for part in reader.parts() for row in reader.faces(part).to_pylist()]
    assert len(reader.parts()) > 1
    assert _same(features("out/photos").take_all(), expected)
    assert features("out/photos", columns=["score", "face_id"]).columns() == ["score", "face_id"]


def test_a_run_that_is_not_whole_is_no_dataset(home: Frozen, ray: None) -> None:
    with pytest.raises(OutputError, match="not the output of a finished"):
        features(str(home / "enroll-half"))
    with pytest.raises(OutputError, match="no embeddings of"):
        features("out/photos", embedder="nobody")
    with pytest.raises(OutputError, match="age"):
        features("out/photos", columns=["age"])
    part = Path("out/photos/faces/part-000001.parquet")
    whole = part.read_bytes()
    dataset = features("out/photos")
    part.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    try:
        with pytest.raises(FileDamaged, match="part-000001"):
            dataset.take_all()
    finally:
        part.write_bytes(whole)


def test_templates_are_those_that_are_not_deleted_at_a_version(home: Frozen, ray: None) -> None:
    gallery = Gallery.open("people.gallery")
    before = gallery.snapshot().number
    kept = templates("people.gallery")
    lifecycle.delete(gallery, ["anna"])
    now, then = templates("people.gallery"), templates("people.gallery", before)
    assert len(gallery.snapshot().version.shards) > 1
    for dataset, version in ((now, None), (then, before), (kept, before)):
        expected = [row for table in gallery.snapshot(version).tables() for row in table.to_pylist()]
        assert dataset.count() == len(expected) and _same(dataset.take_all(), expected)
    assert now.count() < then.count()
    assert templates("people.gallery", columns=["department", "subject_id"]).columns() == [
        "subject_id",
        "department",
    ]
    with pytest.raises(GalleryError, match="no column 'age'"):
        templates("people.gallery", columns=["age"])
    assert templates("people.gallery", 0).count() == 0


def test_the_key_of_a_gallery_is_no_part_of_the_plan(home: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    plan: list[datasets.Piece] = []
    monkeypatch.setattr(datasets, "dataset", lambda name, schema, pieces: plan.extend(pieces))
    templates("people.gallery")
    assert plan[0].read().num_rows == plan[0].rows
    sent = pickle.dumps(plan)
    key = (home / "gallery.key").read_bytes().strip()
    assert key not in sent and base64.b64decode(key) not in sent
    monkeypatch.delenv("FRPIPE_GALLERY_KEY_FILE")
    with pytest.raises(GalleryError, match="no key is given"):
        pickle.loads(sent)[0].read()


def _same(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """Whether rows are those expected, in whatever order; Ray gives lists as arrays."""
    made = {row["face_id"]: {name: _plain(value) for name, value in row.items()} for row in rows}
    return len(made) == len(rows) and made == {row["face_id"]: row for row in expected}


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
