"""The same job with its photos, its manifest and its output on a real S3 server: the same rows."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from enrollment import NOT_CONTENT, ROOT, command, content, enroll, write_manifest
from s3server import S3, s3  # noqa: F401 - a fixture

from frpipe.io.storage.folder import Folder

ROWS = 24


@pytest.fixture(scope="module")
def local(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local")
    done = enroll(write_manifest(folder / "m.csv", photos[:ROWS]), folder / "out", *_parts())
    assert done.returncode == 0, done.stderr
    return folder / "out"


def test_a_run_on_s3_leaves_the_rows_of_a_local_run(s3: S3, photos: list[Path], local: Path) -> None:  # noqa: F811
    store = Folder.at(s3.uri)
    for photo in photos[:ROWS]:
        store.write(f"photos/{photo.name}", photo.read_bytes())
    store.write("m.csv", _manifest(f"{s3.uri}/photos", photos[:ROWS]))
    done = enroll(f"{s3.uri}/m.csv", f"{s3.uri}/out", *_parts(), **s3.environment)
    assert done.returncode == 0, done.stderr
    again = enroll(f"{s3.uri}/m.csv", f"{s3.uri}/out", *_parts(), **s3.environment)
    assert "complete already" in again.stderr
    for table in ("images", "faces"):
        here = content(local, table).drop_columns("image_uri")
        assert _remote(f"{s3.uri}/out/{table}").drop_columns("image_uri").equals(here)


@pytest.mark.slow
def test_a_driver_killed_on_s3_goes_on_where_it_stopped(
    s3: S3,  # noqa: F811
    photos: list[Path],
    local: Path,
    tmp_path: Path,
) -> None:
    manifest = write_manifest(tmp_path / "m.csv", photos[:ROWS])
    out = Folder.at(f"{s3.uri}/killed")
    environment = {**os.environ, **s3.environment}
    job = subprocess.Popen(
        command(manifest, out.uri, *_parts()), cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    )
    while not out.list("images"):
        assert job.poll() is None, "the job ended before it could be disturbed"
        time.sleep(0.02)
    job.kill()
    job.wait()
    done = enroll(manifest, out.uri, *_parts(), **s3.environment)
    assert done.returncode == 0, done.stderr
    for table in ("images", "faces"):
        assert _remote(f"{out.uri}/{table}").equals(content(local, table))


def test_a_store_that_does_not_answer_is_one_clear_error(s3: S3, tmp_path: Path) -> None:  # noqa: F811
    environment = {**s3.environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    failed = enroll(f"{s3.uri}/m.csv", tmp_path / "out", **environment)
    assert failed.returncode == 7
    assert "Traceback" not in failed.stderr
    assert "->" in failed.stderr


def _parts() -> tuple[str, str]:
    return "--set", "resources.part_rows=8"


def _manifest(prefix: str, photos: list[Path]) -> bytes:
    rows = [f"id-{i:04d},{prefix}/{photo.name}" for i, photo in enumerate(photos)]
    return "\n".join(["image_id,image_uri", *rows]).encode()


def _remote(uri: str) -> pa.Table:
    filesystem, path = fsspec.url_to_fs(uri)
    rows = pq.read_table(path, filesystem=filesystem)
    key = "image_id" if uri.endswith("images") else "face_id"
    return rows.drop_columns([n for n in NOT_CONTENT if n in rows.column_names]).sort_by(key)
