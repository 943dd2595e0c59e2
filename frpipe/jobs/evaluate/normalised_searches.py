"""Searches of a result with normalised scores: the candidates that were listed, ranked anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, InvariantError, OutputError
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.search_view import SearchView
from frpipe.jobs.evaluate.cohort import ImpostorCohort
from frpipe.jobs.evaluate.derived import TITLES, Derived, placed
from frpipe.jobs.evaluate.pair_results import finished, listed_rows, texts
from frpipe.jobs.evaluate.search_results import SearchResults, searches_of_people
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.identify.worker import PROBES
from frpipe.jobs.recorded_version import RecordedVersion
from frpipe.metrics.normalisation import CohortScores, Normalisation, cohort_scores, normalised
from frpipe.metrics.scores import Indices

# Scores of the listed people against the cohort, which are held at once.
_MOST_MB = 2048


def normalised_searches(
    name: str, found: SearchResults, how: Sequence[Normalisation], uri: str, top: int
) -> Iterator[Derived]:
    """Make a system for each normalisation of a result of jobs/identify.py.

    The reference of a candidate is the person, scored against the cohort as in the search: by the best of
    their templates, or the mean.  uri: of the cohort.
    Raises OutputError, GalleryError, ConfigError, GalleryMismatch: what was searched is not there any more,
    or the cohort cannot be one.
    """
    folder, report = finished(found.uri, "identify")
    gallery = Gallery.open(report["gallery"])
    trials, spec = found.trials, gallery.spec
    tested = {*trials.truth.tolist(), *trials.enrolled.tolist(), *trials.not_enrolled.tolist()}
    cohort, remarks = ImpostorCohort.open(uri, spec).without(tested)
    table, _ = searches_of_people(listed_rows(folder, PROBES))
    probe, similarity = _candidates(table)
    if not np.array_equal(similarity, trials.similarity) or len(table) != len(trials):
        raise InvariantError("candidates were read otherwise the second time", "report this")
    people, reference = np.unique(trials.subject.astype(str), return_inverse=True)
    searched = RecordedVersion.of(folder)
    snapshot = searched.find(gallery) if searched else gallery.snapshot(report["gallery_version"])
    view = SearchView(snapshot, dict(report["where"]), report["score"])
    sides = _person_scores(view, people, cohort.vectors, top).some(reference.astype(np.int64))
    probes = _probe_scores(found, table, cohort.vectors, top).some(probe)
    if found.listed < len(trials.enrolled):
        remarks.append(
            f"normalised scores rank the {counted(found.listed, 'listed candidates')} anew: who was not "
            "listed stays away"
        )
    for one in how:
        scores = placed(normalised(similarity, sides, probes, one))
        words = f"x / (1 + |x|) of x = {TITLES[one]} by {counted(len(cohort.people), 'people')} of {uri}"
        yield Derived(
            f"{name}, {TITLES[one]}",
            replace(
                found,
                trials=replace(trials, similarity=scores, quality={}),
                threshold=None,
                cosines=False,
                least=-np.inf,
                provenance={**found.provenance, "scores": words},
                warnings=[*found.warnings, *remarks],
            ),
            (name,),
        )


def _candidates(table: pa.Table) -> tuple[Indices, NDArray[np.float64]]:
    """The candidates that have both: (c,) the row of the probe, and the similarity."""
    lists = table["candidates"].combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    similarity = lists.flatten().field("similarity").to_numpy()
    known = np.isfinite(similarity)
    return np.repeat(np.arange(len(lengths)), lengths)[known], similarity[known]


def _person_scores(
    view: SearchView, people: NDArray[np.str_], cohort: NDArray[np.float32], top: int
) -> CohortScores:
    """Cohort scores of listed people, sorted."""
    need = -(-4 * len(people) * len(cohort) // 1_000_000)
    if need > _MOST_MB:
        raise ConfigError(
            f"{len(people):,} listed people against a cohort of {len(cohort):,}: {need:,} MB, and at most "
            f"{_MOST_MB:,} are held",
            "give a smaller cohort",
        )
    best = np.full((len(people), len(cohort)), -np.inf, np.float32)
    for names, vectors in view.blocks():
        where = np.searchsorted(people, names := names.to_numpy(zero_copy_only=False).astype(str))
        where = np.minimum(where, len(people) - 1)
        some = np.flatnonzero(people[where] == names) if len(people) else np.zeros(0, np.int64)
        np.maximum.at(best, where[some], vectors[some].astype(np.float32) @ cohort.T)
    return CohortScores.of(best, top)


def _probe_scores(
    found: SearchResults, table: pa.Table, cohort: NDArray[np.float32], top: int
) -> CohortScores:
    """Cohort scores of each row of the table; of a row without a face anything, as it has no candidate."""
    source = FeatureRun.open(found.features)
    faces = texts(table["face_id"])
    number = {face: row for row, face in enumerate(faces.tolist()) if face}
    embedder = _embedder(source, str(found.provenance["embedder_hash"]))
    vectors = np.zeros((len(faces), embedder.spec.dim), np.float32)
    vectors[:, 0] = 1
    seen = 0
    for part in embedder.features.all_faces(["face_id", "embedding"]):
        ids = texts(part["face_id"]).tolist()
        rows = [(place, number[face]) for place, face in enumerate(ids) if face in number]
        if rows:
            own, to = np.array(rows).T
            flat = part["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            vectors[to] = flat.reshape(len(ids), -1)[own]
            seen += len(rows)
    if seen != len(number):
        raise OutputError(
            f"{found.features} lacks faces that were searched with", "search again, and evaluate that result"
        )
    return cohort_scores(vectors, cohort, top)


def _embedder(source: FeatureRun, sha256: str) -> FeatureRun:
    """The enroll output by the embedder of these weights."""
    for one in source.features.by_embedder():
        run = source if one.embedder is None else FeatureRun.open(source.folder.uri, one.embedder)
        if run.spec.embedder_hash == sha256:
            return run
    raise OutputError(
        f"{source.folder.uri} has no embeddings of the embedder that was searched with", "search again"
    )
