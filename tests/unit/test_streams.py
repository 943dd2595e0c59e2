"""Standard output and error that are closed, full, of another encoding, narrow, or that nobody reads."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gallery_rows import people, spec

from frpipe.cli.exits import guarded
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery

_FRPIPE = f"{sys.executable} -m frpipe"
_COMMANDS = ("models list", "run", "--help", "--version", "gallery list {g}", "gallery list {g} --json")
_NAME = "Zoë 김지수 😀"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = Gallery.create(str(tmp_path_factory.mktemp("g") / "g"), spec())
    lifecycle.enroll(made, [people([_NAME])])
    return made.uri


def _shell(words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {words}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("command", _COMMANDS)
@pytest.mark.parametrize("unbuffered", ["", pytest.param("1", marks=pytest.mark.slow)])
def test_a_full_disk_is_said_of_standard_output(command: str, unbuffered: str, gallery: str) -> None:
    done = _shell(f"{_FRPIPE} {command.format(g=gallery)} > /dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 7
    assert done.stderr.splitlines() == [
        "error [storage]: standard output cannot be written: No space left on device",
        "  -> see where it goes, and whether there is room",
    ]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_where_nothing_can_be_said_the_exit_code_says_it(unbuffered: str) -> None:
    done = _shell(f"{_FRPIPE} models list > /dev/full 2> /dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 7


@pytest.mark.parametrize("command", _COMMANDS)
def test_who_closes_streams_wants_to_hear_nothing(command: str, gallery: str) -> None:
    done = _shell(f"{_FRPIPE} {command.format(g=gallery)} <&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_closed_stream_is_not_taken_for_a_file(tmp_path: Path, gallery: str) -> None:
    """A file that is opened then would get its number, and what is printed."""
    done = _shell(
        f"{_FRPIPE} gallery export {gallery} -o {tmp_path}/g.hdf >&- 2>&- && {_FRPIPE} gallery list {gallery}"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "g.hdf").read_bytes().startswith(b"\x89HDF")


def test_where_nobody_reads_any_more_it_ends_as_cat_does() -> None:
    done = _shell(f"{_FRPIPE} --help | exec true", PYTHONUNBUFFERED="1")
    assert (done.returncode, done.stderr) in {(141, ""), (0, "")}
    reading, writing = os.pipe()
    os.close(reading)
    with subprocess.Popen(
        [*_FRPIPE.split(), "models", "list"], stdout=writing, stderr=subprocess.PIPE
    ) as process:
        os.close(writing)
        _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (141, b"")


_MORE = [pytest.param(name, marks=pytest.mark.slow) for name in ("latin-1", "cp1252", "utf-8")]


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", *_MORE])
def test_what_an_encoding_does_not_have_is_escaped(encoding: str, gallery: str) -> None:
    def listed(*form: str) -> str:
        words = [*_FRPIPE.split(), "gallery", "list", gallery, *form]
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run(words, env=environment, capture_output=True, check=True)
        return done.stdout.decode(encoding.partition(":")[0])

    assert "Zo" in listed()
    assert _NAME in str(json.loads(listed("--json")))


def test_in_the_c_locale_too(gallery: str) -> None:
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert _shell(f"{_FRPIPE} gallery list {gallery}", **environment).returncode == 0


@pytest.mark.parametrize("columns", ["1", "20"])
def test_a_narrow_terminal_is_no_hindrance(columns: str, gallery: str) -> None:
    for command in ("--help", "gallery enroll --help", f"gallery list {gallery}"):
        assert _shell(f"{_FRPIPE} {command}", COLUMNS=columns).returncode == 0


def test_an_error_of_the_system_names_its_cause_and_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    def refused() -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/data/list.csv")

    def untold() -> int:
        raise OSError("Unable to synchronously open file (truncated file)")

    assert guarded(refused) == 7
    assert "error [storage]: Permission denied: /data/list.csv" in capsys.readouterr().err
    assert guarded(untold) == 7
    assert "truncated file" in capsys.readouterr().err


def test_a_broken_pipe_elsewhere_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def lost() -> int:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    assert guarded(lost) == 7
    assert "Broken pipe" in capsys.readouterr().err
