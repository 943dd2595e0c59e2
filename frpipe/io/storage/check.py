"""Try out whether a folder or an object store does what outputs, galleries and nights rest on.

All that is tried is tried in a folder of its own, `frpipe-storage-check-*`, which is removed again.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from frpipe.core.errors import FrpipeError, StorageError
from frpipe.io.storage import uri as uris
from frpipe.io.storage.file_systems import remark_on, type_at
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.remote_store import RemoteStore

Verdict = Literal["ok", "warning", "fault", "not tried"]
FOLDER_PREFIX = "frpipe-storage-check-"
_RIVALS = 8
_RACES = 4
_REPEATS = 5
_RENAMES = 50
_LOW_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class StorageTrial:
    """One property that was tried. fault: frpipe cannot work there; warning: it can, with this in mind."""

    name: str
    verdict: Verdict
    detail: str


@dataclass(frozen=True, slots=True)
class StorageCheck:
    """The result of trying a store.

    store: its scheme, bucket and endpoint, or the type of its file system.
    """

    uri: str
    store: str
    trials: tuple[StorageTrial, ...]

    @property
    def faults(self) -> tuple[StorageTrial, ...]:
        """The trials that keep frpipe from working there."""
        return tuple(trial for trial in self.trials if trial.verdict == "fault")

    def as_dict(self) -> dict[str, Any]:
        return {
            "uri": self.uri,
            "store": self.store,
            "usable": not self.faults,
            "checks": [asdict(trial) for trial in self.trials],
        }


def check_storage(uri: str, *, read_only: bool = False) -> StorageCheck:
    """Try out a place. read_only: only whether photos and manifests can be read from it.

    Nothing is raised for what storage refuses: that is a trial with a fault. Raises StorageError for a URI
    that is none.
    """
    folder = Folder.at(uri)
    return StorageCheck(folder.uri, _store_name(folder), tuple(_trials(folder, read_only)))


def _trials(folder: Folder, read_only: bool) -> Iterator[StorageTrial]:
    reachable = _tried("list", lambda: _list(folder, read_only))
    yield reachable
    if reachable.verdict == "fault":
        return
    yield _tried("read", lambda: _read(folder))
    if read_only:
        return
    if uris.split(folder.uri)[0] not in {"", *uris.WRITABLE}:
        yield StorageTrial(
            "write", "fault", "this kind of store is only read: that one of two writers wins is unproven"
        )
        return
    try:
        with _scratch(folder) as scratch:
            write = _tried("write", lambda: _write(scratch))
            yield write
            if write.verdict != "fault":
                yield from _written(scratch)
    except FrpipeError as error:
        yield StorageTrial("delete", "fault", f"what was tried could not be removed: {error.message}")
    except OSError as error:
        yield StorageTrial("write", "fault", error.strerror or type(error).__name__)


def _written(scratch: Folder) -> Iterator[StorageTrial]:
    tried: list[tuple[str, Callable[[], StorageTrial | str]]] = [
        ("create once", lambda: _create(scratch)),
        ("create by rivals", lambda: _race(scratch)),
        ("overwrite", lambda: _overwrite(scratch)),
        ("list after write", lambda: _listed(scratch)),
        ("delete", lambda: _delete(scratch)),
        ("latency", lambda: _latency(scratch)),
    ]
    if scratch.is_local:
        path = Path(uris.split(scratch.uri)[1])
        tried += [
            ("rename", lambda: _rename(path)),
            ("fsync", lambda: _fsync(path)),
            ("private files", lambda: _modes(path)),
            ("names", lambda: _names(path)),
            ("free space", lambda: _space(path)),
            ("file system", lambda: _file_system(path)),
        ]
    for name, trial in tried:
        yield _tried(name, trial)


def _tried(name: str, trial: Callable[[], StorageTrial | str]) -> StorageTrial:
    """Carry out a trial: its own verdict, `ok` with what it says, or the fault that it ended with."""
    try:
        found = trial()
    except FileNotFoundError:
        return StorageTrial(name, "fault", "there is no such file or folder, or it is gone again")
    except StorageError as error:
        return StorageTrial(name, "fault", error.message)
    except OSError as error:
        return StorageTrial(name, "fault", error.strerror or type(error).__name__)
    return StorageTrial(name, "ok", found) if isinstance(found, str) else found


def _list(folder: Folder, read_only: bool) -> str:
    if folder.is_local and not Path(uris.split(folder.uri)[1]).is_dir():
        if read_only:
            raise StorageError("there is no such folder")
        return "there is no such folder yet"
    return "there are files" if next(folder.walk(), None) is not None else "empty"


def _read(folder: Folder) -> StorageTrial | str:
    name = next(folder.walk(), None)
    if name is None:
        return StorageTrial("read", "not tried", "there is no file to read")
    with folder.open(name) as file:
        file.read(1)
    return "the first file can be read"


def _write(scratch: Folder) -> str:
    scratch.write("written", b"written")
    if scratch.read("written") != b"written":
        raise StorageError("what is read is not what was written")
    return "what was written is read back"


def _create(scratch: Folder) -> StorageTrial | str:
    first, second = scratch.create("once", b"1"), scratch.create("once", b"2")
    if not first:
        return StorageTrial("create once", "fault", "a file that was not there is said to be there")
    if second or scratch.read("once") != b"1":
        return StorageTrial("create once", "fault", "a file that was there was created again")
    return "a file that is there is not created again"


def _race(scratch: Folder) -> StorageTrial | str:
    barrier = threading.Barrier(_RIVALS)

    def rival(number: int) -> list[bool]:
        mine = Folder(scratch.uri)
        won = []
        for turn in range(_RACES):
            with suppress(threading.BrokenBarrierError):
                barrier.wait(10)
            won.append(mine.create(f"race-{turn}", str(number).encode()))
        return won

    with ThreadPoolExecutor(_RIVALS) as pool:
        outcomes = list(zip(*pool.map(rival, range(_RIVALS)), strict=True))
    for turn, outcome in enumerate(outcomes):
        kept = int(scratch.read(f"race-{turn}"))
        if sum(outcome) != 1 or not outcome[kept]:
            told = f"of {_RIVALS} writers at once {sum(outcome)} were told that they won"
            return StorageTrial("create by rivals", "fault", told)
    return f"of {_RIVALS} writers at once one wins, {_RACES} times"


def _overwrite(scratch: Folder) -> StorageTrial | str:
    versions = []
    for content in (b"1", b"2"):
        scratch.write("again", content)
        versions.append(scratch.entry("again").version)
        if scratch.read("again") != content:
            return StorageTrial("overwrite", "fault", "an older content is read after it was written over")
    if versions[0] == versions[1]:
        told = "a new content of the same size is not told from the old one: nights would miss changed photos"
        return StorageTrial("overwrite", "warning", told)
    return "the new content is seen at once, and told from the old one"


def _listed(scratch: Folder) -> StorageTrial | str:
    names = [f"listed/{number}" for number in range(3)]
    for name in names:
        scratch.write(name, b"x")
    if [entry.name for entry in scratch.list("listed")] != names:
        return StorageTrial("list after write", "fault", "what was written is not listed at once")
    scratch.delete(names[0])
    if [entry.name for entry in scratch.list("listed")] != names[1:]:
        return StorageTrial("list after write", "fault", "what was deleted is still listed")
    return "what is written and deleted shows at once"


def _delete(scratch: Folder) -> StorageTrial | str:
    scratch.write("deleted", b"x")
    scratch.delete("deleted")
    if scratch.exists("deleted"):
        return StorageTrial("delete", "fault", "what was deleted is still there")
    return "what is deleted is gone"


def _latency(scratch: Folder) -> str:
    write = _median_ms(lambda: scratch.write("timed", b"x"))
    read = _median_ms(lambda: scratch.read("timed"))
    return f"write {write:.1f} ms, read {read:.1f} ms (median of {_REPEATS} small files)"


def _rename(path: Path) -> StorageTrial | str:
    """Try whether a reader sees one whole content or the other while a file is replaced again and again."""
    target, contents = path / "renamed", (b"a" * 4096, b"b" * 4096)
    target.write_bytes(contents[0])
    stop, wrong = threading.Event(), []

    def watch() -> None:
        while not stop.is_set():
            try:
                seen = target.read_bytes()
            except OSError:
                seen = b""
            if seen not in contents:
                wrong.append(len(seen))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    for number in range(_RENAMES):
        new = path / f"new-{number}"
        new.write_bytes(contents[number % 2])
        new.replace(target)
    stop.set()
    watcher.join()
    if wrong:
        return StorageTrial("rename", "fault", "a file that is exchanged is absent or cut for a moment")
    return "a file is exchanged whole"


def _fsync(path: Path) -> str:
    def write_through() -> None:
        for place, flags in ((path / "synced", os.O_WRONLY | os.O_CREAT), (path, os.O_RDONLY)):
            handle = os.open(place, flags, 0o600)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    return (
        f"file and folder, {_median_ms(write_through):.1f} ms; whether the disk keeps its word cannot be seen"
    )


def _modes(path: Path) -> StorageTrial | str:
    target = path / "private"
    target.touch(0o600)
    target.chmod(0o600)
    if target.stat().st_mode & 0o077:
        return StorageTrial(
            "private files", "warning", "modes are not kept: others on the machine may read what is written"
        )
    return "modes are kept (0600)"


def _names(path: Path) -> StorageTrial | str:
    (path / "Case").touch()
    composed = unicodedata.normalize("NFC", "Zoe\u0308")
    (path / composed).touch()
    found = []
    if (path / "cASE").exists():
        found.append("upper and lower case are one: photos whose names differ only so replace each other")
    if (path / unicodedata.normalize("NFD", composed)).exists():
        found.append("two spellings of one letter (NFC, NFD) are one")
    if composed not in {each.name for each in path.iterdir()}:
        found.append("names come back in another Unicode form than they were written in")
    return StorageTrial("names", "warning", "; ".join(found)) if found else "are kept as written"


def _space(path: Path) -> StorageTrial | str:
    found = os.statvfs(path)
    free, inodes = found.f_bavail * found.f_frsize, found.f_favail
    told = f"{free / 1e9:,.1f} GB free" + (f", {inodes:,} files" if found.f_files else "")
    is_low = free < _LOW_BYTES or (found.f_files and inodes < 10_000)
    return StorageTrial("free space", "warning" if is_low else "ok", told)


def _file_system(path: Path) -> StorageTrial | str:
    kind = type_at(path)
    remark = remark_on(kind)
    return StorageTrial("file system", "warning", f"{kind}: {remark}") if remark else kind


def _median_ms(do: Callable[[], object]) -> float:
    taken = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        do()
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


@contextmanager
def _scratch(folder: Folder) -> Iterator[Folder]:
    """Use a scratch folder inside; it and the folders that had to be made for it are removed at the end."""
    name = f"{FOLDER_PREFIX}{uuid.uuid4().hex[:12]}"
    made = _missing(folder)
    try:
        yield folder.child(name)
    finally:
        folder.clear(name)
        for path in made:
            with suppress(OSError):
                path.rmdir()


def _missing(folder: Folder) -> list[Path]:
    """The folders that are not there yet, the innermost first."""
    if not folder.is_local:
        return []
    path = Path(uris.split(folder.uri)[1])
    return [each for each in (path, *path.parents) if not each.exists()]


def _store_name(folder: Folder) -> str:
    if not folder.is_local:
        with suppress(Exception):
            return RemoteStore(folder.uri).address
        return f"{uris.split(folder.uri)[0]}://"
    path = Path(uris.split(folder.uri)[1])
    return type_at(next(each for each in (path, *path.parents) if each.exists()))
