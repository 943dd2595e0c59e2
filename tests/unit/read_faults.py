"""Reads of storage that fail in ten ways, and everything that reads what jobs, galleries and nights keep.

No cluster is started: jobs do their units in this process, one after the other.
"""

from __future__ import annotations

import errno
import io
import os
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from erase_runs import ROWS, finished_run, image_id
from part_work import PartsOf

from frpipe.cli.exits import guarded
from frpipe.cli.main import main
from frpipe.core.errors import StorageError
from frpipe.core.night_config import NightConfig
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.output.plan import load_plan
from frpipe.io.output.run import ListedFiles
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.local_store import LocalStore
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.contract import until_whole
from frpipe.jobs.dedup.job import Dedup
from frpipe.jobs.erase.job import Erase
from frpipe.jobs.evaluate import output as metrics_output
from frpipe.jobs.evaluate.all_pairs.job import AllPairs
from frpipe.jobs.evaluate.job import Asked, IdentificationMetrics, VerificationMetrics
from frpipe.jobs.evaluate.pair_results import PairColumns
from frpipe.jobs.gallery_files import export, import_file
from frpipe.jobs.identify.job import Identifying
from frpipe.jobs.nightly import photos
from frpipe.jobs.nightly.history import enter
from frpipe.jobs.nightly.job import Night
from frpipe.jobs.nightly.journal import NIGHT, encoded, read_record
from frpipe.jobs.rejects import Choice
from frpipe.jobs.replay.merge import Merge
from frpipe.jobs.replay.plan import copy_plan, cut
from frpipe.jobs.replay.source import ReplaySource
from frpipe.jobs.rescan.affected import FACE_NAMES, IMAGE_NAMES
from frpipe.jobs.verify.job import PairVerification
from frpipe.testing.executors import InThisProcess, SameProcess

DATE = "2026-11-24"
Spoil = Callable[[bytes], bytes]


def _raise(make: Callable[[], Exception], _: bytes) -> bytes:
    raise make()


def _cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def _flip(data: bytes) -> bytes:
    """One bit, where the values of a Parquet file are."""
    place = len(data) // 3
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :] if data else data


def _no_text() -> Exception:
    return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


KINDS: dict[str, Spoil] = {
    "ArrowMemoryError": partial(_raise, lambda: pa.ArrowMemoryError("malloc of size 64 failed")),
    "ArrowNotImplementedError": partial(_raise, lambda: pa.ArrowNotImplementedError("unknown type")),
    "EIO": partial(_raise, lambda: OSError(errno.EIO, os.strerror(errno.EIO))),
    "PermissionError": partial(_raise, lambda: PermissionError(errno.EACCES, os.strerror(errno.EACCES))),
    "FileNotFoundError": partial(_raise, lambda: FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))),
    "short read": _cut,
    "no answer": partial(_raise, lambda: StorageError("the object store does not answer", "wait")),
    "UnicodeDecodeError": partial(_raise, _no_text),
    "a wrong bit": _flip,
    "MemoryError": partial(_raise, MemoryError),
}
# A file that always reads alike is what it reads as, and no fault of a read.
_ONCE = frozenset({"short read", "a wrong bit"})
# Files that a digest was recorded of: elsewhere a wrong bit may be a value like any other.
_RECORDED = re.compile(r"(out|verified|dedup|dedup-g|found|pairs)/(?!_plan).*[.]parquet|g/(?!shards).*")
# These read what is not sealed, or before it was.
_BEFORE_THE_END = ("resumed", "audit", "erase")
# Of these Arrow itself may fail, on bytes that are right.
_OF_ARROW = frozenset({"ArrowMemoryError", "ArrowNotImplementedError", "MemoryError"})


