"""Gates of a night: configured limits that a good night keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from frpipe.core.errors import FrpipeError
from frpipe.core.night_config import Gates
from frpipe.jobs.nightly.drift import MOVED
from frpipe.jobs.nightly.measures import unsuppressed

KEEP_OUT = ("max_reject_ratio", "max_no_face_ratio", "max_vanished_ratio")
"""Gates that keep a night from the gallery: they show that photos or storage are broken."""


class GateError(FrpipeError, RuntimeError):
    """Error: the night has ended and its report is written, but a gate does not hold."""

    code = "gate"
    exit_code = 16


@dataclass(frozen=True, slots=True)
class GateResult:
    """Result of one gate.

    value: None where there is nothing to judge.  keeps_out: whether a broken gate keeps faces from the
    gallery.
    """

    gate: str
    limit: float
    value: float | None
    holds: bool
    keeps_out: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.gate} {shown(self.limit)}: {shown(self.value)}"


def shown(number: float | None) -> str:
    """Format a limit or a value for people: counts in full, shares to four digits."""
    if number is None:
        return "nothing to judge"
    return f"{number:,}" if isinstance(number, int) else f"{number:.4g}"


def judged(gates: Gates, steps: Mapping[str, Any]) -> list[GateResult]:
    """Judge the gates that are set, by the records of a night's steps."""
    values = _values(steps)
    limits = {name: limit for name, limit in gates.model_dump().items() if limit is not None}
    return [_verdict(name, limit, values[name]) for name, limit in limits.items()]


def broken(verdicts: list[GateResult], *, keep_out: bool = False) -> list[GateResult]:
    """Choose the gates that do not hold; keep_out: only those that keep a night from the gallery."""
    return [each for each in verdicts if not each.holds and (each.keeps_out or not keep_out)]


def gate_error(verdicts: list[GateResult], report: str, *, held_back: bool) -> GateError | None:
    """Make the error to raise once the report is written; None where all gates hold.

    held_back: whether the night stopped before the gallery; a gate may be set after the night passed it.
    """
    bad = broken(verdicts)
    if not bad:
        return None
    kept = "; nothing of it has reached the gallery" if held_back else ""
    return GateError(
        f"the night has ended, but gates do not hold: {'; '.join(map(str, bad))}{kept}",
        f"see {report}; docs/nightly.md says what to do",
    )


def _verdict(name: str, limit: float, value: float | None) -> GateResult:
    least = name.startswith("min_")
    holds = value is None or (value >= limit if least else value <= limit)
    return GateResult(name, limit, value, holds, name in KEEP_OUT)


def _values(steps: Mapping[str, Any]) -> dict[str, float | None]:
    scan, enroll = steps.get("scan", {}), unsuppressed(steps.get("enroll", {}))
    looked = "not_done" not in scan and bool(scan)
    vanished = scan["vanished"] if looked else None
    clusters = (steps.get("differences") or {}).get("clusters")
    return {
        "max_reject_ratio": _share(enroll, "rejected", "rows"),
        "max_no_face_ratio": _share(enroll, "no_face", "rows"),
        "max_vanished_ratio": _share(scan, "vanished", "known_before"),
        "max_vanished": vanished,
        "min_photos": scan["new"] + scan["changed"] if looked else None,
        "max_new_duplicates": clusters["cluster_new"] + clusters["cluster_grown"] if clusters else None,
        "max_drift": _drift(steps.get("drift", {})),
    }


def _share(facts: Mapping[str, Any], part: str, whole: str) -> float | None:
    return facts[part] / facts[whole] if facts.get(whole) else None


def _drift(facts: Mapping[str, Any]) -> float | None:
    """Find the largest distance of the measures that have moved; 0 where all compared ones are steady."""
    measures = [each for each in facts.get("measures", {}).values() if each["distance"] is not None]
    if not measures:
        return None
    return max((each["distance"] for each in measures if each["verdict"] == MOVED), default=0.0)
