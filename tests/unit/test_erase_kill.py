"""An erasure that is killed at any write, or that another one breaks into: what is there, and how it ends."""

from __future__ import annotations

import json
import shutil
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from erase_runs import PARTS, ROWS, finished_run

from frpipe.core.errors import OutputError
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.erasure.journal import Erasure, ErasureJournal
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.output.plan import load_plan, read_part
from frpipe.io.storage.folder import Folder
from frpipe.jobs.erase import parts
from frpipe.jobs.erase.job import Erase
from frpipe.jobs.features import FeatureRun
from frpipe.testing.kills import Killed, at_change, die

PERSON, OTHER = "person-0", "person-6"
# The mark; _SUCCESS; of two parts the plan, faces and images; the index; working files of two folders; the
# receipt, four files, the mark.
CHANGES = 17


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return finished_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def erased(finished: Folder, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """The person taken out, undisturbed."""
    out = _copy(finished, tmp_path_factory.mktemp("erased"))
    _erase(out, PERSON)
    return out


def test_killed_at_any_write_the_same_command_ends_alike(
    finished: Folder, erased: Folder, tmp_path: Path
) -> None:
    identity = run.begun(finished)["identity"]
    whole, whole_erased = _rows(finished), _rows(erased)
    with at_change(None, lambda: None) as count:
        _erase(_copy(finished, tmp_path / "count"), PERSON)
    assert count[0] == CHANGES
    for moment in range(1, count[0] + 1):
        out = _copy(finished, tmp_path / str(moment))
        with at_change(moment, die), pytest.raises(Killed):
            _erase(out, PERSON)
        if run.complete(out) is not None:
            assert _rows(out) in (whole, whole_erased), moment
            assert FeatureRun.open(out.uri).faces == sum(len(faces) for _, faces in Features(out).tables())
        else:
            with pytest.raises(OutputError, match="being taken out"):
                FeatureRun.open(out.uri)
        if _rows(out) != whole:
            with pytest.raises(OutputError, match="being taken out"):
                run.check_claim(out, identity)
        done = _erase(out, PERSON)
        assert (done.images, done.earlier) in ((2, 0), (0, 1)), moment
        _same(out, erased)


def test_one_that_broke_off_is_ended_first_or_with_another_if_that_is_said(
    finished: Folder, tmp_path: Path
) -> None:
    out = _copy(finished, tmp_path / "out")
    with at_change(6, die), pytest.raises(Killed):
        _erase(out, PERSON)
    with pytest.raises(OutputError, match="an erasure of other people"):
        _erase(out, OTHER)
    Erase(out.uri, frozenset({OTHER}), frozenset(), take_over=True).run()
    assert _rows(out) == _without(finished, PERSON, OTHER)
    receipts = json.loads(out.read("erased.json"))["erasures"]
    assert [(each["images"], each["faces"]) for each in receipts] == [(2, 2), (1, 2)]


@pytest.mark.parametrize("second", [PERSON, pytest.param(OTHER, marks=pytest.mark.slow)])
def test_two_at_once_end_right(
    finished: Folder, tmp_path: Path, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another runs from start to end, or is refused, between two steps of the first, wherever that is."""
    # One part after the other: else the other's mark may be seen by what the first does meanwhile.
    monkeypatch.setattr(parts, "in_order", map)
    for moment in range(1, CHANGES + 1, 2):
        out = _copy(finished, tmp_path / str(moment))
        refused = []

        def other(out: Folder = out, refused: list[OutputError] = refused) -> None:
            try:
                _erase(out, second)
            except OutputError as error:
                refused.append(error)

        with at_change(moment, other):
            try:
                _erase(out, PERSON)
            except OutputError as error:
                pytest.fail(f"change {moment}: {error}; the other: {refused or 'came to its end'}")
        assert bool(refused) == (second is OTHER and moment > 1), moment
        if refused:
            _erase(out, second)
        assert _rows(out) == _without(finished, PERSON, second), moment
        report = run.complete(out)
        assert report is not None and not out.exists(run.ERASING), moment
        gone = sum(each["images"] for each in json.loads(out.read("erased.json"))["erasures"])
        assert gone == report["erased"] == ROWS - report["rows"], moment


def test_threads_of_one_erasure_take_it_up_again_together(finished: Folder, tmp_path: Path) -> None:
    """The mark goes while several threads strike parts: none of them thinks that another process came."""
    out = _copy(finished, tmp_path)
    journal = ErasureJournal.of(out)
    erasure = Erasure.of(ErasedIds("key"), images=0, faces=0, parts=(), copies=0)
    assert journal.begin(erasure)
    threads, turns = 8, 20
    together = threading.Barrier(threads)

    def check(_: int) -> None:
        together.wait()
        journal.check()

    with ThreadPoolExecutor(threads) as pool:
        for _ in range(turns):
            out.delete(run.ERASING)
            deque(pool.map(check, range(threads)), maxlen=0)
    journal.close()


def _erase(out: Folder, person: str) -> Any:
    return Erase(out.uri, frozenset({person}), frozenset()).run()


def _copy(out: Folder, place: Path) -> Folder:
    shutil.copytree(out.uri, place / "out")
    return Folder.at(str(place / "out"))


def _rows(out: Folder) -> list[list[str]]:
    """Ids of the faces, the photos, and the plan, by part."""
    ids = [[*f["face_id"].to_pylist(), *i["image_id"].to_pylist()] for i, f in Features(out).tables()]
    return [*ids, *(read_part(out, part)["image_id"].to_pylist() for part in range(load_plan(out).parts))]


def _without(finished: Folder, *people: str) -> list[list[str]]:
    gone = set()
    for images, _ in Features(finished).tables():
        gone |= {row["image_id"] for row in images.to_pylist() if row["subject_id"] in people}
    return [[each for each in part if each.partition("#")[0] not in gone] for part in _rows(finished)]


def _same(out: Folder, expected: Folder) -> None:
    for name in expected.walk():
        if name.endswith((".parquet", "files.json", "plan.json", "report.json")):
            assert out.read(name) == expected.read(name), name
    (receipt,) = json.loads(out.read("erased.json"))["erasures"]
    assert (receipt["images"], receipt["faces"], receipt["parts"]) == (2, 2, [0, PARTS // 2])
    assert sorted(out.walk()) == sorted(expected.walk())
