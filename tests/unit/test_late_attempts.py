"""A late attempt at a part changes nothing that is sealed, wherever it was held, and brings nobody back."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from erase_runs import DIM, EXTRA, METADATA, PART_ROWS, PARTS, finished_run, seal
from part_work import PartsOf

from frpipe.core.errors import OutputError
from frpipe.core.schema import face_schema
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.output.parts import done_parts, part_name, write_part
from frpipe.io.output.plan import load_plan
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.contract import until_whole
from frpipe.jobs.erase.job import Erase
from frpipe.runtime.local import LocalExecutor

# As many steps as an attempt may take, and some more: the last ones hold nobody.
STEPS = range(6)
PART = 0


class Held(Folder):
    """A folder whose user stops before one of its steps, until it is let go."""

    def __init__(self, uri: str, step: int) -> None:
        super().__init__(uri)
        self.__dict__.update(left=step, stopped=threading.Event(), go_on=threading.Event())

    def _step(self) -> None:
        if self.__dict__["left"] == 0:
            self.__dict__["stopped"].set()
            self.__dict__["go_on"].wait()
        self.__dict__["left"] -= 1

    def exists(self, name: str) -> bool:
        self._step()
        return super().exists(name)

    def read(self, name: str) -> bytes:
        self._step()
        return super().read(name)

    def write(self, name: str, data: bytes) -> None:
        self._step()
        super().write(name, data)

    def create(self, name: str, data: bytes) -> bool:
        self._step()
        return super().create(name, data)

    def delete(self, name: str) -> None:
        self._step()
        super().delete(name)


class Attempt:
    """An attempt in a thread of its own, held before a step."""

    def __init__(self, out: Folder, step: int, images: pa.Table, faces: pa.Table) -> None:
        self._folder = Held(out.uri, step)
        self._thread = threading.Thread(
            target=lambda: write_part(self._folder, PART, images, faces, METADATA), daemon=True
        )
        self._thread.start()
        while not self._folder.__dict__["stopped"].wait(0.01) and self._thread.is_alive():
            pass

    def let_go(self) -> None:
        self._folder.__dict__["go_on"].set()
        self._thread.join()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return finished_run(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def out(whole: Folder, tmp_path: Path) -> Folder:
    """The run as it was before its first part was done."""
    shutil.copytree(whole.uri, tmp_path / "out")
    out = Folder.at(str(tmp_path / "out"))
    gone = (f"{sub}/{part_name(PART)}" for sub in ("images", "faces"))
    for name in ("_SUCCESS", "files.json", *gone):
        out.delete(name)
    return out


@pytest.fixture
def tables(whole: Folder) -> tuple[pa.Table, pa.Table]:
    """Of the first part."""
    images, faces = Features(whole).part(PART)
    return images, faces.cast(face_schema(DIM, EXTRA))


def _others(tables: tuple[pa.Table, pa.Table]) -> tuple[pa.Table, pa.Table]:
    """What an attempt with another batch size might have found: numbers that differ in a bit, here in all."""
    images, faces = tables
    at = faces.column_names.index("sharpness")
    more = pc.add(faces["sharpness"], pa.scalar(1, pa.float32()))
    return images, faces.set_column(at, faces.schema.field(at), more)


def _rows(out: Folder) -> dict[str, list[Any]]:
    """What a plain glob gives."""
    return {
        sub: duckdb.sql(f"SELECT * FROM '{out.uri}/{sub}/*.parquet' ORDER BY ALL").fetchall()
        for sub in ("images", "faces")
    }


@pytest.mark.parametrize("file", range(2))
def test_what_outlives_its_output_cannot_bring_a_part_back(
    file: int, out: Folder, tables: tuple[pa.Table, pa.Table]
) -> None:
    """The output is removed, as an erasure does, and begun anew, before an attempt writes its n-th file."""
    shutil.rmtree(out.uri)
    claim = run.claim(out, {"job": "enroll"}, {})[run.CLAIM]
    calls = 0

    def check() -> None:
        nonlocal calls
        if calls == file:
            shutil.rmtree(out.uri)
            run.claim(out, {"job": "enroll"}, {})
        calls += 1
        run.refuse_other_claim(out, claim)

    with pytest.raises(OutputError, match="removed, or begun anew"):
        write_part(out, PART, *tables, METADATA, check=check)
    assert done_parts(out) == set() and not list(out.child("faces").list())
    shutil.rmtree(out.uri)
    with pytest.raises(OutputError, match="removed, or begun anew"):
        run.refuse_other_claim(out, claim)


def _finish(out: Folder, tables: tuple[pa.Table, pa.Table]) -> None:
    """What the driver of another launch does: whatever is missing, the check of everything, the seal."""

    def work(parts: Sequence[int]) -> int:
        for part in parts:
            write_part(out, part, *tables, METADATA)
        return len(parts)

    until_whole(PartsOf(load_plan(out), work), out, LocalExecutor(), lambda _: None)
    seal(out)


@pytest.fixture(params=["the same", "others"])
def late(request: pytest.FixtureRequest, tables: tuple[pa.Table, pa.Table]) -> tuple[pa.Table, pa.Table]:
    return tables if request.param == "the same" else _others(tables)


@pytest.mark.parametrize("step", STEPS)
def test_what_is_sealed_stays_when_a_late_attempt_goes_on(
    step: int, out: Folder, tables: tuple[pa.Table, pa.Table], late: tuple[pa.Table, pa.Table]
) -> None:
    attempt = Attempt(out, step, *late)
    _finish(out, tables)
    sealed = _rows(out)
    assert len(sealed["images"]) == PARTS * PART_ROWS
    files = {entry.name: out.read(entry.name) for entry in out.list()}
    attempt.let_go()
    assert _rows(out) == sealed
    assert {entry.name: out.read(entry.name) for entry in out.list()} == files


@pytest.mark.parametrize("step", STEPS)
def test_nobody_who_was_erased_comes_back_by_a_late_attempt(
    step: int, out: Folder, tables: tuple[pa.Table, pa.Table], late: tuple[pa.Table, pa.Table]
) -> None:
    attempt = Attempt(out, step, *late)
    _finish(out, tables)
    Erase(out.uri, frozenset({"person-0"}), frozenset()).run()
    sealed = _rows(out)
    attempt.let_go()
    assert _rows(out) == sealed
    assert Erase(out.uri, frozenset({"person-0"}), frozenset()).run().images == 0


@pytest.mark.parametrize("step", STEPS)
def test_a_late_attempt_between_two_rounds_costs_a_round_at_most(
    step: int, out: Folder, tables: tuple[pa.Table, pa.Table]
) -> None:
    """It goes on while the other launch is at work, before that has sealed."""
    attempt = Attempt(out, step, *_others(tables))
    rounds = 0

    def work(parts: Sequence[int]) -> int:
        nonlocal rounds
        for part in parts:
            write_part(out, part, *tables, METADATA)
        rounds += 1
        attempt.let_go()
        return len(parts)

    found, _ = until_whole(PartsOf(load_plan(out), work), out, LocalExecutor(), lambda _: None)
    seal(out)
    assert rounds <= 2
    assert (found.tally.rows, found.damaged) == (PARTS * PART_ROWS, [])
    first = Features(out).part(PART)[1]["sharpness"]
    assert first in (tables[1]["sharpness"], _others(tables)[1]["sharpness"])


def test_a_unit_that_is_published_stays(tmp_path: Path) -> None:
    units = Units(Folder.at(str(tmp_path)), "pairs")
    assert units.publish(0, pa.table({"a": [1]}), {})
    assert not units.publish(0, pa.table({"a": [2]}), {})
    assert units.read(0)["a"].to_pylist() == [1]


def test_the_millionth_part_has_its_own_number(tmp_path: Path) -> None:
    out = Folder.at(str(tmp_path))
    for part in (100_000, 1_000_000):
        write_part(out, part, pa.table({"image_id": ["a"]}), pa.table({"face_id": ["a#0"]}), {})
    out.write("images/part-000002.parquet.bak.parquet", b"")
    assert done_parts(out) == {100_000, 1_000_000}
