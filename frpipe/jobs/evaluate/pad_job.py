"""Evaluate presentation attack detection: numbers, DET plots, one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from frpipe.core.errors import ConfigError
from frpipe.evaluation.pad import PadQuestion
from frpipe.io.storage.folder import Folder
from frpipe.jobs.contract import ReportResult, Startable
from frpipe.jobs.evaluate.job import Asked, EvaluationPlan, Say, each_once, evaluation_place, told
from frpipe.jobs.evaluate.pad_results import PadColumns, PadResults
from frpipe.jobs.evaluate.systems import System
from frpipe.metrics.presentation import FIXED_APCER
from frpipe.runtime.runtime import Runtime

THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class PadMetrics(Startable[ReportResult]):
    """An evaluation of scores of presentations.

    asked: its results are lists or enroll outputs; its thresholds are similarities of comparison, and at most
    one.  scores: thresholds of the score; empty: 0.5.  `run` raises OutputError, ManifestError, ConfigError,
    ScoresError: see the parts that it is made of.
    """

    asked: Asked
    columns: PadColumns
    scores: Sequence[float] = ()
    say: Say = lambda _: None

    @property
    def runtime(self) -> Runtime:
        """The runtime: this process."""
        return Runtime(choice="local")

    def place(self) -> Folder:
        """The output folder. Refuses what makes no sense."""
        if any(not np.isfinite(score) for score in self.scores):
            raise ConfigError("--threshold is a score of the detection", "for example --threshold 0.5")
        if (self.columns.similarity is None) != (not self.asked.thresholds):
            raise ConfigError(
                "attacks on the whole system need a column of similarities and the threshold of comparison",
                "give both --similarity COLUMN and --match S, or neither",
            )
        return evaluation_place(self.asked)

    def plan(self, out: Folder, *, dry: bool = False) -> EvaluationPlan[PadResults]:
        """Plan the evaluation. Reads the scores."""
        results = [PadResults.open(uri, self.columns) for uri in told(self.asked, self.say)]
        task = {"task": "pad", "columns": asdict(self.columns), "scores": [*self._scores]}
        return EvaluationPlan(self.asked, out, results, task, self._evaluated, self.say)

    def _evaluated(self, name: str, found: PadResults) -> System:
        question = PadQuestion(
            self._scores,
            each_once(*self.asked.targets) or FIXED_APCER,
            self.asked.thresholds[0] if self.asked.thresholds else None,
        )
        evaluation = question.answer(name, found.trials, found.provenance, found.warnings)
        return System(evaluation, found.trials, (), found.uri)

    @property
    def _scores(self) -> tuple[float, ...]:
        return each_once(*self.scores) or (THRESHOLD,)
