"""Derive further scores of the pairs of a result: fused with another embedder's, normalised by a cohort."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, OutputError
from frpipe.core.text import canonical_text
from frpipe.evaluation.pairs import Labels, PairTrials
from frpipe.jobs.evaluate.cohort import ImpostorCohort
from frpipe.jobs.evaluate.pair_results import PairResults
from frpipe.jobs.evaluate.search_results import SearchResults
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.output_place import refuse_relative
from frpipe.jobs.verify.named_faces import FACE_NAMES, IMAGE_NAMES, NamedFaces
from frpipe.matching.exact import inner_products
from frpipe.metrics.cross_fit import Parts
from frpipe.metrics.errors import ScoresError
from frpipe.metrics.fusion import cross_fitted_fusion
from frpipe.metrics.normalisation import TOP, Normalisation, cohort_scores, normalised
from frpipe.metrics.operating import Insufficient
from frpipe.metrics.scores import Doubles, Indices

TITLES: dict[Normalisation, str] = {"z": "Z-norm", "t": "T-norm", "s": "S-norm", "as": "adaptive S-norm"}


class Derived(NamedTuple):
    """A derived system. name: of the system.  bases: of those that it is compared with."""

    name: str
    results: PairResults | SearchResults
    bases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Derivations:
    """Derivations that are asked for.

    fuse_with: further embedders of the same enroll output.  normalise: by the cohort, an enroll output or a
    gallery.  top: how many of it are the most alike, for the adaptive one.
    """

    fuse_with: Sequence[str] = ()
    normalise: Sequence[Normalisation] = ()
    cohort: str | None = None
    top: int = TOP

    def check(self) -> None:
        """Raise ConfigError where a cohort is missing, or nobody asks for it."""
        if bool(self.normalise) != (self.cohort is not None):
            raise ConfigError(
                "--normalise and --cohort go together",
                "name an enroll output or a gallery of people who are in no pair: --cohort URI",
            )
        if self.cohort is not None:
            refuse_relative("--cohort", self.cohort)

    def identity(self) -> dict[str, Any]:
        """The settings that decide the content; empty where there are none, as in older outputs."""
        found: dict[str, Any] = {"fuse_with": [*self.fuse_with]} if self.fuse_with else {}
        if self.cohort is not None:
            found["normalise"] = [*self.normalise]
            found["cohort"] = ImpostorCohort.digest(self.cohort)
            found["cohort_top"] = self.top
        return found

    def of(self, name: str, found: PairResults) -> Iterator[Derived]:
        """Derive the systems that a result gives beside itself.

        Raises OutputError, ConfigError, ScoresError, GalleryMismatch: see the parts that it is made of.
        """
        if not self.fuse_with and not self.normalise:
            return
        sides = _Sides(found)
        for embedder in self.fuse_with:
            yield from _fused(name, found, sides, embedder)
        if self.cohort is not None:
            yield from self._normalised(name, found, sides, self.cohort)

    def _normalised(self, name: str, found: PairResults, sides: _Sides, uri: str) -> Iterator[Derived]:
        source = _own_source(found)
        cohort, remarks = ImpostorCohort.open(uri, source.spec).without(found.people)
        if found.anonymous:
            remarks.append("of some photos it is not known who is on them: they may be in the cohort")
        faces = sides.faces(source)
        known = cohort_scores(faces.vectors, cohort.vectors, self.top)
        trials = found.trials
        done = np.flatnonzero(trials.completed)
        reference, probe = known.some(sides.a[done]), known.some(sides.b[done])
        for how in self.normalise:
            scores = np.full(len(trials), np.nan)
            scores[done] = normalised(trials.similarity[done], reference, probe, how)
            words = f"{TITLES[how]} by {counted(len(cohort.people), 'people')} of {uri}"
            yield Derived(f"{name}, {TITLES[how]}", _scored(found, scores, words, remarks), (name,))


def _fused(name: str, found: PairResults, sides: _Sides, embedder: str) -> Iterator[Derived]:
    source, trials = _source(found, embedder), found.trials
    if source.spec.embedder_hash == found.provenance["embedder_hash"]:
        raise ConfigError(
            f"the result is of {embedder} itself", "name another embedder of that enroll output to fuse with"
        )
    other = sides.similarity(source)
    alone = replace(trials, similarity=np.where(trials.completed, other, np.nan))
    done = np.flatnonzero(trials.completed & ~np.isnan(other))
    parts = Parts.of_people(trials.person_a[done], trials.person_b[done])
    both = np.stack([trials.similarity[done], other[done]], axis=1)
    ratios = cross_fitted_fusion(both, trials.mated[done], parts)
    if isinstance(ratios, Insufficient):
        raise ScoresError(f"scores cannot be fused: {ratios}", "compare more pairs of both kinds")
    fused = np.full(len(trials), np.nan)
    fused[done] = ratios
    own = f"{name}: {embedder} alone"
    facts = {**found.provenance, "embedder_hash": source.spec.embedder_hash}
    facts["preprocessing_hash"] = source.spec.preprocessing_hash
    yield Derived(own, replace(found, trials=alone, threshold=None, provenance=facts), (name,))
    words = f"sum of the log-likelihood ratios with {embedder} ({source.spec.embedder_hash}), by subject"
    yield Derived(f"{name} + {embedder}", _scored(found, fused, words, []), (name, own))


def _scored(found: PairResults, scores: Doubles, words: str, remarks: Sequence[str]) -> PairResults:
    """Give a result other scores, which are no similarities; between -1 and 1, in the same order."""
    trials: PairTrials = replace(found.trials, similarity=placed(scores), quality={})
    return replace(
        found,
        trials=trials,
        threshold=None,
        cosines=False,
        provenance={**found.provenance, "score": f"x / (1 + |x|) of x = {words}"},
        warnings=[*found.warnings, *remarks],
    )


def placed(scores: Doubles) -> Doubles:
    """Place scores between -1 and 1, in the same order."""
    found: Doubles = scores / (1 + np.abs(scores))
    return found


class _Sides:
    """The named faces of a result's pairs. a, b: (n,) numbers of the names of both sides."""

    def __init__(self, found: PairResults) -> None:
        self._policy = str(found.provenance["faces"])
        names = [[canonical_text(name) for name in side.astype(str)] for side in _named(found.trials)]
        self._numbers = {name: n for n, name in enumerate(dict.fromkeys([*names[0], *names[1]]))}
        self.a, self.b = (np.array([self._numbers[name] for name in side], np.int64) for side in names)

    def faces(self, source: FeatureRun) -> NamedFaces:
        """The embeddings of the faces in an enroll output, chosen as the job verify chooses."""
        faces = NamedFaces(self._numbers, source.spec.dim, self._policy)  # type: ignore[arg-type]
        for images, found in source.features.tables(IMAGE_NAMES, FACE_NAMES):
            faces.add(images, found)
        return faces

    def similarity(self, source: FeatureRun) -> Doubles:
        """Similarities, (n,), of the pairs; NaN where a side is missing."""
        faces, found = self.faces(source), np.full(len(self.a), np.nan)
        both: Indices = np.flatnonzero(faces.present(self.a) & faces.present(self.b))
        products = inner_products(faces.vectors, self.a[both], faces.vectors, self.b[both])
        found[both] = np.clip(products, -1, 1)
        return found


def _named(trials: PairTrials) -> tuple[Labels, Labels]:
    return trials.a, trials.b


def _source(found: PairResults, embedder: str | None) -> FeatureRun:
    """The enroll output that a result was compared from. Raises OutputError: it is another run now."""
    source = FeatureRun.open(found.features, embedder)
    if source.run_id != found.provenance["feature_run"]:
        raise OutputError(
            f"{found.features} is another run now than the one whose faces were compared",
            "compare again, and evaluate that result",
        )
    return source


def _own_source(found: PairResults) -> FeatureRun:
    """The enroll output, read by the embedder that was compared."""
    for one in _source(found, None).features.by_embedder():
        source = _source(found, one.embedder)
        if source.spec.embedder_hash == found.provenance["embedder_hash"]:
            return source
    raise OutputError(
        f"{found.features} has no embeddings of the embedder that was compared", "compare again"
    )
