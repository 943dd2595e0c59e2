"""Check an output: hash every file, say what is missing, damaged or not the run's, and take it back.

An output is that of any job, or a folder of such: each `run.json` below it is a run of its own.
"""

from __future__ import annotations

import json
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from frpipe.core.config import Config
from frpipe.core.counted import counted
from frpipe.core.errors import FileDamaged, OutputError
from frpipe.io.output import run
from frpipe.io.output.parts import (
    EMBEDDINGS,
    FACES,
    HELD,
    IMAGES,
    PartFile,
    check_beside,
    check_part,
    done_parts,
    part_name,
    part_number,
    withdraw_part,
)
from frpipe.io.output.plan import PLAN, load_plan, read_part
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.in_order import in_order
from frpipe.io.storage.whole_file import as_table, read_json, read_whole
from frpipe.jobs.features import flat

Say = Callable[[str], None]
ENROLL, NIGHT = "enroll", "night"
GONE, DAMAGED, STRANGE = "is not there", "is damaged", "is not in the list of the run's files"
_SCRIPTS = {"all-pairs": "metrics", NIGHT: "nightly"}
# Of the work of a run that is under way: no results.
_SCRATCH = frozenset({PLAN, "_replay", "_attempts"})
_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, order=True)
class FileProblem:
    """A problem of a file, and whether its job makes the file anew once it is taken back."""

    file: str
    what: str
    mendable: bool = True


