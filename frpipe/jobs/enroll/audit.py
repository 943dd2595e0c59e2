"""Read a run's output back: every row of the plan has to be there, once, in a whole file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from frpipe.core.errors import FileDamaged, InvariantError
from frpipe.core.pulse import Pulse
from frpipe.core.report import PhotoCounts
from frpipe.io.output import run
from frpipe.io.output.parts import (
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
from frpipe.io.storage.folder import Folder
from frpipe.jobs.contract import UnitWork
from frpipe.runtime.executor import Executor
from frpipe.stages.quarantine.attempts import forget_attempts

Say = Callable[[str], None]
_THREADS = 8
_AT_ONCE = 64

Checked = tuple[list[PartFile], pa.Table]
"""The files of a part, images first, and the rows of its images."""


@dataclass(slots=True)
class Audit:
    """The result of reading back.

    tally: of all images.  files: all published.  damaged: parts to do again.
    """

    tally: PhotoCounts = field(default_factory=PhotoCounts)
    files: list[PartFile] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)


def audit(out: Folder, plan: ManifestPlan, say: Say = lambda _: None) -> Audit:
    """Read and hash every file of every part. Memory: the images of a few dozen parts at a time.

    say: told how far it is.

    Raises InvariantError where whole files do not hold the rows that went in; StorageError, OutOfMemory,
    OutputError where it cannot be told whether a file is whole. Deletes nothing.
    """
    result, pulse = Audit(), Pulse(say)
    with ThreadPoolExecutor(_THREADS, "audit") as threads:
        for start in range(0, plan.parts, _AT_ONCE):
            parts = range(start, min(start + _AT_ONCE, plan.parts))
            for part, checked in zip(parts, threads.map(_checker(out), parts), strict=True):
                _add(result, part, checked, plan.rows_of(part))
            pulse.beat(result.tally.rows, f"{{}} of {plan.rows:,} photos read back", plan.rows)
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
    def cut(self) -> ManifestPlan:
        """The plan by which the rows are cut into parts."""

    @abstractmethod
    def do(self, out: Folder, parts: Sequence[int], executor: Executor) -> int:
        """Do and publish some parts; return how many rows they hold."""

    def work(self, out: Folder, executor: Executor) -> int:
        clear_orphans(out)
        done = done_parts(out)
        return self.do(out, [part for part in range(self.cut.parts) if part not in done], executor)

    def read_back(self, out: Folder) -> tuple[Audit, int]:
        found = audit(out, self.cut, self.told)
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
    files, images = checked
    part_tally = PhotoCounts()
    part_tally.add(images)
    result.tally.add(images)
    counts = {IMAGES: rows, HELD: part_tally.faces_held}
    if any(file.rows != counts.get(file.name.partition("/")[0], part_tally.faces) for file in files):
        raise _unbalanced(f"part {part}")
    result.files += files


def _checker(out: Folder) -> Callable[[int], Checked | None]:
    def check(part: int) -> Checked | None:
        try:
            *files, images = check_part(out, part)
            return [*files, *check_beside(out, part, images)], images
        except FileDamaged:
            return None

    return check


def _unbalanced(what: str) -> InvariantError:
    return InvariantError(f"{what}: rows in are not rows out", "keep the output and report this")
