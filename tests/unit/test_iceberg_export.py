"""The export to Iceberg of docs/tables.md, where pyiceberg is installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from made_runs import Photo, made_run

from frpipe.jobs.publish.job import Publishing
from frpipe.jobs.publish.sources import result_at

PAGE = Path(__file__).parents[2] / "docs/tables.md"
PHOTOS = [Photo("1.jpg", "anna-berg", "a1"), Photo("2.jpg", "bob", "b2")]


def test_a_table_of_iceberg_holds_the_rows_and_its_metadata_no_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogs = pytest.importorskip("pyiceberg.catalog.sql", reason="pyiceberg is not installed")
    avro = pytest.importorskip("pyiceberg.manifest")
    monkeypatch.chdir(tmp_path)
    found = result_at(made_run(tmp_path / "out", PHOTOS).uri, "album")
    Publishing("tables", lambda _: ((found,), ())).run()
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (program,) = (block for block in blocks if "SqlCatalog(" in block)
    exec(compile(program, str(PAGE), "exec"), {})
    (place,) = (tmp_path / "iceberg").iterdir()
    catalog = catalogs.SqlCatalog("faces", uri=f"sqlite:///{place}/catalog.db", warehouse=f"file://{place}")
    for name in ("photos", "faces", "people", "runs"):
        table = catalog.load_table(f"frpipe.{name}")
        rows = table.scan().to_arrow()
        if name == "faces":
            vectors = dict(zip(rows["image_id"].to_pylist(), rows["embedding"].to_pylist(), strict=True))
            assert vectors == {photo.image_id: photo.vector.tolist() for photo in PHOTOS}
        for manifest in table.current_snapshot().manifests(table.io):
            assert isinstance(manifest, avro.ManifestFile)
            for entry in manifest.fetch_manifest_entry(table.io):
                assert not entry.data_file.lower_bounds, name
                assert not entry.data_file.upper_bounds, name
