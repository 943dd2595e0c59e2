"""Marks of parts under way: how attempts are counted, and when to give up."""

from __future__ import annotations

from pathlib import Path

import pytest

from frpipe.core.errors import OutputError, StorageError
from frpipe.core.reasons import Reason
from frpipe.io.folder import Folder
from frpipe.stages.attempts import AttemptLog, Poison, clear_attempts
from frpipe.stages.failure import as_text, revive


@pytest.fixture
def out(tmp_path: Path) -> Folder:
    return Folder.at(str(tmp_path))


def test_attempts_are_counted_across_launches_and_parts_apart(out: Folder) -> None:
    first, second = (AttemptLog(out, launch, "locate", 4) for launch in ("aaa", "bbb"))
    assert [first.begin(3), first.begin(3), second.begin(3), first.begin(4)] == [1, 2, 3, 1]


def test_one_launch_gives_up_at_its_limit_and_the_next_may_try_again(out: Folder) -> None:
    log = AttemptLog(out, "aaa", "embed", 2)
    assert [log.begin(0), log.begin(0)] == [1, 2]
    with pytest.raises(OutputError, match="part 0 has lost its worker 2 times"):
        log.begin(0)
    assert AttemptLog(out, "bbb", "embed", 2).begin(0) == 3


def test_the_pools_count_for_themselves(out: Folder) -> None:
    assert AttemptLog(out, "aaa", "locate", 4).begin(0) == 1
    assert AttemptLog(out, "aaa", "embed", 4).begin(0) == 1


def test_condemned_photos_are_remembered_until_the_run_is_complete(out: Folder) -> None:
    poison = {5: Poison(5, Reason.HUNG_WORKER, "no answer in 60 s", 3)}
    AttemptLog(out, "aaa", "locate", 4).condemn(7, poison)
    assert AttemptLog(out, "bbb", "locate", 4).poison(7) == poison
    assert AttemptLog(out, "bbb", "locate", 4).poison(8) == {}
    clear_attempts(out)
    assert AttemptLog(out, "bbb", "locate", 4).poison(7) == {}


def test_an_error_of_a_worker_reaches_the_driver_as_what_it_was() -> None:
    error = revive(as_text(StorageError("no space", "free some")))
    assert isinstance(error, StorageError)
    assert (error.message, error.remedy) == ("no space", "free some")


def test_a_foreign_error_travels_without_the_path_it_names() -> None:
    error = revive(as_text(FileNotFoundError(2, "No such file or directory", "/secret/name.jpg")))
    assert isinstance(error, StorageError)
    assert "No such file" in error.message
    assert "secret" not in str(error)
