"""A gallery on a real S3 server, filled from a gallery on disk, is the same to every command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from s3server import S3, s3  # noqa: F401 - a fixture

from frpipe.cli.main import main
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import vector_array
from frpipe.gallery.spec import GallerySpec


def test_commands_work_on_s3(
    s3: S3,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    gallery = f"{s3.uri}/gallery"
    ids = [f"p{n}" for n in range(8)]
    rows = {
        "subject_id": ids,
        "face_id": ids,
        "embedding": vector_array(np.eye(8, dtype=np.float32)),
        "Name": ids,
    }
    lifecycle.enroll(Gallery.create(gallery, GallerySpec(8, "e", "p", "d")), [pa.table(rows)])
    assert main(["gallery", "export", gallery, "-o", f"{s3.uri}/gallery.hdf"]) == 0
    assert main(["gallery", "export", gallery, "--layout", "parquet", "-o", f"{s3.uri}/export"]) == 0
    assert main(["gallery", "clear", gallery, "--yes"]) == 0
    assert main(["gallery", "import", gallery, f"{s3.uri}/gallery.hdf"]) == 0
    assert main(["gallery", "delete", gallery, "p3", "--no-suppress"]) == 0
    assert main(["gallery", "import", gallery, f"{s3.uri}/export"]) == 0
    assert main(["gallery", "verify", gallery]) == 0
    capsys.readouterr()
    assert main(["gallery", "list", gallery, "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["subject_id"] for row in listed] == ids
