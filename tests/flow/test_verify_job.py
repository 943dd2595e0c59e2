"""The verification job on real features: one decision a pair, or a reason, and no pair twice."""

from __future__ import annotations

import csv
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cluster import Cluster
from enrollment import ROOT, content, enroll_here, write_manifest
from real_photos import people_with
from s3server import S3, s3  # noqa: F401 - a fixture

from frpipe.core.schema import markdown
from frpipe.core.threshold import ThresholdCard
from frpipe.io import threshold_file
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.verify.schema import FOUND_COLUMNS, GIVEN_COLUMNS

PEOPLE = 6
# Numbers of photos in the manifest, after two of each of the people.
CROWD, BROKEN, FACELESS = range(2 * PEOPLE, 2 * PEOPLE + 3)
Row = tuple[object, ...]


@pytest.fixture(scope="module")
def manifest(real_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photos of each of six people, two people side by side, half a file, and a white wall."""
    folder = tmp_path_factory.mktemp("photos")
    pairs = people_with(2, real_photos)[:PEOPLE]
    crowd, broken, faceless = (folder / name for name in ("crowd.png", "broken.jpg", "faceless.png"))
    cv2.imwrite(str(crowd), cv2.hconcat([cv2.imread(str(pair[0])) for pair in pairs[:2]]))
    broken.write_bytes(pairs[0][0].read_bytes()[:2000])
    cv2.imwrite(str(faceless), np.tile(np.arange(120, dtype=np.uint8)[:, None, None], (1, 120, 3)))
    photos = [photo for pair in pairs for photo in pair]
    return write_manifest(folder / "m.csv", [*photos, crowd, broken, faceless])


@pytest.fixture(scope="module")
def features(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return enroll_here(
        manifest, tmp_path_factory.mktemp("features") / "out", "--set", "resources.part_rows=4"
    )


@pytest.fixture(scope="module")
def long_list(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough pairs for four files."""
    rng = np.random.default_rng(3)
    sides = rng.integers(0, 2 * PEOPLE, (200_000, 2))
    ids = np.array([_id(number) for number in range(2 * PEOPLE)])
    path = tmp_path_factory.mktemp("long") / "pairs.parquet"
    pq.write_table(pa.table({"a": ids[sides[:, 0]], "b": ids[sides[:, 1]], "n": np.arange(len(sides))}), path)
    return path


@pytest.fixture(scope="module")
def undisturbed(long_list: Path, features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "r"
    code, _, err = _job(long_list, features, output)
    assert code == 0, err
    return output


def _id(number: int) -> str:
    return f"id-{number:04d}"


def _job(
    pairs: object, features: object, output: object, *arguments: object, **environment: str
) -> tuple[int, str, str]:
    """The job's main, in this process unless it needs an environment of its own: exit code and output."""
    words = ["--pairs", pairs, "--features", features, "--output", output, *arguments]
    run = _apart if environment else _here
    code, out, err = run(list(map(str, words)), environment)
    assert "Traceback" not in err
    return code, out, err


def _here(words: list[str], _: dict[str, str]) -> tuple[int, str, str]:
    main = runpy.run_path(str(ROOT / "jobs/verify.py"))["main"]
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        code = main(words)
    return code, out.getvalue(), err.getvalue()


def _apart(words: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "jobs/verify.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout, done.stderr


def _list(path: Path, rows: list[Row], names: Row = ("a", "b")) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([names, *rows])
    return path


def _result(
    folder: Path, features: Path, rows: list[Row], *arguments: object, names: Row = ("a", "b")
) -> list[dict[str, Any]]:
    """The rows that come of some pairs."""
    code, _, err = _job(_list(folder / "p.csv", rows, names), features, folder / "r", *arguments)
    assert code == 0, err
    found: list[dict[str, Any]] = pq.read_table(folder / "r/pairs").to_pylist()
    return found


def _only_faces(features: Path) -> dict[str, np.ndarray]:
    """Embeddings of the photos with one face, by image_id."""
    faces = content(features, "faces").to_pylist()
    count = Counter(face["image_id"] for face in faces)
    return {f["image_id"]: np.array(f["embedding"], float) for f in faces if count[f["image_id"]] == 1}


def test_each_pair_has_the_similarity_of_its_embeddings_and_the_decision_of_the_threshold(
    features: Path, tmp_path: Path
) -> None:
    numbers = [(i, j) for i in range(2 * PEOPLE) for j in range(i)]
    rows: list[Row] = [(f"n{i}-{j}", _id(i), _id(j), i // 2 == j // 2, "김") for i, j in numbers]
    found = _result(tmp_path, features, rows, names=("pair_id", "a", "b", "mated", "label"))
    assert [row["pair_id"] for row in found] == [row[0] for row in rows]
    vectors = _only_faces(features)
    assert len(vectors) > PEOPLE
    for row in found:
        if row["a"] in vectors and row["b"] in vectors:
            assert row["similarity"] == pytest.approx(vectors[row["a"]] @ vectors[row["b"]], abs=1e-12)
        assert row["distance"] == 1 - row["similarity"]
        assert row["decision"] == (row["similarity"] >= row["threshold_similarity"])
        assert (row["status"], row["reason_a"], row["reason_b"], row["label"]) == (
            "compared",
            None,
            None,
            "김",
        )
    assert [row["decision"] for row in found if row["mated"] == "False"].count(True) == 0
    assert [row["decision"] for row in found if row["mated"] == "True"].count(True) >= PEOPLE - 1


def test_a_threshold_is_inclusive(features: Path, tmp_path: Path) -> None:
    (row,) = _result(tmp_path, features, [(_id(0), _id(1))])
    (tmp_path / "again").mkdir()
    (same,) = _result(
        tmp_path / "again", features, [(_id(0), _id(1))], "--threshold", repr(row["similarity"])
    )
    assert same["decision"] is True
    assert same["threshold_similarity"] == row["similarity"]


def test_a_list_without_one_pair_to_compare_ends_with_a_code_of_its_own(
    features: Path, tmp_path: Path
) -> None:
    pairs = _list(tmp_path / "p.csv", [("nobody.jpg", "none.jpg"), (_id(0), "x#0"), (" " + _id(0), "y#1")])
    for _ in ("first", "complete already"):
        code, out, err = _job(pairs, features, tmp_path / "r")
        assert code == 17
        assert "of 3 pairs none could be compared" in err
        assert "3 with a side missing" in out
        assert (tmp_path / "r/_SUCCESS").exists()


def test_a_missing_side_has_a_reason_and_no_decision(features: Path, tmp_path: Path) -> None:
    rows: list[Row] = [
        (_id(FACELESS), _id(0)),
        (_id(0), _id(BROKEN)),
        ("nobody.jpg", _id(FACELESS)),
        (_id(0), f"{_id(0)}#7"),
        (f"{_id(BROKEN)}#0", "nobody#0"),
        (_id(0), _id(1)),
    ]
    found = _result(tmp_path, features, rows)
    assert [(row["status"], row["reason_a"], row["reason_b"]) for row in found] == [
        ("missing_a", "no_face", None),
        ("missing_b", None, "truncated"),
        ("missing_both", "unknown_image", "no_face"),
        ("missing_b", None, "unknown_face"),
        ("missing_both", "truncated", "unknown_image"),
        ("compared", None, None),
    ]
    for row in found[:-1]:
        assert (row["similarity"], row["distance"], row["decision"]) == (None, None, None)
    report = json.loads((tmp_path / "r/report.json").read_text())
    assert report["status"] == {"compared": 1, "missing_a": 1, "missing_b": 2, "missing_both": 2}
    assert report["reasons"] == {"no_face": 2, "truncated": 2, "unknown_face": 1, "unknown_image": 2}
    assert report["accepted"] + report["rejected"] == 1


def test_a_photo_may_be_named_by_its_place_and_a_face_by_its_id(features: Path, tmp_path: Path) -> None:
    images = content(features, "images").to_pylist()
    rows: list[Row] = [(image["image_id"], image["image_uri"]) for image in images[: 2 * PEOPLE]]
    rows += [(_id(0), f"{_id(0)}#0")]
    assert [row["similarity"] for row in _result(tmp_path, features, rows)] == pytest.approx([1] * len(rows))


def test_of_several_faces_the_policy_means_one_and_a_face_id_any(features: Path, tmp_path: Path) -> None:
    rows: list[Row] = [(_id(CROWD), _id(0)), (f"{_id(CROWD)}#0", _id(0)), (f"{_id(CROWD)}#1", _id(0))]
    for policy in ("largest", "require-one"):
        (tmp_path / policy).mkdir()
        photo, first, second = _result(tmp_path / policy, features, rows, "--faces", policy)
        assert max(first["similarity"], second["similarity"]) > 0.9
        assert min(first["similarity"], second["similarity"]) < 0.5
        if policy == "largest":
            assert photo["similarity"] in (first["similarity"], second["similarity"])
        else:
            assert (photo["status"], photo["reason_a"]) == ("missing_a", "many_faces")


def test_every_format_leads_to_the_same_decisions(features: Path, tmp_path: Path) -> None:
    table = pa.table({"a": [_id(0), _id(2)], "b": [_id(1), _id(4)], "fold": [1, 2]})
    pq.write_table(table.set_column(0, "a", table["a"].dictionary_encode()), tmp_path / "p.parquet")
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, table.to_pylist())))
    _list(tmp_path / "p.csv", [tuple(row.values()) for row in table.to_pylist()], ("a", "b", "fold"))
    (tmp_path / "folder").mkdir()
    for number in range(2):
        pq.write_table(table.slice(number, 1), tmp_path / "folder" / f"{number}.parquet")
    found = []
    for number, name in enumerate(("p.parquet", "p.jsonl", "p.csv", "folder")):
        assert _job(tmp_path / name, features, tmp_path / f"r{number}")[0] == 0
        found.append(pq.read_table(tmp_path / f"r{number}/pairs"))
    assert found[0].equals(found[1])
    assert found[0].equals(found[3])
    assert found[0].drop_columns("fold").equals(found[2].drop_columns("fold"))
    assert [found[0]["fold"].type, found[2]["fold"].type] == [pa.int64(), pa.string()]


# a run and its output


def test_a_long_list_is_cut_into_files_that_say_what_they_rest_on(
    undisturbed: Path, long_list: Path, features: Path
) -> None:
    files = sorted((undisturbed / "pairs").iterdir())
    assert [pq.read_metadata(file).num_rows for file in files] == [65_536, 65_536, 65_536, 3_392]
    table = pq.read_table(undisturbed / "pairs")
    assert table.select(["a", "b", "n"]).to_pylist() == pq.read_table(long_list).to_pylist()
    metadata = pq.read_schema(files[0]).metadata
    face = content(features, "faces").slice(0, 1).to_pylist()[0]
    for name in ("embedder_hash", "preprocessing_hash", "detector_hash"):
        assert metadata[f"frpipe.{name}".encode()].decode() == face[name]
    report = json.loads((undisturbed / "report.json").read_text())
    assert report["embedder_hash"] == face["embedder_hash"]
    assert report["pairs"] == report["accepted"] + report["rejected"] == 200_000
    assert report["threshold"]["fmr"] == 0.0001
    assert "model card of sface_2021dec" in report["threshold"]["warning"]


def test_another_run_on_the_same_output_is_refused(
    undisturbed: Path, long_list: Path, features: Path
) -> None:
    for words in (("--threshold", "0.3"), ("--faces", "largest")):
        code, _, err = _job(long_list, features, undisturbed, *words)
        assert code == 6
        assert words[0].removeprefix("--") in err
    other = _list(undisturbed.parent / "other.csv", [(_id(0), _id(1))])
    code, _, err = _job(other, features, undisturbed)
    assert code == 6
    assert "pairs was" in err


@pytest.mark.slow
def test_submitted_to_a_cluster_it_does_the_same(
    undisturbed: Path, long_list: Path, features: Path, job_server: Cluster, tmp_path: Path
) -> None:
    words = ("--pairs", long_list, "--features", features, "--output", tmp_path / "r")
    job = job_server.submit(ROOT, "python", "jobs/verify.py", *words)
    assert job.returncode == 0, job.stdout[-3000:] + job.stderr[-3000:]
    assert pq.read_table(tmp_path / "r/pairs").equals(pq.read_table(undisturbed / "pairs"))


@pytest.mark.slow
def test_on_an_object_store_it_does_the_same(
    undisturbed: Path,
    long_list: Path,
    features: Path,
    s3: S3,  # noqa: F811
) -> None:
    store = Folder.at(s3.uri)
    store.publish("lists/pairs.parquet", long_list)
    for path in features.rglob("*"):
        if path.is_file() and path.parent.name in ("images", "faces", "out"):
            store.publish(f"out/{path.relative_to(features)}", path)
    words = (f"{s3.uri}/lists/pairs.parquet", f"{s3.uri}/out", f"{s3.uri}/r")
    code, _, err = _job(*words, **s3.environment)
    assert code == 0, err
    assert pa.concat_tables(Units(store.child("r"), "pairs").tables()).equals(
        pq.read_table(undisturbed / "pairs")
    )
    assert "complete already" in _job(*words, **s3.environment)[2]


def test_a_submitted_job_refuses_an_output_that_would_be_lost(long_list: Path, features: Path) -> None:
    code, _, err = _job(long_list, features, "lost", RAY_JOB_CONFIG_JSON_ENV_VAR="{}")
    assert code == 2
    assert "--output" in err
    assert not (ROOT / "lost").exists()


@pytest.mark.parametrize("json_wanted", [False, True])
def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    json_wanted: bool, long_list: Path, features: Path, tmp_path: Path
) -> None:
    words = ["--dry-run", *(["--json"] if json_wanted else [])]
    code, out, err = _job(long_list, features, tmp_path / "r", *words)
    assert code == 0, err
    if json_wanted:
        assert (json.loads(out)["pairs"], json.loads(out)["files"]) == (200_000, 4)
    else:
        assert "200,000, in 4 files" in out
        assert "nothing was written" in out
    assert not (tmp_path / "r").exists()


# what is refused


def test_a_threshold_card_decides_and_one_of_another_embedder_is_refused(
    features: Path, tmp_path: Path
) -> None:
    own = content(features, "faces")["embedder_hash"][0].as_py()
    facts: dict[str, Any] = {"kind": "distance", "value": 0.25, "purpose": "verification", "source": "ours"}
    for name, sha in (("own", own), ("other", "f" * 64)):
        card = ThresholdCard(embedder_hash=sha, created=datetime.now(UTC), **facts)
        threshold_file.save(str(tmp_path / f"{name}.json"), card)
    pairs = _list(tmp_path / "p.csv", [(_id(0), _id(1))])
    assert _job(pairs, features, tmp_path / "r", "--threshold-card", tmp_path / "own.json")[0] == 0
    (row,) = pq.read_table(tmp_path / "r/pairs").to_pylist()
    assert row["threshold_similarity"] == 0.75
    code, _, err = _job(pairs, features, tmp_path / "r2", "--threshold-card", tmp_path / "other.json")
    assert code == 10
    assert own in err
    assert "f" * 64 in err
    assert not (tmp_path / "r2").exists()
    assert _job(pairs, features, tmp_path / "r2", "--threshold-card", tmp_path / "none.json")[0] == 2


def test_more_photos_than_the_memory_holds_are_refused_with_the_arithmetic(
    features: Path, tmp_path: Path
) -> None:
    pairs = _list(tmp_path / "p.csv", [(f"x{n}", f"y{n}") for n in range(1000)])
    code, _, err = _job(pairs, features, tmp_path / "r", "--memory-mb", 1)
    assert code == 2
    assert "2,000 photos of 1,012 bytes" in err
    assert "--memory-mb 3" in err
    assert not (tmp_path / "r").exists()
    # With enough, it works; and not one of these pairs can be compared.
    assert _job(pairs, features, tmp_path / "r", "--memory-mb", 3)[0] == 17


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,c\nx,y\n", "columns a and b"),
        ("a,b\n", "no rows"),
        ("a,b\nx,y\nx,\n,y\n", "2 rows without a or b (row 2, 3)"),
        ("a,b\nx,y\nx,y,z\n", "line 3 of p.csv: 3 values where the header has 2"),
        ("a,b,Decision\nx,y,1\n", "Decision"),
        ("a,b,n,N\nx,y,1,1\n", "two columns named n"),
        ("", "p.csv is empty"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_before_anything_is_written(
    text: str, said: str, features: Path, tmp_path: Path
) -> None:
    (tmp_path / "p.csv").write_text(text)
    code, _, err = _job(tmp_path / "p.csv", features, tmp_path / "r")
    assert code == 3
    assert said in err
    assert not (tmp_path / "r").exists()


def test_a_list_that_is_not_there_or_no_list_is_refused(features: Path, tmp_path: Path) -> None:
    (tmp_path / "p.parquet").write_bytes(b"no Parquet")
    pq.write_table(pa.table({"a": ["x"], "b": ["y"], "v": [[1.0]]}), tmp_path / "v.parquet")
    for name in ("none.csv", "p.parquet", "p.txt", "v.parquet"):
        assert _job(tmp_path / name, features, tmp_path / "r")[0] == 3


def test_features_that_are_not_finished_are_refused(features: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(features, tmp_path / "out"))
    (copy / "_SUCCESS").unlink()
    pairs = _list(tmp_path / "p.csv", [(_id(0), _id(1))])
    assert _job(pairs, copy, tmp_path / "r")[0] == 6
    assert _job(pairs, tmp_path / "none", tmp_path / "r")[0] == 6


# the documentation


def test_the_documentation_shows_the_columns() -> None:
    page = (ROOT / "docs/verify-job.md").read_text()
    assert f"<!-- pairs -->\n\n{markdown((*GIVEN_COLUMNS, *FOUND_COLUMNS))}\n" in page


def test_the_queries_of_the_documentation_run(features: Path, tmp_path: Path) -> None:
    rows: list[Row] = [(_id(0), _id(1), "true"), (_id(0), _id(2), "false"), (_id(0), _id(FACELESS), "true")]
    _result(tmp_path, features, rows, names=("a", "b", "mated"))
    page = (ROOT / "docs/verify-job.md").read_text().replace("RESULT/", f"{tmp_path}/r/")
    measured, least = (
        duckdb.sql(query).fetchall() for query in re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    )
    assert measured == [(pytest.approx(2 / 3), 1.0, 0.0, 0.0, 1)]
    assert [row[:2] for row in least] == [(_id(0), _id(1))]
