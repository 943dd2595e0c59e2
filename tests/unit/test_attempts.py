"""Marks of parts under way: how attempts are counted, and when to give up."""

from __future__ import annotations

from pathlib import Path

import pytest

from frpipe.core.errors import OutputError, StorageError
from frpipe.core.reasons import Reason
from frpipe.io.storage.folder import Folder
from frpipe.runtime.failure import as_text, revive
from frpipe.runtime.host import Host
from frpipe.stages.quarantine.attempts import AttemptLog, Poison, clear_attempts, forget_attempts


@pytest.fixture
def out(tmp_path: Path) -> Folder:
    return Folder.at(str(tmp_path))


def test_attempts_are_counted_across_launches_and_parts_apart(out: Folder) -> None:
    first, second = (AttemptLog(out, launch, "locate", 4) for launch in ("aaa", "bbb"))
    begun = [log.begin(part) for log, part in ((first, 3), (first, 3), (second, 3), (first, 4))]
    assert [attempt.number for attempt in begun] == [1, 2, 3, 1]


def test_one_launch_gives_up_at_its_limit_and_the_next_may_try_again(out: Folder) -> None:
    log = AttemptLog(out, "aaa", "embed", 2)
    assert [log.begin(0).number, log.begin(0).number] == [1, 2]
    with pytest.raises(OutputError, match="part 0 has lost its worker 2 times"):
        log.begin(0)
    assert AttemptLog(out, "bbb", "embed", 2).begin(0).number == 3


def test_a_worker_lost_on_a_node_that_is_up_makes_its_photos_suspect(out: Folder) -> None:
    log = _log(out, "aaa", "n1", living={"n1"})
    assert [log.begin(0).suspect, log.begin(0).suspect] == [False, True]


def test_a_worker_lost_with_its_node_or_its_driver_makes_none_suspect_the_first_time(out: Folder) -> None:
    living = {"n1", "n2"}
    assert not _log(out, "aaa", "n1", living).begin(0).suspect
    living.remove("n1")
    assert not _log(out, "aaa", "n2", living).begin(0).suspect
    assert not _log(out, "bbb", "n2", living).begin(1).suspect
    assert not _log(out, "ccc", "n2", living).begin(1).suspect
    assert _log(out, "ddd", "n2", living).begin(1).suspect


def test_nodes_that_are_lost_do_not_end_the_job_until_they_are_many(out: Folder) -> None:
    suspect = [_log(out, "aaa", f"n{number}", {f"n{number}"}).begin(0).suspect for number in range(8)]
    assert suspect == [False, False, *[True] * 6]
    with pytest.raises(OutputError, match="part 0 has lost its worker 8 times"):
        _log(out, "aaa", "n9", {"n9"}).begin(0)


def test_losses_without_and_with_their_nodes_are_counted_apart(out: Folder) -> None:
    for node in ("n1", "gone", "gone", "gone"):
        _log(out, "aaa", node, {"n1"}).begin(0)
    _log(out, "aaa", "n1", {"n1"}).begin(0)
    with pytest.raises(OutputError, match="part 0 has lost its worker 5 times"):
        _log(out, "aaa", "n1", {"n1"}).begin(0)


def _log(out: Folder, launch: str, node: str, living: set[str]) -> AttemptLog:
    return AttemptLog(out, launch, "locate", 2, Host(node, lambda: living))


def test_the_pools_count_for_themselves(out: Folder) -> None:
    assert AttemptLog(out, "aaa", "locate", 4).begin(0).number == 1
    assert AttemptLog(out, "aaa", "embed", 4).begin(0).number == 1


def test_condemned_photos_are_remembered_until_the_run_is_complete(out: Folder) -> None:
    poison = {5: Poison(5, Reason.HUNG_WORKER, "no answer in 60 s", 3)}
    AttemptLog(out, "aaa", "locate", 4).condemn(7, poison)
    assert AttemptLog(out, "bbb", "locate", 4).poison(7) == poison
    assert AttemptLog(out, "bbb", "locate", 4).poison(8) == {}
    clear_attempts(out)
    assert AttemptLog(out, "bbb", "locate", 4).poison(7) == {}


def test_a_part_that_was_published_and_is_done_again_is_not_suspect(out: Folder) -> None:
    log = _log(out, "aaa", "n1", living={"n1"})
    for part in (0, 10):
        log.begin(part)
    log.condemn(0, {3: Poison(3, Reason.HUNG_WORKER, "no answer", 2)})
    forget_attempts(out, [0])
    again, other = log.begin(0), log.begin(10)
    assert (again.number, again.suspect, other.number, other.suspect) == (1, False, 2, True)
    assert log.poison(0).keys() == {3}


def test_nothing_stays_of_the_marks_of_a_run_that_is_complete(out: Folder, tmp_path: Path) -> None:
    out.write("images/part-000000.parquet", b"")
    for pool in ("locate", "embed"):
        AttemptLog(out, "aaa", pool, 4).begin(0)
    clear_attempts(out)
    clear_attempts(out)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_a_mark_that_was_left_half_written_keeps_no_folder(out: Folder, tmp_path: Path) -> None:
    AttemptLog(out, "aaa", "locate", 4).begin(3)
    (tmp_path / "_attempts/locate/000003/.0002.aaa.x.tmp").touch()
    clear_attempts(out)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_a_worker_reaches_the_driver_as_what_it_was() -> None:
    error = revive(as_text(StorageError("no space", "free some")))
    assert isinstance(error, StorageError)
    assert (error.message, error.remedy) == ("no space", "free some")


def test_a_foreign_error_travels_without_the_path_it_names() -> None:
    error = revive(as_text(FileNotFoundError(2, "No such file or directory", "/secret/name.jpg")))
    assert isinstance(error, StorageError)
    assert "No such file" in error.message
    assert "secret" not in str(error)
