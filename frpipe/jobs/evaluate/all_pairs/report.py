"""The result of a comparison of all with all, as data and as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.number import Number


@dataclass(frozen=True, slots=True)
class AllPairsResult:
    """The result of a comparison of all with all."""

    evaluation: Evaluation

    def as_dict(self) -> dict[str, Any]:
        """The result as plain data, without the curves."""
        found = self.evaluation
        return {
            "name": found.name,
            "task": found.task,
            "counts": dict(found.counts),
            "numbers": [number.as_dict() for number in found.numbers],
            "provenance": dict(found.provenance),
            "warnings": list(found.warnings),
        }

    def text(self) -> str:
        """The result as text for people."""
        return "\n".join(_lines(self.evaluation))

    @classmethod
    def stored(cls, report: dict[str, Any]) -> AllPairsResult:
        """Read a result from what `as_dict` made, without the curves."""
        numbers = [Number(**number) for number in report["numbers"]]
        return cls(
            Evaluation(
                report["name"],
                report["task"],
                report["counts"],
                numbers,
                {},
                report["provenance"],
                report["warnings"],
            )
        )


def _lines(found: Evaluation) -> Iterator[str]:
    yield "compared   " + ", ".join(f"{name} {count:,}" for name, count in found.counts.items())
    for number in found.numbers:
        yield _line(number)
    yield from (f"  warning  {warning}" for warning in found.warnings)
    yield f"output     {found.provenance['output']}"


def _line(number: Number) -> str:
    group = "" if number.column is None else f"  {number.column} {number.group}"
    if number.value is None:
        return f"{number.title}{group}  {number.note}"
    between = "" if number.low is None else f" [{number.low:.6g}, {number.high:.6g}] {number.method}"
    counts = "" if number.count is None else f" ({number.count:,} of {number.trials:,})"
    return f"{number.title}{group}  {number.value:.6g}{between}{counts}"
