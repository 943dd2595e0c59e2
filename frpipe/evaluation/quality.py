"""Measures of quality in an evaluation: error versus discard, and the error by bins of each measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError
from frpipe.evaluation.evaluation import Series
from frpipe.evaluation.number import Number
from frpipe.metrics.binned_rate import Bin, quantile_edges, rate_by_bin
from frpipe.metrics.clustered import clustered_rate
from frpipe.metrics.curve import Curve
from frpipe.metrics.discard import discard_areas, discard_curve, kept
from frpipe.metrics.operating import Insufficient, at_target
from frpipe.metrics.rate import Rate
from frpipe.metrics.scores import Doubles, Indices

Better = Literal["high", "low", "zero"]
Error = Literal["FNMR", "FNIR"]
COLUMN = "quality measure"
"""`Number.column` of numbers whose group is a measure."""
CURVE, IDEAL = "edc:", "edc_ideal"
LIMITS = (0.2, 0.3)
_FRACTIONS = (0.05, 0.1, 0.2, 0.3)
_DRAWN = np.linspace(0, 0.4, 81)
_DEGREES = "_deg"
_POSE_EDGES = (0.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 180.0)
_BETTER: tuple[Better, ...] = ("high", "low", "zero")


@dataclass(frozen=True, slots=True)
class QualityMeasure:
    """A column of faces as a measure. better: which values are; zero: the nearer to it, as of angles.

    edges: of its bins, in its unit, of angles without their sign; empty: five bins of as many trials each.
    """

    column: str
    better: Better = "high"
    edges: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `COLUMN`, `COLUMN:low` or `COLUMN:zero`.

        A column of degrees, `..._deg`, is the better the nearer to zero. Raises ConfigError.
        """
        column, _, better = text.strip().partition(":")
        degrees = column.endswith(_DEGREES)
        word = better or ("zero" if degrees else "high")
        if not column or word not in _BETTER:
            raise ConfigError(
                f"{text!r} names no measure of quality",
                "say COLUMN, COLUMN:low where low values are better, or COLUMN:zero where near zero is",
            )
        known: Better = next(one for one in _BETTER if one == word)
        return cls(column, known, _POSE_EDGES if degrees else ())

    def quality(self, values: Doubles) -> Doubles:
        """Turn values of the column, (n,), so that higher is better."""
        if self.better == "zero":
            return -np.abs(values)
        return -values if self.better == "low" else values

    def values(self, quality: Doubles) -> Doubles:
        """Turn back what `quality` made, (n,), into values of the column, of angles without their sign."""
        return quality if self.better == "high" else -quality


@dataclass(frozen=True, slots=True)
class Judged:
    """Mated trials at one threshold.

    error: which.  wrong, persons: (m,).  threshold: a similarity.  chosen: how, in words.  quality: by
    measure, (m,) of the trial, higher better; NaN: not measured.
    """

    error: Error
    wrong: NDArray[np.bool_]
    persons: Indices
    threshold: float
    chosen: str
    quality: Mapping[QualityMeasure, Doubles]

    def numbers(self) -> Iterator[Number]:
        """Numbers of each measure: areas, errors left after discards, and errors by bin."""
        for measure, quality in self.quality.items():
            yield from self._discards(measure, quality)
            yield from self._bins(measure, quality)

    def curves(self) -> dict[str, Series]:
        """Curves of error versus discard, of each measure and of an ideal one."""
        if not len(self.wrong) or not self.wrong.any():
            return {}
        found = {
            f"{CURVE}{measure.column}": Series(_DRAWN, discard_curve(self.wrong, quality).at(_DRAWN))
            for measure, quality in self.quality.items()
        }
        rate = float(self.wrong.mean())
        return {**found, IDEAL: Series(_DRAWN, np.maximum(0.0, (rate - _DRAWN) / (1 - _DRAWN)))}

    def warnings(self) -> Iterator[str]:
        """Warnings about the measures, in sentences."""
        yield f"error versus discard and bins of measures are {self.chosen}"
        for measure, quality in self.quality.items():
            lacking = int(np.count_nonzero(np.isnan(quality)))
            if lacking:
                words = counted(lacking, "mated trials have")
                yield f"{words} no {measure.column}: discarded first, and in no bin"

    def _discards(self, measure: QualityMeasure, quality: Doubles) -> Iterator[Number]:
        where: dict[str, Any] = {"column": COLUMN, "group": measure.column}
        areas = (
            discard_areas(self.wrong, quality, self.persons, LIMITS)
            if len(self.wrong)
            else Insufficient("no mated trials", 0, 1)
        )
        if isinstance(areas, Insufficient):
            for limit in LIMITS:
                yield Number.missing("EDC_gain", areas, at=limit, **where)
            return
        for area in areas:
            if np.isnan(area.gain):
                yield Number.missing(
                    "EDC_gain", "every mated trial is an error: nothing to gain", at=area.limit, **where
                )
                continue
            yield Number.scalar("EDC_gain", area.gain, area.gain_interval, at=area.limit, **where)
            note = f"chance {area.chance:.3g}, ideal {area.ideal:.3g}"
            yield Number.scalar("EDC_pAUC", area.area, area.area_interval, at=area.limit, note=note, **where)
        for fraction in _FRACTIONS:
            rest = kept(quality, fraction)
            rate = Rate(int(self.wrong[rest].sum()), int(rest.sum()))
            interval = clustered_rate(self.wrong[rest], self.persons[rest])
            yield Number.rate(
                f"{self.error}_discard", rate, interval, at=fraction, threshold=self.threshold, **where
            )

    def _bins(self, measure: QualityMeasure, quality: Doubles) -> Iterator[Number]:
        values = measure.values(quality)
        if np.isnan(values).all():
            return
        edges = measure.edges or quantile_edges(values)
        bins = rate_by_bin(self.wrong, self.persons, values, edges)
        for place, one in enumerate(bins, 1):
            yield self._bin(one, measure.column, f"{place}: {one.low:.4g} to {one.high:.4g}")

    def _bin(self, one: Bin, column: str, label: str) -> Number:
        where: dict[str, Any] = {"at": self.threshold, "column": column, "group": label}
        if one.lacking is None:
            return Number.rate(self.error, one.rate, one.interval, **where)
        counts = {"count": one.rate.count, "trials": one.rate.trials}
        return Number.missing(self.error, one.lacking, **counts, **where)


def chosen_threshold(
    curve: Curve | None,
    rate: str,
    targets: Sequence[float],
    thresholds: Sequence[float],
    distinct: int | None = None,
) -> tuple[float, str] | None:
    """Choose the similarity of the strictest target that the trials carry, else the run's; with words.

    rate: FMR or FPIR.  distinct: see `operating.at_target`.  None: there is neither.
    """
    for target in sorted(targets):
        if curve is None:
            break
        found = at_target(curve, target, distinct)
        if not isinstance(found, Insufficient):
            words = f"at {rate} ≤ {target:g} of all trials, similarity {found.threshold:.4f}"
            return found.threshold, words
    if not thresholds:
        return None
    return thresholds[0], f"at the run's similarity {thresholds[0]:.4f}: the trials carry no target {rate}"
