"""Evaluate templates, pooled of photos and media: compared in pairs, or searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from frpipe.core.errors import ConfigError
from frpipe.io.storage.folder import Folder
from frpipe.jobs.contract import ReportResult, Startable
from frpipe.jobs.evaluate.job import Asked, EvaluationPlan, Say, evaluation_place, pair_system, search_system
from frpipe.jobs.evaluate.pair_results import PairResults
from frpipe.jobs.evaluate.search_results import SearchResults
from frpipe.jobs.evaluate.systems import System
from frpipe.jobs.evaluate.template_list import TemplateList
from frpipe.jobs.evaluate.template_results import PooledTemplates
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.output_place import refuse_relative
from frpipe.jobs.subject_faces import SubjectPolicy
from frpipe.runtime.runtime import Runtime

CANDIDATES = 50


@dataclass(frozen=True, slots=True)
class TemplateMetrics(Startable[ReportResult]):
    """An evaluation of templates.

    asked: its one result is the enroll output.  templates: the list of which photos and media each is made.
    pairs: a list of templates to compare; or else gallery and probes: lists of templates to enrol, and to
    search with.  top: candidates of a search.  faces: which of a photo counts.  embedder: None: the first.
    `run` raises OutputError, ManifestError, ConfigError, ScoresError: see the parts that it is made of.
    """

    asked: Asked
    templates: str
    pairs: str | None = None
    gallery: str | None = None
    probes: str | None = None
    top: int = CANDIDATES
    faces: SubjectPolicy = "centre-largest"
    embedder: str | None = None
    say: Say = lambda _: None

    @property
    def runtime(self) -> Runtime:
        """The runtime: this process."""
        return Runtime(choice="local")

    def place(self) -> Folder:
        """The output folder. Refuses what makes no sense."""
        searched = self.gallery is not None, self.probes is not None
        if searched[0] != searched[1] or (self.pairs is not None) == searched[0]:
            raise ConfigError(
                "templates are compared in pairs, or searched in a gallery",
                "give either --pairs, or both --gallery and --probes",
            )
        lists = {"--templates": self.templates, "--pairs": self.pairs, "--gallery": self.gallery}
        for flag, uri in {**lists, "--probes": self.probes}.items():
            if uri is not None:
                refuse_relative(flag, uri)
        return evaluation_place(self.asked)

    def plan(
        self, out: Folder, *, dry: bool = False
    ) -> EvaluationPlan[PairResults] | EvaluationPlan[SearchResults]:
        """Plan the evaluation. Reads the lists and the features."""
        self.say("reading")
        source = FeatureRun.open(self.asked.results[0], self.embedder)
        pooled = PooledTemplates.of(TemplateList.read(self.templates), source, self.faces)
        if self.pairs is not None:
            task: dict[str, Any] = {"task": "verification", "of": "templates"}
            pairs = [pooled.compared(self.pairs)]
            return EvaluationPlan(self.asked, out, pairs, task, self._pairs, self.say)
        task = {"task": "identification", "of": "templates", "candidates": self.top}
        searches = [pooled.searched(str(self.gallery), str(self.probes), self.top)]
        return EvaluationPlan(self.asked, out, searches, task, self._searches, self.say)

    def _pairs(self, name: str, found: PairResults) -> System:
        return pair_system(name, found, self.asked, None, ())

    def _searches(self, name: str, found: SearchResults) -> System:
        return search_system(name, found, self.asked, ())
