"""Photos to faces by the batch, as users' own pipelines call it: without Ray, in this process."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import installed
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from frozen import EMBEDDER, Frozen, copied
from staged_runs import config, enrolled, table

from frpipe.compose import EmbedFaces
from frpipe.core.errors import ConfigError, ModelError
from frpipe.testing.photos import red_squares
from frpipe.testing.tiny import tiny_embedder

OTHER = "tiny_other"
BOTH = f"embed=[{{model: {EMBEDDER}}}, {{model: {OTHER}, flip: true}}]"
STAGE = "stages.brightness={}"
# What an enroll output says of the manifest, or says with a name of its own.
NOT_HERE = {"face_id", "image_id", "image_uri", "subject_id", "department", "face_policy"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    """The photos and models of the fixtures, a second embedder, and the example stage."""
    place = tmp_path_factory.mktemp("compose")
    with copied(place / "frozen") as found, installed.example(place / "installed"):
        card = tiny_embedder(found / f"models/{OTHER}.onnx", dim=8, seed=7)
        facts = {**card.model_dump(mode="json"), "name": OTHER}
        (found / f"cards/{OTHER}.yaml").write_text(yaml.safe_dump(facts))
        yield found


@pytest.fixture(scope="module")
def faces_of(home: Frozen) -> EmbedFaces:
    return EmbedFaces(config())


@pytest.fixture(scope="module")
def names(home: Frozen) -> list[str]:
    """The photos: some with a face, some with two or none, one that is cut short."""
    return sorted(path.name for path in (home / "photos").iterdir())


@pytest.fixture(scope="module")
def photos(home: Frozen, names: list[str]) -> list[bytes]:
    return [(home / "photos" / name).read_bytes() for name in names]


def _arrow(photos: list[Any], **columns: Any) -> pa.Table:
    return pa.table({"bytes": pa.array(photos, pa.binary()), **columns})


def _by(rows: pa.Table, key: str) -> dict[Any, dict[str, Any]]:
    return {(row[key], row["face_index"]): row for row in rows.to_pylist()}


@pytest.mark.parametrize("settings", [(), (BOTH,), (STAGE,)])
def test_rows_are_those_of_the_enroll_job(
    home: Frozen, names: list[str], photos: list[bytes], tmp_path: Path, settings: tuple[str, ...]
) -> None:
    manifest = tmp_path / "photos.csv"
    manifest.write_text("\n".join(("image_uri", *(str(home / "photos" / name) for name in names))) + "\n")
    enrolled(manifest, tmp_path / "out", *settings)
    images, faces = table(tmp_path / "out", "images"), table(tmp_path / "out", "faces")
    made = EmbedFaces(config(*settings))(_arrow(photos, path=[str(home / "photos" / name) for name in names]))

    there = _by(made.filter(pa.compute.is_valid(made["face_index"])), "path")
    expected = _by(faces, "image_uri")
    assert there.keys() == expected.keys() and len(there) > 5
    for key, row in expected.items():
        for name in row.keys() - NOT_HERE:
            assert np.array(there[key][name]) == pytest.approx(np.array(row[name]), abs=1e-6), name
    outcomes = {row["image_uri"]: row for row in images.to_pylist()}
    for row in made.to_pylist():
        ended = outcomes[row["path"]]
        assert [row[n] for n in ("status", "reason", "detail")] == [
            ended[n] for n in ("status", "reason", "detail")
        ]
    assert {row["path"] for row in made.to_pylist()} == set(outcomes)
    if settings == (BOTH,):
        beside = pq.read_table(tmp_path / "out/embeddings" / OTHER)
        further = {row["face_id"]: row["embedding"] for row in beside.to_pylist()}
        for key, row in expected.items():
            assert there[key][f"{OTHER}/embedding"] == pytest.approx(further[row["face_id"]], abs=1e-6)
    if settings == (STAGE,):
        assert "brightness" in made.column_names and "brightness_ms" not in made.column_names


def test_a_photo_without_a_face_is_a_row_with_its_reason(faces_of: EmbedFaces, photos: list[bytes]) -> None:
    odd = [b"", None, b"no photo", photos[0], photos[0][:40]]
    made = faces_of(_arrow(odd, n=range(5))).to_pylist()
    assert [row["n"] for row in made] == [0, 1, 2, 3, 4]
    assert [row["status"] for row in made] == ["rejected"] * 3 + ["ok", "rejected"]
    assert [row["reason"] for row in made[:3]] == ["empty", "empty", "unknown_format"]
    assert made[0]["embedding"] is None and made[0]["face_index"] is None and made[0]["score"] is None
    assert np.linalg.norm(made[3]["embedding"]) == pytest.approx(1, abs=1e-6)


def test_a_photo_of_too_many_bytes_is_not_decoded(home: Frozen, photos: list[bytes]) -> None:
    small = EmbedFaces(config("decode.max_bytes=100"))
    assert small(_arrow(photos[:1]))["reason"].to_pylist() == ["too_many_bytes"]


def test_pixels_give_what_their_lossless_file_gives(faces_of: EmbedFaces) -> None:
    pixels = [red_squares(240, 320, 3, seed) for seed in range(3)]
    files = [cv2.imencode(".png", each[:, :, ::-1])[1].tobytes() for each in pixels]
    expected = faces_of(_arrow(files, n=range(3)))
    assert expected.num_rows > 3
    assert faces_of({"image": np.stack(pixels), "n": np.arange(3)}).equals(expected)
    grey, wide = pixels[0][:, :, 0], np.zeros((4, 4, 4), np.uint8)
    several = np.empty(4, object)
    several[:] = [pixels[0][:200], grey, wide, pixels[1]]
    ended = faces_of({"image": several, "n": np.arange(4)})
    assert dict(zip(*(ended[name].to_pylist() for name in ("n", "reason")), strict=True)) == {
        0: None,
        1: "unknown_format",
        2: "unknown_format",
        3: None,
    }


def test_batches_of_every_form_give_the_same_rows(faces_of: EmbedFaces, photos: list[bytes]) -> None:
    n, words = np.arange(len(photos)), [f"w{index}" for index in range(len(photos))]
    expected = faces_of(_arrow(photos, n=n, word=words))
    given = np.empty(len(photos), object)
    given[:] = photos
    assert faces_of({"bytes": given, "n": n, "word": np.array(words)}).equals(expected)
    frame = faces_of(pd.DataFrame({"bytes": photos, "n": n, "word": words}))
    assert frame.to_pylist() == expected.to_pylist()
    assert frame.drop_columns("word").equals(expected.drop_columns("word"))
    grid = np.arange(2 * len(photos), dtype=np.float32).reshape(-1, 1, 2)
    carried = faces_of({"bytes": given, "grid": grid})["grid"]
    assert np.array(carried[0].as_py()).tolist() == grid[0].tolist()
    assert carried.type.value_type.value_type == pa.float32()
    assert faces_of(pd.DataFrame({"bytes": photos, "grid": list(grid)}))["grid"].equals(carried)
    missing = pd.DataFrame({"bytes": photos[:2], "n": pd.array([1, None], "Int64"), "word": ["a", None]})
    assert faces_of(missing).select(["n", "word"]).to_pylist()[-1] == {"n": None, "word": None}
    uneven = np.empty(2, object)
    uneven[:] = [grid[0], grid[0].T]
    with pytest.raises(ConfigError, match="'grid' of a batch cannot be carried"):
        faces_of({"bytes": given[:2], "grid": uneven})


def test_the_columns_are_the_same_whatever_a_batch_holds(faces_of: EmbedFaces, photos: list[bytes]) -> None:
    full, without, empty = (faces_of(_arrow(some)) for some in (photos, [b"no photo"], []))
    assert full.schema == without.schema == empty.schema
    assert empty.num_rows == 0 and without.num_rows == 1
    assert full.schema.field("embedding").type.list_size == 32


def test_rows_of_a_photo_stand_together_and_survive_parquet(
    faces_of: EmbedFaces, names: list[str], photos: list[bytes], tmp_path: Path
) -> None:
    made = faces_of(_arrow(photos, name=names))
    assert made["name"].to_pylist() == sorted(made["name"].to_pylist()) and made.num_rows > len(names)
    pq.write_table(made, tmp_path / "faces.parquet")
    assert pq.read_table(tmp_path / "faces.parquet").to_pylist() == made.to_pylist()


def test_what_cannot_be_right_is_said_with_a_remedy(faces_of: EmbedFaces, photos: list[bytes]) -> None:
    with pytest.raises(ConfigError, match="no column of a batch may be the photos: it has 'photo'"):
        faces_of(pa.table({"photo": photos}))
    with pytest.raises(ConfigError, match="two columns"):
        faces_of(_arrow(photos, image=photos))
    with pytest.raises(ConfigError, match=r"'score'.*\n.*rename"):
        faces_of(_arrow(photos[:1], score=[1.0]))
    with pytest.raises(ConfigError, match=r"detect\.modle"):
        EmbedFaces(["detect.modle=x"])
    with pytest.raises(ModelError):
        EmbedFaces(["detect.model=nobody"])
    named = EmbedFaces(config(), photos="photo")
    assert named(pa.table({"photo": photos[:1], "bytes": [7]}))["bytes"].to_pylist() == [7]


def test_an_instance_travels_by_its_settings(faces_of: EmbedFaces, photos: list[bytes]) -> None:
    sent = pickle.dumps(faces_of)
    assert len(sent) < 20_000
    assert pickle.loads(sent)(_arrow(photos)).equals(faces_of(_arrow(photos)))


def test_it_works_without_ray() -> None:
    code = "import sys, frpipe.compose; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
