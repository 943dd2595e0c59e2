"""Whether too many photos of a finished run were rejected."""

from __future__ import annotations

from collections.abc import Iterator

from frpipe.core.config import RunConfig
from frpipe.core.errors import RejectRatioError
from frpipe.core.report import Report

_TOP = 3


def too_many_rejected(report: Report, limits: RunConfig) -> RejectRatioError | None:
    """The error to raise, with what was rejected most, where a share is above its limit."""
    broken = "; ".join(_broken(report, limits))
    if not broken:
        return None
    top = ", ".join(f"{reason} {count:,}" for reason, count in list(report.reasons.items())[:_TOP])
    return RejectRatioError(
        f"the run is complete and all of it is published, but {broken}. Most: {top}",
        f"see them with: frpipe rejects {report.output}; once mended, do them again with: "
        f"python jobs/enroll.py --replay {report.output} --output NEW",
    )


def _broken(report: Report, limits: RunConfig) -> Iterator[str]:
    rows = max(1, report.rows)
    most = limits.max_reject_ratio
    if most is not None and report.rejected / rows > most:
        yield _line("rejected", report.rejected, rows, "max_reject_ratio", most)
    for reason, share in limits.max_reject_ratio_by_reason.items():
        count = report.reasons.get(reason, 0)
        if count / rows > share:
            yield _line(reason, count, rows, f"max_reject_ratio_by_reason.{reason}", share)


def _line(what: str, count: int, rows: int, setting: str, most: float) -> str:
    return f"{what} are {count:,} of {rows:,} photos ({count / rows:.2%}, run.{setting} is {most:.2%})"