@dataclass
class Fault:
    """What befalls reads of one file, named by its place in a bench; None: it only takes note of reads.

    of_arrow: Arrow fails with the bytes of the file, and not the read.
    """

    root: Path
    name: str | None = None
    spoil: Spoil = bytes
    once: bool = True
    of_arrow: bool = False
    seen: list[str] = field(default_factory=list)
    struck: int = 0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While it lasts."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda _: None)
            patch.setattr(LocalStore, "read", self._read(LocalStore.read))
            patch.setattr(LocalStore, "open", self._open(LocalStore.open))
            patch.setattr(pq.ParquetFile, "read", self._parse(pq.ParquetFile.read))
            yield

    def _hits(self, store: LocalStore, name: str) -> bool:
        place = os.path.relpath(f"{store._root}/{name}", self.root)
        # A report names what it was made from where that was: in the bench itself.
        place = place.rpartition("/bench/")[2]
        self.seen.append(place)
        hit = place == self.name and not (self.once and self.struck)
        self.struck += hit
        return hit

    def _read(self, real: Callable[..., bytes]) -> Callable[..., bytes]:
        def read(store: LocalStore, name: str) -> bytes:
            data = real(store, name)
            return self.spoil(data) if self._hits(store, name) and not self.of_arrow else data

        return read

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(store: LocalStore, name: str, ahead: int | None) -> Any:
            file = real(store, name, ahead)
            return _Spoilt(file, self.spoil) if self._hits(store, name) and not self.of_arrow else file

        return opened

    def _parse(self, real: Callable[..., Any]) -> Callable[..., Any]:
        parsed = 0

        def read(file: pq.ParquetFile, *words: Any, **more: Any) -> Any:
            nonlocal parsed
            if self.of_arrow and self.struck > parsed:
                parsed = self.struck
                self.spoil(b"")
            return real(file, *words, **more)

        return read


