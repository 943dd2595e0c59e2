"""What a process does at a signal: its word, its exit code, and what it is held back from."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from frpipe.cli.exits import guarded
from frpipe.runtime.stop import SIGNALS, Stopped, held, stoppable

_PROGRAM = """
import atexit, os, signal, sys, threading, time
from frpipe.cli.exits import guarded
from frpipe.cli.program import program
from frpipe.runtime import stop

def wait(seconds=600):
    print("under way", file=sys.stderr, flush=True)
    time.sleep(seconds)

def command():
{body}

sys.exit(program(lambda: guarded(command)))
"""


@contextmanager
def _program(body: str, **options: object) -> Iterator[subprocess.Popen[str]]:
    """A program under way, which does what `body` says."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    command = [sys.executable, "-c", _PROGRAM.format(body=lines)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, **options) as process:  # type: ignore[call-overload]
        try:
            assert process.stderr.readline() == "under way\n"
            yield process
        finally:
            process.kill()


def _ended(body: str, *numbers: signal.Signals, pause_s: float = 0.0) -> tuple[int, str, str]:
    """Exit code, standard output and error of a program to which signals are sent, one after the other."""
    with _program(body) as process:
        for number in numbers:
            process.send_signal(number)
            time.sleep(pause_s)
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_has_its_exit_code_and_a_word(number: signal.Signals) -> None:
    code, out, err = _ended("wait()", number)
    assert (code, out) == (128 + number, "")
    assert err == f"stopped by {number.name}; the same command goes on from here\n"


def test_what_is_open_is_closed_and_what_else_fails_meanwhile_is_no_matter() -> None:
    body = "try:\n    wait()\nfinally:\n    print('closed')\n    raise ValueError"
    code, out, err = _ended(body, signal.SIGTERM)
    assert (code, out) == (143, "closed\n")
    assert err.startswith("stopped by SIGTERM") and err.count("\n") == 1


def test_threads_that_do_not_end_are_not_waited_for() -> None:
    body = "threading.Thread(target=time.sleep, args=(600,)).start()\nwait()"
    assert _ended(body, signal.SIGINT)[0] == 130


def test_a_second_signal_ends_what_takes_too_long(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    body = f"with stop.at_worst(lambda: open({str(mark)!r}, 'w')), stop.held():\n    wait()"
    code, _, err = _ended(body, signal.SIGTERM, signal.SIGINT, pause_s=1.3)
    assert (code, mark.exists()) == (143, True)
    assert err == "stopped by SIGTERM; the same command goes on from here\n"


def test_patience_has_an_end() -> None:
    code, _, err = _ended("stop._PATIENCE_S = 0.2\nwith stop.held():\n    wait()", signal.SIGTERM)
    assert code == 143 and "stopped by SIGTERM" in err


def test_one_signal_that_is_sent_twice_at_once_lets_it_unwind() -> None:
    """`timeout` sends it to its child, and to the group."""
    body = "try:\n    wait()\nfinally:\n    time.sleep(0.5)\n    print('closed')"
    assert _ended(body, signal.SIGTERM, signal.SIGTERM, pause_s=0.05)[:2] == (143, "closed\n")


def test_a_reader_who_does_not_read_does_not_keep_it() -> None:
    body = "stop._PATIENCE_S = 0.2\nwait(0)\nwhile True:\n    print('x' * 4096, file=sys.stderr)"
    with _program(body) as process:
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_what_a_process_is_told_to_ignore_it_ignores(number: signal.Signals) -> None:
    """As nohup does, and a shell for what it runs in the background."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        code, out, _ = _ended("wait(0.5)\nprint('done')\nreturn 0", number)
    finally:
        signal.signal(number, before)
    assert (code, out) == (0, "done\n")


def test_the_end_of_a_program_is_not_an_interrupt() -> None:
    """What Python does last is not disturbed: the system ends it."""
    body = "wait(0)\natexit.register(signal.raise_signal, signal.SIGINT)\nreturn 0"
    code, _, err = _ended(body)
    assert (code, err) == (-signal.SIGINT, "")


class _Awkward:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0)


def test_a_signal_that_comes_in_a_destructor_is_not_lost() -> None:
    with stoppable(str), pytest.raises(Stopped):
        thing = _Awkward()
        del thing
        time.sleep(5)
        pytest.fail("it was lost")


def test_what_is_held_is_whole_before_the_signal_is_heard() -> None:
    done = []
    with stoppable(str), pytest.raises(Stopped):
        with held():
            with held():
                signal.raise_signal(signal.SIGINT)
                done.append("inner")
            done.append("outer")
        pytest.fail("it was lost")
    assert done == ["inner", "outer"]


def test_handlers_are_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    assert guarded(lambda: 0) == 0
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_log_store_is_told_in_its_own_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FRPIPE_LOG", "json")

    def stopped() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as error:
            error.add_note("3 of 9 photos are done")
            raise
        return 0

    assert guarded(stopped) == 143
    line = capsys.readouterr().err
    assert '"event": "stopped"' in line and '"exit_code": 143' in line
    assert "stopped by SIGTERM: 3 of 9 photos are done; the same command goes on" in line
