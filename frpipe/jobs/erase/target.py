"""The run that people are taken out of: finished, or left in the middle of an earlier erasure."""

from __future__ import annotations

from dataclasses import dataclass

from frpipe.core.errors import FileDamaged, OutputError
from frpipe.core.report import Report
from frpipe.io.output import run
from frpipe.io.output.plan import Plan, load_plan
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import read_json
from frpipe.jobs.replay.report import ReplayReport


@dataclass(frozen=True, slots=True)
class EraseTarget:
    """key: of the digests of ids; the fingerprint of the run's manifest.  report: as it was stored."""

    out: Folder
    key: str
    plan: Plan
    report: Report

    @classmethod
    def open(cls, uri: str) -> EraseTarget:
        """Nothing is changed. Raises OutputError where there is no enroll output, or it is not finished."""
        out = Folder.at(uri)
        try:
            key = str(run.begun(out)["identity"]["manifest"])
            plan = load_plan(out)
        except (FileNotFoundError, KeyError, TypeError):
            raise OutputError(
                f"{uri} holds no enroll output",
                "give the --output of jobs/enroll.py, or `features` in that of jobs/identify.py",
            ) from None
        if not out.exists(run.ERASING) and run.complete(out) is None:
            raise OutputError(
                f"{uri} is not finished, or lacks files: only a finished run can be erased from",
                "run its job to the end, the same command goes on where it stopped; or delete it whole",
            )
        return cls(out, key, plan, _report(out))


def _report(out: Folder) -> Report:
    try:
        stored = read_json(out, run.REPORT)
    except (FileNotFoundError, FileDamaged):
        raise OutputError(f"{run.REPORT} of the output cannot be read", "enroll into a new output") from None
    return (ReplayReport if "replays" in stored else Report).stored(stored)