class _Spoilt(io.RawIOBase):
    """An open file whose first read goes wrong."""

    def __init__(self, file: Any, spoil: Spoil) -> None:
        self._file, self._spoil = file, spoil

    def read(self, count: int = -1) -> bytes:
        data, spoil, self._spoil = self._file.read(count), self._spoil, bytes
        return spoil(data)

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(memoryview(buffer).cast("B")))
        memoryview(buffer).cast("B")[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def without_plots() -> Iterator[None]:
    """Plots take seconds, and read nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics_output, "figures", lambda _: [])
        yield


# A read fails in the process that injects it.
HERE = InThisProcess()


class Bench:
    """A folder with an output of every job, galleries, a night; and readers by name, each given its copy.

    A reader returns what can be compared. It may write to `new`, and to what is named for it in OWN.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        features = finished_run(place)
        (place / "list.csv").write_text(
            "a,b\n" + "".join(f"{image_id(row)},{image_id(7)}\n" for row in range(ROWS) if row != 7)
        )
        Consolidation(features.uri, str(place / "g")).run()
        lifecycle.delete(Gallery.open(str(place / "g")), ["person-9"])
        export(Gallery.open(str(place / "g")), str(place / "g.parquet"), layout="parquet")
        for job in (_verify, _dedup, _dedup_gallery, _identify, _all_pairs):
            job(place, place)
        _night(place)

    def copy(self, place: Path) -> Path:
        """Files are never changed in place: links do."""
        shutil.copytree(self.place, place, copy_function=os.link)
        return place


def _verify(at: Path, to: Path) -> object:
    job = PairVerification(str(at / "list.csv"), str(at / "out"), str(to / "verified"), threshold=0.5)
    return job.run().as_dict()["pairs"]


def _dedup(at: Path, to: Path) -> object:
    report = Dedup(str(to / "dedup"), features=str(at / "out"), threshold=0.1, runtime=HERE).run()
    return {name: report[name] for name in ("pairs", "clusters", "templates")}


def _dedup_gallery(at: Path, to: Path) -> object:
    report = Dedup(str(to / "dedup-g"), gallery=str(at / "g"), threshold=0.1, runtime=HERE).run()
    return {name: report[name] for name in ("pairs", "clusters", "templates")}


def _dedup_since(at: Path, to: Path) -> object:
    since = str(at / "dedup-g")
    report = Dedup(str(to / "since"), gallery=str(at / "g"), threshold=0.1, since=since, runtime=HERE).run()
    return {name: report[name] for name in ("pairs", "clusters", "carried_pairs")}


def _identify(at: Path, to: Path) -> object:
    job = Identifying(str(at / "out"), str(at / "g"), str(to / "found"), k=3, threshold=0.4, runtime=HERE)
    report = job.run()
    return {name: report[name] for name in ("rows", "identified", "strangers")}


def _all_pairs(at: Path, to: Path) -> object:
    found = AllPairs(str(to / "pairs"), features=str(at / "out"), thresholds=(0.3,), runtime=HERE).run()
    return dict(found.evaluation.counts)


def _night(place: Path) -> None:
    runs, config = Folder.at(str(place / "runs")), _config(place)
    enter(runs, DATE)
    folder = runs.child(DATE)
    run.claim(
        folder,
        {"job": "night", "date": DATE, **config.identity()},
        {"base": {"night": None, "gallery_version": None}},
    )
    scan = {"new": 1, "changed": 0, "vanished": 0, "known_before": 0, "listed": 1}
    steps = {"scan": {**scan, "people_without_photos": 0}}
    folder.write(NIGHT, encoded({"steps": steps, "pins": {}}))
    report = {"night": DATE, "last_night": None, "held_back": False, "steps": steps, "last_steps": {}}
    report |= {"reasons": [], "throughput": [], "gates": [], "lists": {}, "output": ""}
    report["cost"] = {"nodes": 1, "spent_s": 1.0}
    facts = {"bytes": [1] * ROWS, "version": ["v"] * ROWS, "subject_id": pa.nulls(ROWS, pa.string())}
    listing = pa.table({"image_id": [image_id(row) for row in range(ROWS)], **facts})
    photos.write_table(folder.child("scan"), photos.LISTING, listing)
    photos.write_again(folder.child("scan"), Folder.at(str(place / "out")))
    run.seal(folder, [], report, "")


def _config(place: Path) -> NightConfig:
    off = {name: {"enabled": False} for name in ("dedup", "identify", "drift")}
    places = {"runs": str(place / "runs"), "gallery": "/none/gallery", "photos": "/none/photos"}
    return NightConfig.model_validate({**places, **off})


def _cli(*words: str) -> str:
    """What a command prints; its error, as it was raised, where it fails."""
    said = io.StringIO()
    with redirect_stdout(said), pytest.MonkeyPatch.context() as patch:
        patch.setattr("frpipe.cli.exits.guarded", lambda command: command())
        code = main(list(words))
    return f"{code} {said.getvalue()}"


def _resumed(job: Callable[[Path, Path], object], name: str, at: Path) -> object:
    """A job whose result was left before its end."""
    Folder.at(str(at / name)).delete(run.SUCCESS)
    run._records.clear()
    return job(at, at)


def _metrics(at: Path, to: Path) -> object:
    asked = Asked([str(at / "verified")], str(to / "metrics"), targets=[0.5])
    return VerificationMetrics(asked, PairColumns()).run()["systems"]


def _search_metrics(at: Path, to: Path) -> object:
    asked = Asked([str(at / "found")], str(to / "metrics"), targets=[0.5])
    return IdentificationMetrics(asked).run()["systems"]


def _replay(at: Path, to: Path) -> object:
    source = ReplaySource.open(str(at / "out"))
    choice, out = Choice.of([], True), Folder.at(str(to / "replayed"))
    hits = source.hits(choice)
    plan = cut(source, choice, hits, "auto", out.child("_replay"), workers=1)
    copy_plan(source.files.folder, out, source.plan)
    first_alone: Any = SimpleNamespace(further={})
    Merge(source.files, ListedFiles(out, {}), choice, {}, first_alone, out).write(range(source.plan.parts))
    return plan.rows, _tables(out)


def _rescan(at: Path, _: Path) -> object:
    tables = Features.at(str(at / "out")).tables(IMAGE_NAMES, FACE_NAMES)
    return [(images.num_rows, faces.num_rows) for images, faces in tables]


def _audit(at: Path, _: Path) -> object:
    out = Folder.at(str(at / "out"))
    out.delete(run.SUCCESS)

    def work(parts: Any) -> int:
        assert not parts, "a part was withdrawn"
        return 0

    found, _rows = until_whole(PartsOf(load_plan(out), work), out, SameProcess(), lambda _: None)
    return found.tally.rows, found.tally.faces


def _erase(at: Path, _: Path) -> object:
    out = Folder.at(str(at / "out"))
    done = Erase(out.uri, frozenset({"person-0"}), frozenset()).run()
    return done.images, _tables(out)


def _consolidate(at: Path, to: Path) -> object:
    Consolidation(str(at / "out"), str(to / "g2")).run()
    return _people(to / "g2")


def _import(file: str, at: Path, to: Path) -> object:
    gallery = Gallery.create(str(to / "g2"), Gallery.open(str(at / "g")).spec)
    import_file(gallery, str(at / file))
    return _people(to / "g2")


def _nightly(at: Path, _: Path) -> object:
    folder = Folder.at(str(at / "runs" / DATE))
    report, error = Night(_config(at), DATE, HERE).run()
    known = photos.known_of(folder.child("scan"))
    again = photos.write_again(folder.child("scan"), Folder.at(str(at / "out")))
    return report["steps"], error, read_record(folder)["steps"], known and known.table().num_rows, again


def _people(place: Path) -> list[Any]:
    tables = [table.drop(["enrolled_at"]) for table in Gallery.open(str(place)).snapshot().tables()]
    return sorted((row for table in tables for row in table.to_pylist()), key=str)


def _tables(out: Folder) -> list[Any]:
    return [pq.read_table(f"{out.uri}/{sub}").to_pylist() for sub in ("images", "faces")]


Reader = Callable[[Path, Path], object]
READERS: dict[str, Reader] = {
    "rejects": lambda at, _: _cli("rejects", str(at / "out"), "--json").replace(str(at), ""),
    "rejects to a manifest": lambda at, to: _cli(
        "rejects", str(at / "out"), "--no-face", "--manifest", str(to / "again.csv")
    ).replace(str(to), ""),
    "rescan": _rescan,
    "replay": _replay,
    "audit": _audit,
    "erase": _erase,
    "consolidate": _consolidate,
    "verify": _verify,
    "verify resumed": lambda at, _: _resumed(_verify, "verified", at),
    "dedup": _dedup,
    "dedup resumed": lambda at, _: _resumed(_dedup, "dedup", at),
    "dedup of a gallery": _dedup_gallery,
    "dedup since": _dedup_since,
    "identify": _identify,
    "identify resumed": lambda at, _: _resumed(_identify, "found", at),
    "all pairs": _all_pairs,
    "all pairs resumed": lambda at, _: _resumed(_all_pairs, "pairs", at),
    "all pairs complete": lambda at, _: _all_pairs(at, at),
    "metrics of pairs": _metrics,
    "metrics of searches": _search_metrics,
    "nightly": _nightly,
    "gallery show": lambda at, _: _people(at / "g"),
    "gallery verify": lambda at, _: _cli("gallery", "verify", str(at / "g")),
    "gallery log": lambda at, _: _cli("gallery", "log", str(at / "g")).replace(str(at), ""),
    "gallery import": partial(_import, "g.parquet"),
    "check": lambda at, _: _cli("check", str(at)).replace(str(at), ""),
    "check and mend": lambda at, _: _cli("check", str(at), "--mend").replace(str(at), ""),
}
"""By name: what reads in `at`, and writes to `to`."""
_EVALUATION = tuple(f"pairs/{name}" for name in ("_SUCC", "files", "report", "numbers", "curves", "diff"))
# What a reader that writes may put another file in place of, or take away.
OWN: dict[str, tuple[str, ...]] = {
    "audit": ("out/_SUCCESS",),
    "erase": ("out/",),
    "verify resumed": ("verified/_SUCCESS", "verified/files.json", "verified/report"),
    "dedup resumed": ("dedup/_SUCCESS", "dedup/files.json", "dedup/report", "dedup/clusters.parquet"),
    "identify resumed": ("found/_SUCCESS", "found/files.json", "found/report"),
    "all pairs resumed": tuple(
        f"pairs/{name}" for name in ("_SUCC", "files", "rep", "num", "cur", "dif", "plo")
    ),
    "all pairs complete": tuple(
        f"pairs/{name}" for name in ("_SUCC", "files", "rep", "num", "cur", "dif", "plo")
    ),
    "nightly": ("runs/",),
}


@dataclass(frozen=True)
class Told:
    """How a reader ended. files: of its copy of the bench, by name: what tells one file from another."""

    code: int
    said: str
    result: object
    files: dict[str, tuple[int, int]]


def ended(reader: str, bench: Bench, place: Path, fault: Fault) -> Told:
    """Run a reader on a copy of the bench, beside which it may write."""
    at, to = bench.copy(place / "bench"), place / "new"
    to.mkdir()
    said, result = io.StringIO(), []

    def use() -> int:
        result.append(READERS[reader](at, to))
        printed = re.match(r"(\d+) ", result[0]) if isinstance(result[0], str) else None
        said.write(str(result[0]) if printed and printed[1] != "0" else "")
        return int(printed[1]) if printed else 0

    run._records.clear()
    with without_plots(), fault.at_work(), redirect_stderr(said):
        code = guarded(use)
    return Told(code, said.getvalue(), result[0] if result else None, files(at))


def files(place: Path) -> dict[str, tuple[int, int]]:
    """Inode and size of each file."""
    found = {}
    for folder, _, names in os.walk(place):
        for name in names:
            path = Path(folder, name)
            stat = path.stat()
            found[str(path.relative_to(place))] = (stat.st_ino, stat.st_size)
    return found


@dataclass(frozen=True)
class Case:
    """A read that fails. name: of the file, by its place in a bench; once: or each time."""

    reader: str
    kind: str
    name: str
    once: bool
    of_arrow: bool


@dataclass(frozen=True)
class Undisturbed:
    """How each reader ends by itself, and what it reads, by its name."""

    bench: Bench
    told: dict[str, Told]
    seen: dict[str, list[str]]

    @classmethod
    def of(cls, bench: Bench, place: Path) -> Undisturbed:
        """Each of them, undisturbed."""
        told, seen = {}, {}
        for number, reader in enumerate(READERS):
            fault = Fault(place / str(number) / "bench")
            told[reader] = ended(reader, bench, place / str(number), fault)
            seen[reader] = sorted(set(fault.seen))
        return cls(bench, told, seen)

    def cases(self, count: int, seed: int) -> Iterator[Case]:
        """Every kind and every reader in turn, the rest by chance."""
        chance = random.Random(seed)
        kinds, readers = list(KINDS), list(READERS)
        chance.shuffle(readers)
        for number in range(count):
            kind, reader = kinds[number % len(kinds)], readers[number % len(readers)]
            names = self.seen[reader]
            if kind == "a wrong bit":
                names = [name for name in names if _RECORDED.fullmatch(name)]
                if not names or reader.endswith(_BEFORE_THE_END):
                    kind, names = "short read", self.seen[reader]
            if kind.startswith("Arrow") or kind == "UnicodeDecodeError":
                # Of a list that is text Arrow is not asked, where Python reads it; and one that is not UTF-8
                # is the fault of whoever wrote it: exit code 3.
                names = [name for name in names if not name.endswith(".csv")]
            name = chance.choice(names)
            of_arrow = kind in _OF_ARROW and name.endswith(".parquet") and chance.random() < 0.5
            yield Case(reader, kind, name, kind in _ONCE or chance.random() < 0.5, of_arrow)

    def wrong(self, case: Case, place: Path, ends: Counter[int]) -> list[str]:
        """What is wrong with how a reader ends if a read fails, in words; none: all is right.

        ends: counts exit codes.
        """
        fault = Fault(place / "bench", case.name, KINDS[case.kind], case.once, case.of_arrow)
        told, usual = ended(case.reader, self.bench, place, fault), self.told[case.reader]
        ends[told.code] += 1
        found = [] if fault.struck else ["nothing was struck"]
        if told.code == 0 and told.result != usual.result:
            found.append("it ended well, with something else")
        # 3: a list of pairs that is text, and is not UTF-8.
        if told.code not in {0, 6, 7, 10, 11, *([3] if case.name == "list.csv" else ())}:
            found.append(f"its exit code is {told.code}")
        if told.code and "->" not in told.said:
            found.append("no remedy")
        if any(word in told.said for word in ("damaged", "is not there", "changed since", "other settings")):
            found.append("it blames the file")
        own, before = OWN.get(case.reader, ()), files(self.bench.place)
        marks = [name for name in before if name.startswith(own) and name.endswith(run.SUCCESS)]
        lost = [name for name in before if name not in told.files and name not in marks]
        other = [
            n for n in before if n in told.files and told.files[n] != before[n] and not n.startswith(own)
        ]
        found += [f"{name} is gone" for name in lost] + [f"{name} is another" for name in other]
        return [f"{case}: {', '.join(found)}: {told.said.strip()[-300:]}"] if found else []
