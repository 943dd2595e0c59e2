"""`frpipe run JOB ...`: the jobs of frpipe, and those that installed packages add.

A package adds a job by an entry point of the group `frpipe.jobs` that names a function:

    [project.entry-points."frpipe.jobs"]
    faces_per_subject = "my_package.faces_per_subject:main"

The function takes the words after the job's name and returns the exit code. The first line of its module's
docstring is the line that the list of jobs shows. What it raises of `frpipe.core.errors` becomes a message, a
remedy and an exit code.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from frpipe.cli.table import printable, table
from frpipe.core.errors import ConfigError

GROUP = "frpipe.jobs"
BUILT_IN = ("enroll", "consolidate", "identify", "dedup", "verify", "metrics", "nightly", "publish")

_DESCRIPTION = """\
Run a job, or list the jobs. In a clone, `python jobs/JOB.py ...` is the same."""

_EXAMPLES = """\
examples:
  frpipe run                                                     the jobs, each with one line
  frpipe run enroll --help                                       the options of one
  frpipe run enroll --manifest photos.parquet --output out/

Jobs of your own are found by entry points of the group frpipe.jobs: see docs/api.md. Exit codes are those of
the job; 2 if there is no such job, or it cannot be loaded."""

Main = Callable[[list[str]], "int | None"]


@dataclass(frozen=True, slots=True)
class Job:
    """A job by its name. package: the one that brings it, with its version; empty for frpipe's own."""

    name: str
    entry: EntryPoint
    package: str = ""

    def load(self) -> Main:
        """Load the function that runs the job. Raises ConfigError."""
        try:
            found = self.entry.load()
        except Exception as error:
            raise ConfigError(f"{self._named} cannot be loaded: {_said(error)}", self._remedy) from error
        if not callable(found):
            raise ConfigError(f"{self._named} names no function: {self.entry.value}", self._remedy)
        main: Main = found
        return main

    def line(self) -> str:
        """Describe the job in one line, or say why it cannot be loaded."""
        try:
            main = self.load()
        except ConfigError as error:
            return f"({error.message})"
        text = sys.modules[main.__module__].__doc__ or main.__doc__ or ""
        return text.strip().partition("\n")[0]

    @property
    def _named(self) -> str:
        return f"job {self.name} of {self.package or 'frpipe'}"

    @property
    def _remedy(self) -> str:
        return f"mend or uninstall {self.package}" if self.package else "install frpipe again"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare `frpipe run`."""
    parser = commands.add_parser(
        "run",
        help="run a job, or list the jobs",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("job", nargs="?", metavar="JOB", help="its name; without one, the jobs are listed")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="the job's own options")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.job is None:
        print(_listed())
        return 0
    main = _job(options.job).load()
    with _called(f"frpipe run {options.job}", options.words):
        return main(options.words) or 0


def _job(name: str) -> Job:
    """Find the job of that name. Raises ConfigError where there is none, or two packages offer it."""
    if name in BUILT_IN:
        return own(name)
    offered = _offered()
    found = [job for job in offered if job.name == name]
    if len(found) > 1:
        packages = ", ".join(job.package for job in found)
        raise ConfigError(f"several packages offer a job {name}: {packages}", "uninstall all but one of them")
    if not found:
        names = [*BUILT_IN, *(job.name for job in offered)]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
        raise ConfigError(f"no job {printable(name)}", f"did you mean {near}? `frpipe run` lists the jobs")
    return found[0]


def _listed() -> str:
    jobs = [*(own(name) for name in BUILT_IN), *_offered()]
    rows = [(job.name, f"{job.line()} [{job.package}]" if job.package else job.line()) for job in jobs]
    return f"{table(('job', 'what it does'), rows)}\n\nfrpipe run JOB --help says how to call one"


def own(name: str) -> Job:
    """Make one of frpipe's jobs by its name."""
    return Job(name, EntryPoint(name, f"frpipe.cli.jobs.{name}:main", GROUP))


def _offered() -> list[Job]:
    """List jobs that installed packages add, but for names of frpipe's own, which stay."""
    found = {
        (entry.name, entry.value): Job(entry.name, entry, f"{entry.dist.name} {entry.dist.version}")
        for entry in entry_points(group=GROUP)
        if entry.name not in BUILT_IN and entry.dist is not None
    }
    return [found[key] for key in sorted(found)]


@contextmanager
def _called(name: str, words: list[str]) -> Iterator[None]:
    """Set sys.argv, while the job runs, as if it had been started by itself: its parser shows that name."""
    before = sys.argv[:]
    sys.argv[:] = [name, *words]
    try:
        yield
    finally:
        sys.argv[:] = before


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {printable(str(error))}" if str(error) else type(error).__name__
