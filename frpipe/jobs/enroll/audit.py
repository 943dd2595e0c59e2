"""Read a run's output back: every row of the plan has to be there, once, in a whole file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from frpipe.core.errors import InvariantError
from frpipe.core.report import PhotoCounts
from frpipe.io.output import run
from frpipe.io.output.parts import (
    EMBEDDINGS,
    FACES,
    HELD,
    IMAGES,
    PartFile,
    check_beside,
    check_part,
    clear_orphans,
    done_parts,
    withdraw_part,
)
from frpipe.io.output.plan import ManifestPlan
from frpipe.io.storage.folder import Entry, Folder
from frpipe.jobs.contract import UnitWork
from frpipe.jobs.reading_back import ReadingBack, weight_of
from frpipe.runtime.executor import STALL_TIMEOUT_S, Executor
from frpipe.stages.quarantine.attempts import forget_attempts

Say = Callable[[str], None]

Checked = tuple[list[PartFile], PhotoCounts]
"""The files of a part, images first, and what its images say."""


@dataclass(slots=True)
class Audit:
    """The result of reading back.

    tally: of all images.  files: all published.  damaged: parts to do again.
    """

    tally: PhotoCounts = field(default_factory=PhotoCounts)
    files: list[PartFile] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)


def audit(
    out: Folder,
    plan: ManifestPlan,
    say: Say = lambda _: None,
    executor: Executor | None = None,
    stall_timeout_s: float | None = STALL_TIMEOUT_S,
) -> Audit:
    """Read and hash every file of every part. Memory of a process that reads: a few parts at a time.

    say: told how far it is.  executor: whose workers read where there are many parts; None: this process.
    stall_timeout_s: as of `Executor.stream`.

    Raises InvariantError where whole files do not hold the rows that went in; StorageError, OutOfMemory,
    OutputError where it cannot be told whether a file is whole; ClusterError where workers make no progress.
    Deletes nothing.
    """
    parts, result = range(plan.parts), Audit()
    weight = weight_of(_published(out)) if executor else 0
    sizes = {part: plan.rows_of(part) for part in parts}
    reading = ReadingBack(parts, partial(_checked, out), weight, say, "photos", sizes, stall_timeout_s)
    with closing(reading.results(executor)) as results:
        for part, checked in results:
            _add(result, part, checked, plan.rows_of(part))
    if not result.damaged and result.tally.rows != plan.rows:
        raise _unbalanced("the run")
    return result


class PartWork(UnitWork[Audit]):
    """The parts of an enroll output as units of work."""

    unit = "parts"

    @property
    def told(self) -> Say:
        """The listener that is told how far the reading back is."""
        return lambda _: None

    @property
    @abstractmethod
    def stall_timeout_s(self) -> float | None:
        """How long workers may make no progress, before the job ends."""

    @property
    @abstractmethod
    def cut(self) -> ManifestPlan:
        """The plan by which the rows are cut into parts."""

    @abstractmethod
    def do(self, out: Folder, parts: Sequence[int], executor: Executor) -> int:
        """Do and publish some parts; return how many rows they hold."""

    def work(self, out: Folder, executor: Executor) -> int:
        clear_orphans(out)
        done = done_parts(out)
        return self.do(out, [part for part in range(self.cut.parts) if part not in done], executor)

    def read_back(self, out: Folder, executor: Executor) -> tuple[Audit, int]:
        found = audit(out, self.cut, self.told, executor, self.stall_timeout_s)
        if found.damaged:
            run.refuse_sealed(out)
            forget_attempts(out, found.damaged)
        for part in found.damaged:
            withdraw_part(out, part)
        return found, len(found.damaged)


def _add(result: Audit, part: int, checked: Checked | None, rows: int) -> None:
    if checked is None:
        result.damaged.append(part)
        return
    files, part_tally = checked
    result.tally.merge(part_tally)
    counts = {IMAGES: rows, HELD: part_tally.faces_held}
    if any(file.rows != counts.get(file.name.partition("/")[0], part_tally.faces) for file in files):
        raise _unbalanced(f"part {part}")
    result.files += files


def _published(out: Folder) -> Iterator[Entry]:
    """Iterate over the files of all parts."""
    for sub in (IMAGES, FACES, HELD, EMBEDDINGS):
        yield from out.list(sub)


def _checked(out: Folder, part: int) -> Checked:
    *files, images = check_part(out, part)
    tally = PhotoCounts()
    tally.add(images)
    return [*files, *check_beside(out, part, images)], tally


def _unbalanced(what: str) -> InvariantError:
    return InvariantError(f"{what}: rows in are not rows out", "keep the output and report this")
