"""Whether too many photos of a finished run were rejected; those that are suppressed do not count."""

from __future__ import annotations

from collections.abc import Iterator

from frpipe.core.config import RunConfig
from frpipe.core.errors import RejectRatioError
from frpipe.core.reasons import Reason
from frpipe.core.report import Report

_TOP = 3


def too_many_rejected(report: Report, limits: RunConfig) -> RejectRatioError | None:
    """The error to raise, with what was rejected most, where a share is above its limit."""
    broken = "; ".join(_broken(report, limits))
    if not broken:
        return None
    counts = [(reason, count) for reason, count in report.reasons.items() if reason != Reason.SUPPRESSED]
    top = ", ".join(f"{reason} {count:,}" for reason, count in counts[:_TOP])
    return RejectRatioError(
        f"the run is complete and all of it is published, but {broken}. Most: {top}",
        f"see them with: frpipe rejects {report.output}; once mended, do them again with: "
        f"frpipe run enroll --replay {report.output} --output NEW",
    )


def _broken(report: Report, limits: RunConfig) -> Iterator[str]:
    rows, rejected = max(1, report.rows - report.suppressed), report.rejected - report.suppressed
    most = limits.max_reject_ratio
    if most is not None and rejected / rows > most:
        yield _line("rejected", rejected, rows, "max_reject_ratio", most)
    for reason, share in limits.max_reject_ratio_by_reason.items():
        count, of = (
            report.reasons.get(reason, 0),
            max(1, report.rows) if reason == Reason.SUPPRESSED else rows,
        )
        if count / of > share:
            yield _line(reason, count, of, f"max_reject_ratio_by_reason.{reason}", share)


def _line(what: str, count: int, rows: int, setting: str, most: float) -> str:
    return f"{what} are {count:,} of {rows:,} photos ({count / rows:.2%}, run.{setting} is {most:.2%})"
