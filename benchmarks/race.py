"""Commands that do the same work, run in turn and more than once; what a photo costs each of them.

The machine may be shared, so one run says little: the sides take turns (A B A B), and medians are kept.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cpu_time import Usage, measure
from photos import write_manifest

FEW = 16


@dataclass(frozen=True)
class Side:
    """One contestant.

    command: from (manifest, an output that does not exist yet) to the words of a command.
    few_words: more of them for the run over a few photos, so that it starts as many workers as the full one.
    """

    name: str
    command: Callable[[Path, Path], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    few_words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians of one side's runs over all photos (`full`) and over a few of them (`fixed`)."""

    photos: int
    full: Usage
    fixed: Usage

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds a photo, start included."""
        return 1000 * self.full.cpu_s / self.photos

    @property
    def wall_ms(self) -> float:
        return 1000 * self.full.wall_s / self.photos

    @property
    def marginal_cpu_ms(self) -> float:
        """CPU milliseconds of a further photo: what all cost less what a few cost."""
        return 1000 * (self.full.cpu_s - self.fixed.cpu_s) / (self.photos - FEW)

    @property
    def marginal_wall_ms(self) -> float:
        return 1000 * (self.full.wall_s - self.fixed.wall_s) / (self.photos - FEW)

    def as_dict(self) -> dict[str, float]:
        return {
            "cpu_ms_per_photo": round(self.cpu_ms, 3),
            "wall_ms_per_photo": round(self.wall_ms, 3),
            "marginal_cpu_ms_per_photo": round(self.marginal_cpu_ms, 3),
            "marginal_wall_ms_per_photo": round(self.marginal_wall_ms, 3),
            "fixed_wall_s": round(self.fixed.wall_s, 2),
            "fixed_cpu_s": round(self.fixed.cpu_s, 2),
            "peak_rss_mb": round(self.full.rss_mb),
            "peak_pss_mb": round(self.full.pss_mb),
        }


def race(sides: Sequence[Side], photos: Sequence[Path], scratch: Path, rounds: int) -> dict[str, Cost]:
    """Cost of each side by name; its outputs stay in `scratch / NAME-ROUND`."""
    everything = write_manifest(scratch / "all.parquet", list(photos))
    few = write_manifest(scratch / "few.parquet", list(photos[:FEW]))
    full: dict[str, list[Usage]] = {side.name: [] for side in sides}
    fixed: dict[str, list[Usage]] = {side.name: [] for side in sides}
    for turn in range(rounds):
        for side in sides:
            fixed[side.name].append(_run(side, few, scratch / f"{side.name}-few-{turn}", side.few_words))
            full[side.name].append(_run(side, everything, scratch / f"{side.name}-{turn}"))
    return {
        side.name: Cost(len(photos), _median(full[side.name]), _median(fixed[side.name])) for side in sides
    }


def _run(side: Side, manifest: Path, output: Path, words: tuple[str, ...] = ()) -> Usage:
    usage = measure([*side.command(manifest, output), *words], side.environment)
    print(f"  {output.name}: wall {usage.wall_s:.1f} s, cpu {usage.cpu_s:.1f} s", file=sys.stderr, flush=True)
    return usage


def _median(runs: Sequence[Usage]) -> Usage:
    return Usage(
        *(
            statistics.median(getattr(run, name) for run in runs)
            for name in ("wall_s", "cpu_s", "rss_mb", "pss_mb")
        )
    )
