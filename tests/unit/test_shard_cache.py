"""A node's cache of shards: fetched once, whole, private, bounded, and no harm where it is disturbed."""

from __future__ import annotations

import hashlib
import mmap
import os
import shutil
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from frpipe.core.errors import StorageError
from frpipe.gallery import shard_cache
from frpipe.gallery.shard_cache import CacheSpec, ShardCache

SIZE = 100_000
WAIT_S = 20.0


@pytest.fixture
def spec(tmp_path: Path) -> CacheSpec:
    return CacheSpec.new(10 * SIZE, str(tmp_path / "place"))


@pytest.fixture
def cache(spec: CacheSpec) -> Iterator[ShardCache]:
    with_lock = _opened(spec)
    yield with_lock
    with_lock.close()


def _opened(spec: CacheSpec) -> ShardCache:
    found = spec.opened()
    assert found is not None
    return found


def _data(number: int, size: int = SIZE) -> bytes:
    return hashlib.sha256(b"%d" % number).digest() * (size // 32)


def _name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _get(cache: ShardCache, data: bytes, fetch: Callable[[], bytes] | None = None) -> bytes | mmap.mmap:
    return cache.file(_name(data), len(data), fetch or (lambda: data))


def _never() -> bytes:
    raise AssertionError("it was fetched again")


def _child(work: Callable[[], object]) -> int:
    """A process that does something, ends with 0 where it may, and says nothing."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def _code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def _files(spec: CacheSpec) -> set[str]:
    return {path.name for path in spec.folder.iterdir() if not path.name.endswith((".lock", "room"))}


def test_what_is_kept_is_mapped_and_private_and_not_fetched_again(spec: CacheSpec, cache: ShardCache) -> None:
    data = _data(1)
    first = _get(cache, data)
    assert isinstance(first, mmap.mmap) and bytes(first) == data
    again = _get(_opened(spec), data, _never)
    assert isinstance(again, mmap.mmap) and bytes(again) == data
    assert stat.S_IMODE(spec.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((spec.folder / _name(data)).stat().st_mode) == 0o400


def test_of_many_processes_that_ask_at_once_one_fetches(spec: CacheSpec, tmp_path: Path) -> None:
    data, log = _data(2), tmp_path / "log"

    def fetch() -> bytes:
        with log.open("a") as file:
            file.write("x")
        time.sleep(0.2)
        return data

    def work() -> None:
        assert bytes(_get(_opened(spec), data, fetch)) == data

    assert [_code(pid) for pid in [_child(work) for _ in range(6)]] == [0] * 6
    assert log.read_text() == "x"


def test_a_process_that_is_killed_while_it_fetches_keeps_nobody_waiting(
    spec: CacheSpec, cache: ShardCache, tmp_path: Path
) -> None:
    data, begun = _data(3), tmp_path / "begun"

    def fetch() -> bytes:
        begun.touch()
        time.sleep(WAIT_S)
        return b""

    pid = _child(lambda: _get(_opened(spec), data, fetch))
    _until(begun.exists)
    os.kill(pid, signal.SIGKILL)
    _code(pid)
    assert bytes(_get(cache, data)) == data


@pytest.mark.parametrize("at", ["_allocate", "_stamp"])
def test_a_process_that_is_killed_while_it_writes_leaves_nothing_that_is_believed(
    spec: CacheSpec, cache: ShardCache, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    data = _data(4)

    def work() -> None:
        monkeypatch.setattr(shard_cache, at, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        _get(_opened(spec), data)

    assert _code(_child(work)) == -signal.SIGKILL
    assert _files(spec) == ({f".{_name(data)}"} if at == "_allocate" else {_name(data)})
    assert bytes(_get(cache, data)) == data
    assert _files(spec) == {_name(data)}
    _get(_opened(spec), data, _never)


def test_what_a_killed_writer_left_makes_room_for_others(
    spec: CacheSpec, cache: ShardCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, other = _data(5, 10 * SIZE), _data(6)

    def work() -> None:
        monkeypatch.setattr(shard_cache.os, "fdopen", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        _get(_opened(spec), large)

    assert _code(_child(work)) == -signal.SIGKILL
    assert _files(spec) == {f".{_name(large)}"}
    assert isinstance(_get(cache, other), mmap.mmap)
    assert _files(spec) == {_name(other)}


def test_what_was_used_longest_ago_goes_and_who_reads_it_goes_on(spec: CacheSpec, cache: ShardCache) -> None:
    some = [_data(number) for number in range(10, 20)]
    held = [_get(cache, data) for data in some]
    for data in some[5:]:
        time.sleep(0.01)
        _get(cache, data, _never)
    time.sleep(0.01)
    _get(cache, some[0], _never)
    for number in range(20, 24):
        _get(cache, _data(number))
    assert [bytes(each) for each in held] == some
    assert not _files(spec) & {_name(data) for data in some[1:5]}
    assert _files(spec) >= {_name(data) for data in (some[0], *some[5:])}
    assert sum((spec.folder / name).stat().st_size for name in _files(spec)) <= spec.most_bytes
    cache.check()


@pytest.mark.parametrize("change", ["bytes", "shorter", "gone", "stamp"])
def test_a_file_that_was_changed_is_fetched_anew(spec: CacheSpec, cache: ShardCache, change: str) -> None:
    data = _data(7)
    del_later = _get(cache, data)
    del del_later
    path = spec.folder / _name(data)
    _change(path, change)
    assert bytes(_get(cache, data)) == data
    _get(_opened(spec), data, _never)


def _change(path: Path, change: str) -> None:
    if change == "gone":
        path.unlink()
        return
    if change == "stamp":
        path.with_name(f"{path.name}.lock").write_text("1 2 3 4")
        return
    before = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as file:
        if change == "shorter":
            file.truncate(SIZE // 2)
        else:
            file.write(b"?")
    # Whoever sets the times back does not hide it.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", ["bytes", "shorter"])
def test_a_file_that_is_changed_while_it_is_read_is_an_error(
    spec: CacheSpec, cache: ShardCache, change: str
) -> None:
    data = _data(8)
    held = _get(cache, data)
    cache.check()
    path = spec.folder / _name(data)
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(b"?") if change == "bytes" else file.truncate(10)
    with pytest.raises(StorageError, match="was changed while it was read"):
        cache.check()
    del held
    assert bytes(_get(cache, data)) == data


@pytest.mark.parametrize("why", ["too large", "disk full", "write fails", "folder gone"])
def test_without_room_it_is_read_as_it_was_fetched(
    spec: CacheSpec, cache: ShardCache, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    data = _data(9, 11 * SIZE if why == "too large" else SIZE)
    if why == "disk full":
        full = SimpleNamespace(f_bavail=10, f_blocks=100, f_frsize=4096)
        monkeypatch.setattr(shard_cache.os, "statvfs", lambda _: full)
    if why == "write fails":
        monkeypatch.setattr(shard_cache, "_allocate", _no_space)
    if why == "folder gone":
        shutil.rmtree(spec.folder)
    fetched: list[int] = []
    found = _get(cache, data, lambda: (fetched.append(1), data)[1])
    assert found == data and fetched == [1]
    assert not spec.folder.exists() or not _files(spec)


def _no_space(*_: object) -> None:
    raise OSError(28, "no space left")


def test_errors_of_the_fetch_are_its_own(spec: CacheSpec, cache: ShardCache) -> None:
    def fetch() -> bytes:
        raise FileNotFoundError("compacted")

    with pytest.raises(FileNotFoundError):
        _get(cache, _data(1), fetch)
    assert not _files(spec)


def test_leftovers_of_killed_runs_go_and_those_of_living_ones_stay(spec: CacheSpec, tmp_path: Path) -> None:
    living, dead = (CacheSpec.new(spec.most_bytes, spec.place) for _ in range(2))
    held = _opened(living)

    def work() -> None:
        _get(_opened(dead), _data(1))
        os.kill(os.getpid(), signal.SIGKILL)

    assert _code(_child(work)) == -signal.SIGKILL
    assert dead.folder.exists()
    other = tmp_path / "place" / "of-somebody-else"
    other.mkdir()
    _opened(spec).close()
    assert not dead.folder.exists()
    assert living.folder.exists() and other.exists()
    living.remove()
    assert not living.folder.exists()
    assert bytes(_get(held, _data(2))) == _data(2)


def test_a_folder_that_others_may_enter_is_not_used(spec: CacheSpec, tmp_path: Path) -> None:
    spec.folder.mkdir(parents=True, mode=0o755)
    assert spec.opened() is None
    spec.folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    spec.folder.symlink_to(tmp_path / "elsewhere")
    assert spec.opened() is None


def test_who_cannot_get_the_lock_fetches_for_itself(
    spec: CacheSpec, cache: ShardCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_cache, "_PATIENCE_S", 0.0)
    data = _data(1)

    def slow() -> bytes:
        assert _get(_opened(spec), data) == data
        return data

    assert isinstance(_get(cache, data, slow), mmap.mmap)