@dataclass(frozen=True, slots=True)
class CheckedRun:
    """The result of checking one run.

    bytes: read.  mended: whether what could be was withdrawn.  again: how to redo it.
    """

    run: str
    job: str
    finished: bool
    files: int
    bytes: int
    problems: tuple[FileProblem, ...]
    mended: bool
    again: str

    @property
    def whole(self) -> bool:
        """Whether the run has ended and is as it was written."""
        return self.finished and not self.problems

    @property
    def mendable(self) -> bool:
        """Whether mending would help."""
        return not self.mended and any(each.mendable for each in self.problems)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form of the result."""
        return {**asdict(self), "whole": self.whole}


@dataclass(frozen=True, slots=True)
class Check:
    """A check of all runs below a place.

    mend: withdraw what is damaged or lacks its other half; nobody else may be at work there.
    """

    uri: str
    mend: bool = False
    say: Say = lambda _: None

    def run(self) -> list[CheckedRun]:
        """Check all runs below, by their places.

        Raises OutputError: there is none, or an erasure is under way and would be mended; StorageError,
        OutOfMemory: it cannot be told.
        """
        folder = Folder.at(self.uri)
        names = list(folder.walk())
        places = sorted(name.rpartition("/")[0] for name in names if name.rpartition("/")[2] == run.RUN)
        if not places:
            raise OutputError(
                f"there is no output below {self.uri}",
                "give the --output of a job; `frpipe gallery verify` checks a gallery",
            )
        progress = _Progress(self.say)
        return [self._checked(folder, place, names, places, progress) for place in places]

    def _checked(
        self, folder: Folder, place: str, names: Sequence[str], places: Sequence[str], progress: _Progress
    ) -> CheckedRun:
        start = f"{place}/" if place else ""
        inner = tuple(f"{each}/" for each in places if each != place and each.startswith(start))
        own = [n[len(start) :] for n in names if n.startswith(start) and not n.startswith(inner)]
        one = _Run(folder.child(place) if place else folder, own, progress)
        problems = tuple(sorted(one.problems()))
        if any(each.file.startswith(f"{PLAN}/") for each in problems):
            # Nothing is done anew without the plan: what is whole stays readable.
            problems = tuple(replace(each, mendable=False) for each in problems)
        finished = one.finished
        mended = self.mend and any(each.mendable for each in problems)
        if mended:
            one.mend(problems)
        return CheckedRun(
            one.out.uri, one.job, finished, len(own), one.read, problems, mended, again(one.out, one.job)
        )


class _Run:
    """A run to check. names: of its files, without those of runs inside it."""

    def __init__(self, out: Folder, names: Sequence[str], progress: _Progress) -> None:
        self.out, self.names, self.read, self._progress = out, names, 0, progress
        self.finished = run.SUCCESS in names

    @cached_property
    def job(self) -> str:
        """The name of the job, which run.json of enroll does not say."""
        return str(run.begun(self.out).get("identity", {}).get("job", ENROLL))

    def problems(self) -> Iterator[FileProblem]:
        """Iterate over problems of the run, found file by file."""
        if self.out.exists(run.ERASING):
            yield FileProblem(
                run.ERASING, "says that people are being taken out of it, or that broke off", False
            )
        if self.job == ENROLL:
            yield from self._plan()
        listed = self._list() if self.finished else None
        # Once later nights have ended, no command of its job writes a night's own files anew.
        mendable = self.job != NIGHT
        if listed is None:
            if self.finished:
                yield FileProblem(run.FILES, DAMAGED, mendable)
            yield from self._published()
            return
        known = {file.name: file for file in listed}

        def look(name: str) -> FileProblem | None:
            file = known[name]
            return self._look(name, file.bytes, lambda: read_whole(self.out, name, len, file.sha256))

        found = self._each(look, sorted(known))
        yield from (FileProblem(each.file, each.what, mendable) for each in found)
        try:
            read_json(self.out, run.REPORT)
        except (FileNotFoundError, FileDamaged):
            yield FileProblem(run.REPORT, DAMAGED, mendable)
        folders = {name.rpartition("/")[0] for name in known if "/" in name}
        for name in self.names:
            if name.rpartition("/")[0] in folders and name not in known:
                yield FileProblem(name, STRANGE, mendable=False)

    def mend(self, problems: Sequence[FileProblem]) -> None:
        """Withdraw the files that can be made anew."""
        if self.out.exists(run.ERASING):
            raise OutputError(*run.erasure_under_way(self.out))
        # A reader that has it open learns that the run is not finished; its job, that something is missing.
        run.reopen(self.out)
        for each in (problem for problem in problems if problem.mendable):
            part, folder = part_number(each.file), each.file.partition("/")[0]
            if part is not None and self.job == ENROLL and folder in {IMAGES, FACES, HELD, EMBEDDINGS}:
                withdraw_part(self.out, part)
            elif part is not None:
                self.out.delete(each.file)

    def _list(self) -> list[PartFile] | None:
        try:
            return run.file_list(self.out)
        except (FileNotFoundError, FileDamaged):
            return None

    def _published(self) -> Iterator[FileProblem]:
        """Iterate over problems of a run that has not ended, by the marks and checksums of its files."""
        if self.job == ENROLL:
            yield from self._each(self._look_at_part, sorted(done_parts(self.out)))
            return
        names = [n for n in self.names if part_number(n) is not None and n.partition("/")[0] not in _SCRATCH]
        yield from self._each(
            lambda name: self._look(name, 0, lambda: read_whole(self.out, name, as_table)), names
        )

    def _look_at_part(self, part: int) -> FileProblem | None:
        try:
            *files, images = check_part(self.out, part)
            files += check_beside(self.out, part, images)
        except FileDamaged as error:
            return FileProblem(error.file, DAMAGED if self.out.exists(error.file) else GONE)
        self._count(sum(file.bytes for file in files))
        return None

    def _look(self, name: str, size: int, read: Callable[[], object]) -> FileProblem | None:
        try:
            read()
        except FileDamaged:
            return FileProblem(name, DAMAGED if self.out.exists(name) else GONE)
        self._count(size)
        return None

    def _plan(self) -> Iterator[FileProblem]:
        try:
            read_json(self.out, f"{PLAN}/plan.json")
            read_whole(self.out, f"{PLAN}/{part_name(0)}", as_table)
            plan = load_plan(self.out)
        except FileNotFoundError:
            if self.finished:
                yield FileProblem(f"{PLAN}/plan.json", GONE, mendable=False)
            return
        except FileDamaged as error:
            yield FileProblem(error.file, DAMAGED if self.out.exists(error.file) else GONE, mendable=False)
            return

        def look(part: int) -> FileProblem | None:
            name = f"{PLAN}/{part_name(part)}"
            try:
                rows = read_part(self.out, part).num_rows
            except FileDamaged:
                return FileProblem(name, DAMAGED if self.out.exists(name) else GONE, mendable=False)
            return None if rows == plan.rows_of(part) else FileProblem(name, DAMAGED, mendable=False)

        yield from self._each(look, range(plan.parts))

    def _each(
        self, look: Callable[[Any], FileProblem | None], things: Sequence[Any]
    ) -> Iterator[FileProblem]:
        yield from (found for found in in_order(look, things) if found is not None)

    def _count(self, size: int) -> None:
        self.read += size
        self._progress.add(size)


class _Progress:
    """Report every few seconds how much has been read."""

    def __init__(self, say: Say) -> None:
        self._say, self._said, self._files, self._bytes = say, time.monotonic(), 0, 0
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        with self._lock:
            self._files, self._bytes = self._files + 1, self._bytes + size
            if time.monotonic() - self._said >= _EVERY_S:
                self._said = time.monotonic()
                self._say(f"{counted(self._files, 'files')}, {self._bytes / 1e9:,.2f} GB read")


def again(out: Folder, job: str) -> str:
    """The command that redoes the run's missing parts, in full where it is known."""
    facts = run.begun(out)
    if job != ENROLL or "replay_of" in facts or "manifest" not in facts:
        return f"the same command as before, frpipe run {_SCRIPTS.get(job, job)} ... --output {out.uri}"
    usual, own = flat(Config().model_dump(mode="json")), flat(facts.get("config", {}))
    words = ["frpipe", "run", "enroll", "--manifest", str(facts["manifest"]), "--output", out.uri]
    for name, value in own.items():
        if value != usual.get(name):
            words += ["--set", f"{name}={json.dumps(value)}"]
    return shlex.join(words)
