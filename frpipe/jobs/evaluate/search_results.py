"""Read results of jobs/identify.py as trials of identification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.counted import counted
from frpipe.core.distinct import distinct, without
from frpipe.core.errors import ConfigError, GalleryError
from frpipe.evaluation.pairs import Labels
from frpipe.evaluation.quality import QualityMeasure
from frpipe.evaluation.searches import SearchTrials
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import SUBJECT_ID
from frpipe.io.output import run
from frpipe.jobs.evaluate.face_measures import FaceMeasures
from frpipe.jobs.evaluate.pair_results import alike_ids, finished, listed_rows, texts
from frpipe.jobs.evaluate.photo_facts import PhotoFacts
from frpipe.jobs.identify.worker import PROBES
from frpipe.jobs.recorded_version import RecordedVersion
from frpipe.metrics.scores import Doubles

_FACTS = ("embedder_hash", "preprocessing_hash", "score", "candidates")


@dataclass(frozen=True, slots=True)
class SearchResults:
    """A finished result.

    threshold: of its run, a similarity; None: a closed set, or it has none.  listed: candidates a list has at
    most.  digest: of its files.  least: similarity below which no candidate was listed.  cosines: whether the
    scores are similarities.
    """

    uri: str
    trials: SearchTrials
    threshold: float | None
    listed: int
    features: str
    digest: str
    provenance: dict[str, Any]
    warnings: list[str] = field(default_factory=list)
    least: float = -np.inf
    cosines: bool = True

    @classmethod
    def open(
        cls,
        uri: str,
        by: Sequence[str] = (),
        enrolled: str | None = None,
        quality: Sequence[QualityMeasure] = (),
    ) -> SearchResults:
        """Read a result.

        by: columns of the probes' manifest, whose labels make groups.  enrolled: the enroll output that the
        gallery was made from, whose people count even where none of their photos could be enrolled. quality:
        measures of the probes' faces.

        Raises OutputError: it is no finished result; GalleryError: the version that was searched is gone, or
        another one bears its number; ConfigError: it is not known who any probe is, or who failed to enrol.
        """
        folder, report = finished(uri, "identify")
        if enrolled and report["where"]:
            raise ConfigError(
                "a part of the gallery was searched (--where): who failed to enrol in that part is not known",
                "leave --enrolled away, or evaluate a search of the whole gallery",
            )
        searched = RecordedVersion.of(folder)
        table, people = listed_rows(folder, PROBES), _people(report, searched)
        blank = without(_wanted(enrolled), people) if enrolled else people[:0]
        trials, warnings = _trials(table, people, blank, by, str(report["probes_from"]))
        trials = replace(trials, quality=_qualities(table, quality, str(report["probes_from"])))
        warnings += [searched.warning] if searched and searched.warning else []
        if "min_similarity" in report:
            warnings.append(
                f"candidates below a similarity of {report['min_similarity']:g} were not listed: a mate "
                "below it counts as missed, and rates at lower thresholds are not those of a whole search"
            )
        digest = run.digest(folder)
        named = searched.id.as_dict("gallery_") if searched else {}
        facts = {name: report[name] for name in _FACTS}
        provenance = {"result": uri, "result_files": digest, **named, **facts}
        threshold = report["threshold"]["similarity"] if report["threshold"] else None
        listed = min(int(report["candidates"]), max(len(people), 1))
        return cls(
            uri,
            trials,
            threshold,
            listed,
            str(report["probes_from"]),
            digest,
            provenance,
            warnings,
            float(report.get("min_similarity", -np.inf)),
        )


def _trials(
    table: pa.Table,
    people: Labels,
    blank: Labels,
    by: Sequence[str],
    features: str,
) -> tuple[SearchTrials, list[str]]:
    named = table["probe_subject_id"].is_valid().to_numpy(zero_copy_only=False)
    if not named.any():
        raise ConfigError(
            "it is not known who any of the probes is", "enroll the probes with the column subject_id"
        )
    images, truth = texts(table["image_id"]), texts(table["probe_subject_id"])
    lists = table["candidates"].combine_chunks()
    items = lists.flatten()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    similarity = items.field("similarity").to_numpy()
    scored = np.isfinite(similarity)
    trials = SearchTrials(
        images,
        truth,
        texts(table["status"]) != "ok",
        np.repeat(np.arange(len(truth)), lengths)[scored],
        texts(pa.chunked_array([items.field("subject_id")]))[scored],
        similarity[scored],
        people,
        blank,
        _groups(images, by, features),
    )
    unscored = int(np.count_nonzero(~scored))
    words = [f"{counted(unscored, 'candidates have')} no score: left out"] if unscored else []
    return trials.some(named), [*_warnings(trials, named), *words, *alike_ids(truth, people, blank)]


def _qualities(table: pa.Table, measures: Sequence[QualityMeasure], features: str) -> dict[str, Doubles]:
    """Qualities by measure, (p,), of the faces of probes whose person is known; NaN where there is none."""
    if not measures:
        return {}
    known = table.filter(table["probe_subject_id"].is_valid())
    faces, images = texts(known["face_id"]), texts(known["image_id"])
    names = np.where(faces == "", images, faces)
    values = FaceMeasures(features, [one.column for one in measures], names, "largest").of(names)
    return {one.column: one.quality(values[one.column]) for one in measures}


def _groups(images: Labels, by: Sequence[str], features: str) -> dict[str, Labels]:
    if not by:
        return {}
    facts = PhotoFacts.of(features, by)
    return {column: facts.of_photos(column, images) for column in by}


def _warnings(trials: SearchTrials, named: np.ndarray[Any, np.dtype[np.bool_]]) -> list[str]:
    found = []
    if not named.all():
        found.append(f"{counted(int(np.count_nonzero(~named)), 'probes are')} of nobody known, and left out")
    _, counts = np.unique(trials.image[named].astype(str), return_counts=True)
    if (counts > 1).any():
        found.append(
            f"{counted(int(np.count_nonzero(counts > 1)), 'photos have')} several faces, and each "
            "counts as a probe of the "
            "photo's person: enroll probes with detect.policy=centre-largest"
        )
    return found


def _people(report: dict[str, Any], searched: RecordedVersion | None) -> Labels:
    """The ids of the people who were searched."""
    try:
        gallery = Gallery.open(report["gallery"])
        snapshot = searched.find(gallery) if searched else gallery.snapshot(report["gallery_version"])
        tables = list(snapshot.list(report["where"]))
    except GalleryError as error:
        raise GalleryError(
            f"who was in the gallery cannot be read: {error.message}",
            "evaluate before the gallery is compacted, restored or made anew, or search again",
        ) from None
    ids = [texts(table[SUBJECT_ID]) for table in tables]
    return distinct(np.concatenate([np.zeros(0, object), *ids]).astype(str))


def _wanted(features: str) -> Labels:
    """The ids of the people whose photos were to be enrolled."""
    names = PhotoFacts.of(features).table["subject_id"].to_numpy().astype(str)
    return distinct(names[names != ""])
