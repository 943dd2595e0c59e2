"""One night at a time: leases on a local disk and on a real S3 server."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from s3server import S3, s3  # noqa: F401

from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly import lease as leases
from frpipe.jobs.nightly.lease import LEASES, Holder, LeaseError, lease

# A holder of these tests that is alive must get a heartbeat through in the one, whatever else runs.
LIVE_S, DEAD_S = 6.0, 0.6


@pytest.fixture(params=["local", "s3"])
def runs(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "local":
        return Folder.at(str(tmp_path / "nights"))
    return Folder.at(request.getfixturevalue("s3").uri)


def _elsewhere(runs: Folder, **facts: object) -> Holder:
    """A holder on another machine, which is not heard of again."""
    holder = replace(Holder.me("2026-11-23"), host="other", machine="other", **facts)  # type: ignore[arg-type]
    runs.child(LEASES).write("000000004.json", holder.encoded())
    return holder


def test_a_second_night_is_refused_and_told_who_runs(runs: Folder) -> None:
    with lease(runs, "2026-11-24", LIVE_S):
        with pytest.raises(LeaseError) as refused, lease(runs, "2026-11-25", LIVE_S):
            pass
        assert refused.value.exit_code == 15
        assert "2026-11-24" in refused.value.message
        assert f"process {os.getpid()}" in refused.value.message


def test_the_next_one_gets_in_at_once_after_a_release(runs: Folder) -> None:
    with lease(runs, "2026-11-24", 60):
        pass
    begin = time.monotonic()
    with lease(runs, "2026-11-25", 60) as held:
        assert held.before is not None
        assert (held.before.night, held.before.released) == ("2026-11-24", True)
        held.check()
    assert time.monotonic() - begin < 5


def test_a_holder_that_is_not_heard_of_is_taken_over_after_the_stated_time(runs: Folder) -> None:
    dead = _elsewhere(runs)
    begin = time.monotonic()
    with lease(runs, "2026-11-24", DEAD_S) as held:
        assert time.monotonic() - begin >= DEAD_S
        assert held.before == dead
        assert [entry.name for entry in runs.child(LEASES).list()] == ["000000005.json"]


def test_a_holder_is_given_the_time_that_its_own_configuration_states(tmp_path: Path) -> None:
    runs, begin = Folder.at(str(tmp_path)), time.monotonic()
    _elsewhere(runs, expires_s=1.5)
    with lease(runs, "2026-11-24", 0.1):
        assert time.monotonic() - begin >= 1.5


def test_a_rival_that_was_frozen_while_it_looked_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, look, looks = Folder.at(str(tmp_path)), leases._newest, []
    holder = _elsewhere(runs)

    def slow(place: Folder) -> tuple[int, Holder | None]:
        found = look(place)
        looks.append(found)
        if len(looks) == 2:
            # Frozen for longer than the holder is given, which goes on meanwhile.
            time.sleep(2 * DEAD_S)
            place.write("000000004.json", replace(holder, beat="2026-11-24T01:00:00+00:00").encoded())
        return found

    monkeypatch.setattr(leases, "_newest", slow)
    with pytest.raises(LeaseError, match="under way"), lease(runs, "2026-11-24", DEAD_S):
        pass


def test_a_night_that_was_taken_over_finds_out_and_speaks_no_more(runs: Folder) -> None:
    said: list[str] = []
    with lease(runs, "2026-11-24", 60) as held:
        say = held.guarded(said.append)
        say("at work")
        runs.child(LEASES).write("000000009.json", Holder.me("2026-11-25").encoded())
        with pytest.raises(LeaseError, match="taken over"):
            held.check()
        with pytest.raises(LeaseError):
            say("still at work")
    assert said == ["at work"]


def test_a_night_that_could_not_write_its_heartbeat_takes_itself_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Folder.at(str(tmp_path))
    with lease(runs, "2026-11-24", DEAD_S) as held:

        def full(*_: object) -> None:
            raise OSError("no space")

        monkeypatch.setattr(Folder, "write", full)
        _until_lost(held)
        monkeypatch.undo()


def _until_lost(held: leases.Lease) -> None:
    for _ in range(100):
        try:
            held.check_known()
        except LeaseError as error:
            assert "heartbeat" in error.message
            return
        time.sleep(DEAD_S / 4)
    pytest.fail("it never noticed")


def test_a_killed_process_of_this_machine_is_taken_over_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom frpipe.jobs.nightly.lease import lease\n"
        "from frpipe.io.storage.folder import Folder\n"
        "with lease(Folder.at(sys.argv[1]), '2026-11-24', 3600):\n    print('held', flush=True)\n"
        "    time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.kill()
    with lease(Folder.at(str(tmp_path)), "2026-11-24", 3600) as held:
        assert held.before is not None
        assert held.before.pid == process.pid


def test_of_many_rivals_for_a_lease_one_gets_it(runs: Folder) -> None:
    _elsewhere(runs, released=True)
    rivals, ready, ended = 4, threading.Barrier(4), threading.Event()

    def rival(number: int) -> bool:
        ready.wait()
        try:
            with lease(runs, f"2026-11-1{number}", LIVE_S) as held:
                held.check()
                ended.wait(30)
                held.check()
                return True
        except LeaseError:
            return False

    with ThreadPoolExecutor(rivals) as pool:
        done = [pool.submit(rival, number) for number in range(rivals)]
        for _ in range(600):
            if sum(each.done() for each in done) == rivals - 1:
                break
            time.sleep(0.05)
        ended.set()
        assert sorted(each.result() for each in done) == [False] * (rivals - 1) + [True]


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "lease"]
