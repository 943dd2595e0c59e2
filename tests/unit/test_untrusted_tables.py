"""Logs of tables out of a store that nobody vouches for: refused by name, and nothing outside is touched."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_runs import Photo, made_run

from frpipe.core.errors import OutputError
from frpipe.io.tables.table import PublishedTable
from frpipe.jobs.publish.job import Publishing
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.schema import PHOTOS
from frpipe.jobs.publish.sources import result_at

OTHER = "part-0123456789abcdef01234567.parquet"
FIELD = {"name": "a", "type": "string", "nullable": True, "metadata": {}}
SCHEMAS = {"no columns": [], "a column twice": [FIELD, FIELD]}
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module", params=["delta", "parquet"])
def published(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp(request.param)
    found = result_at(made_run(root / "out", [Photo("1.jpg", "anna", "a1")]).uri, None)
    Publishing(str(root / "tables"), lambda _: ([found], ()), layout=request.param).run()
    return root / "tables"


@pytest.fixture
def photos(published: Path, tmp_path: Path) -> PublishedTable:
    """A table with a file of somebody else's beside it."""
    shutil.copytree(published, tmp_path / "tables")
    (tmp_path / OTHER).write_bytes(next(published.glob("photos/*/*.parquet")).read_bytes())
    root = Root.opened(str(tmp_path / "tables"))
    assert root is not None
    return root.table(PHOTOS)


def _log(photos: PublishedTable) -> Path:
    return Path(photos.folder.uri) / ("_delta_log" if photos.layout == "delta" else "_files")


def _say(photos: PublishedTable, files: dict[str, Any] | None = None, **facts: Any) -> None:
    """Have the log say other things. files: of a file of the table; facts: as plain Parquet has them."""
    newest = max(_log(photos).glob("*.json"))
    if photos.layout == "parquet":
        document = json.loads(newest.read_text())
        document["files"][0].update(files or {})
        newest.write_text(json.dumps(document | facts))
        return
    actions: list[dict[str, Any]] = []
    if files:
        add = {"path": "x.parquet", "size": 1, "rows": 1, "partition": {}, **files}
        add |= {"partitionValues": add.pop("partition"), "stats": json.dumps({"numRecords": add.pop("rows")})}
        actions.append({"add": add | ({"size": add.pop("bytes")} if "bytes" in add else {})})
    removed = facts.get("removed", {})
    if not isinstance(removed, dict):
        actions.append({"remove": removed})
        removed = {}
    actions += [{"remove": {"path": path, "deletionTimestamp": when}} for path, when in removed.items()]
    if "schema" in facts:
        metadata = {"id": "1", "schemaString": json.dumps(facts["schema"]), "partitionColumns": ["month"]}
        actions.append({"metaData": metadata})
    applied = facts.get("applied", {})
    actions += [{"txn": {"appId": f"frpipe/{run}", "version": number}} for run, number in applied.items()]
    number = int(newest.stem) + 1
    (newest.parent / f"{number:020d}.json").write_text("\n".join(map(json.dumps, actions)))


@pytest.mark.parametrize(
    "files",
    [
        {"path": f"../../{OTHER}"},
        {"path": f"/tmp/{OTHER}"},
        {"path": 5},
        {"path": None},
        {"path": ""},
        {"path": "a\0b.parquet"},
        {"path": "\ud800.parquet"},
        {"path": "_delta_log/x.parquet"},
        {"path": "month=2026-05/../../x.parquet"},
        {"bytes": "many"},
        {"bytes": -1},
        {"bytes": 10**40},
        {"rows": 10**40},
        {"partition": {"month": 5}},
        {"partition": "2026-05"},
    ],
    ids=str,
)
def test_a_log_whose_files_make_no_sense_is_refused(photos: PublishedTable, files: dict[str, Any]) -> None:
    _say(photos, files)
    with pytest.raises(OutputError, match="photos"):
        photos.head()


@pytest.mark.parametrize(
    "facts",
    [
        *({"schema": {"type": "struct", "fields": fields}} for fields in SCHEMAS.values()),
        {"schema": {"type": "struct", "fields": [{**FIELD, "name": "source", "type": "long"}]}},
        {"schema": []},
        {"removed": ["x"]},
        {"removed": {"x.parquet": "yesterday"}},
        {"applied": {"run": "whole"}},
    ],
    ids=str,
)
def test_a_log_that_says_what_it_cannot_say_is_refused(photos: PublishedTable, facts: dict[str, Any]) -> None:
    _say(photos, **facts)
    with pytest.raises(OutputError, match="photos"):
        photos.head()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[1]", "\0", '{"add": 1e999}'], ids=len)
def test_a_document_that_is_none_is_refused(photos: PublishedTable, text: str) -> None:
    max(_log(photos).glob("*.json")).write_text(text)
    with pytest.raises(OutputError, match="photos"):
        photos.head()


def test_a_number_that_leaves_no_room_for_the_next_version_is_refused(photos: PublishedTable) -> None:
    log, last = _log(photos), 10**9 - 1
    if photos.layout == "parquet":
        document = json.loads(max(log.glob("*.json")).read_text())
        (log / f"{last}.json").write_text(json.dumps({**document, "version": last}))
    else:
        shutil.copy(max(log.glob("*.json")), log / f"{10**20 - 1}.checkpoint.parquet")
    with pytest.raises(OutputError, match="photos"):
        photos.head()


def test_a_list_of_another_number_is_refused_and_no_run_is_lost_behind_it(photos: PublishedTable) -> None:
    if photos.layout == "delta":
        pytest.skip("commits of Delta Lake do not say their number")
    _say(photos, version=10**12)
    with pytest.raises(OutputError, match="photos"):
        photos.head()


def test_cleaning_up_removes_neither_logs_nor_what_lies_outside(photos: PublishedTable) -> None:
    table = Path(photos.folder.uri)
    (table / "notes.txt").write_text("somebody's")
    log = {path.name for path in _log(photos).iterdir()}
    there = [f"{_log(photos).name}/{name}" for name in log]
    names = [f"../../{OTHER}", "../tables.json", "notes.txt", *there, "_delta_log", "."]
    _say(photos, removed=dict.fromkeys(names, 1))
    photos.vacuum(barrier=True)
    assert log <= {path.name for path in _log(photos).iterdir()}
    assert (table / "notes.txt").exists()
    assert (table.parent / "tables.json").exists()
    assert (table.parent.parent / OTHER).exists()


def test_files_that_went_by_a_clock_of_the_future_go_at_once_where_none_may_stay(
    photos: PublishedTable,
) -> None:
    state = photos.head()
    old = Path(photos.folder.uri) / f"month=2026-05/{OTHER}"
    old.write_bytes(b"somebody's rows")
    _say(photos, removed={f"month=2026-05/{OTHER}": 10**14})
    assert photos.vacuum(3_600_000) == 0
    assert photos.vacuum() == 1
    assert not old.exists()
    assert photos.head().files == state.files
