"""The result of another night is checked before it is carried on, and is never changed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from frpipe.core.errors import OutputError
from frpipe.io.output import run
from frpipe.io.output.parts import PartFile, part_name, to_parquet
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dedup.schema import CLUSTER_SCHEMA, PAIR_SCHEMA
from frpipe.jobs.dedup.since import CLUSTERS, OldResult
from frpipe.jobs.dedup.worker import PAIRS

PAIR = {
    "subject_a": "ann",
    "face_a": "1#0",
    "subject_b": "bob",
    "face_b": "2#0",
    "similarity": 0.75,
    "distance": 0.25,
    "kind": "same_person",
}


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """A finished result: one pair, and a second file without any."""
    out = Folder.at(str(tmp_path / "night"))
    identity = {"job": "dedup", "source": {"gallery_id": "g", "version": 3}}
    run.claim(out, identity, {})
    units = Units(out, PAIRS)
    for number, rows in enumerate(([PAIR], [])):
        units.publish(number, pa.Table.from_pylist(rows, PAIR_SCHEMA), {"k": "v"})
    clusters = [_member("ann"), _member("bob")]
    out.write(CLUSTERS, to_parquet(pa.Table.from_pylist(clusters, CLUSTER_SCHEMA), {}))
    run.seal(out, [*units.files(), _file(out, CLUSTERS)], {}, "")
    return tmp_path / "night"


def _member(subject: str) -> dict[str, Any]:
    size = {"size": 2, "keeper": subject == "ann", "weak": False}
    return {"cluster_id": "c-1", "component_id": "g-1", "subject_id": subject, **size}


def _file(out: Folder, name: str) -> PartFile:
    data = out.read(name)
    return PartFile(name, 2, len(data), hashlib.sha256(data).hexdigest())


def test_a_finished_result_gives_its_pairs_and_clusters(night: Path) -> None:
    old = OldResult.open(str(night))
    assert old.version.id.number == 3
    tables = [old.read(name) for name in old.pairs()]
    assert [table.num_rows for table in tables] == [1, 0]
    assert tables[0].to_pylist() == [{**PAIR, "image_uri_a": None, "image_uri_b": None}]
    assert old.clusters() == {"c-1": ["ann", "bob"]}


@pytest.mark.parametrize("name", [f"{PAIRS}/{part_name(0)}", CLUSTERS])
def test_a_damaged_file_is_an_error_and_stays_where_it_is(name: str, night: Path) -> None:
    path = night / name
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    data[len(data) // 2] ^= 1
    path.write_bytes(data.tobytes())
    with pytest.raises(OutputError, match=f"{name} in .* is not the file that was checked"):
        OldResult.open(str(night))
    assert path.read_bytes() == data.tobytes()
    path.write_bytes(b"x" * len(data))
    with pytest.raises(OutputError, match="is not the file that was checked") as caught:
        OldResult.open(str(night))
    assert "leave --since out" in caught.value.remedy
    assert path.exists()


def test_a_result_that_has_not_ended_is_none(night: Path) -> None:
    (night / run.SUCCESS).unlink()
    with pytest.raises(OutputError, match="not the finished result"):
        OldResult.open(str(night))
