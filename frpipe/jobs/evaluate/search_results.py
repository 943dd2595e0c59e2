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
from frpipe.core.reasons import Status
from frpipe.core.schema import IS_SUBJECT
from frpipe.evaluation.pairs import Labels, Mask
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
    table, said = searches_of_people(table)
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
    return trials, [*said, *_several(trials), *words, *alike_ids(truth, people, blank)]


def searches_of_people(table: pa.Table) -> tuple[pa.Table, list[str]]:
    """Select the probes that are the face of a known person, with warnings of what is left out.

    A photo none of whose probes is its person's, since that face was left out or is held back, is one search
    without a probe, as a photo that was rejected is. Of results without the column `is_subject` each face
    counts for the photo's person.  Raises ConfigError: it is not known who any probe is.
    """
    named = pc.fill_null(table["probe_subject_id"], "").to_numpy() != ""
    if not named.any():
        raise ConfigError(
            "it is not known who any of the probes is", "enroll the probes with the column subject_id"
        )
    nobodys = int(np.count_nonzero(~named))
    said = [f"{counted(nobodys, 'probes are')} of nobody known, and left out"] if nobodys else []
    table = table if named.all() else table.filter(pa.array(named))
    if IS_SUBJECT not in table.column_names:
        return table, said
    others = pc.fill_null(pc.invert(table[IS_SUBJECT]), False).to_numpy()
    if not others.any():
        return table, said
    said.append(f"{counted(int(others.sum()), 'probes are')} of others than the photo's person, and left out")
    kept = table["image_id"].filter(pa.array(~others)).combine_chunks()
    faceless = np.flatnonzero(pc.invert(pc.is_in(table["image_id"], value_set=kept)).to_numpy())
    # The first of its rows stands for the photo.
    lost = faceless[np.unique(table["image_id"].take(pa.array(faceless)).to_numpy(), return_index=True)[1]]
    if len(lost):
        said.append(
            f"{counted(len(lost), 'photos have')} lost the face of their person, which was left out or is "
            "held back: each is a search without a probe"
        )
    rows = np.union1d(np.flatnonzero(~others), lost)
    return _without_probe(table.take(pa.array(rows)), np.isin(rows, lost)), said


def _without_probe(table: pa.Table, lost: Mask) -> pa.Table:
    """Take the face away from some rows, as if their photos had been rejected."""
    there = pa.array(np.arange(len(table)), mask=lost)
    for name in ("face_id", "candidates", "status"):
        at, field = table.schema.get_field_index(name), table.schema.field(name)
        values = table[name].take(there)
        values = pc.fill_null(values, Status.REJECTED.value) if name == "status" else values
        table = table.set_column(at, field, values)
    return table


def _qualities(table: pa.Table, measures: Sequence[QualityMeasure], features: str) -> dict[str, Doubles]:
    """Qualities by measure, (p,), of the faces of probes whose person is known; NaN where there is none."""
    if not measures:
        return {}
    known, _ = searches_of_people(table)
    faces, images = texts(known["face_id"]), texts(known["image_id"])
    names = np.where(faces == "", images, faces)
    values = FaceMeasures(features, [one.column for one in measures], names, "centre-largest").of(names)
    return {one.column: one.quality(values[one.column]) for one in measures}


def _groups(images: Labels, by: Sequence[str], features: str) -> dict[str, Labels]:
    if not by:
        return {}
    facts = PhotoFacts.of(features, by)
    return {column: facts.of_photos(column, images) for column in by}


def _several(trials: SearchTrials) -> list[str]:
    _, counts = np.unique(trials.image.astype(str), return_counts=True)
    several = int(np.count_nonzero(counts > 1))
    words = (
        f"{counted(several, 'photos have')} several faces, and each counts as a probe of the photo's person: "
        "results of older code do not say whose face is meant; search again, or enroll probes with "
        "detect.policy=centre-largest"
    )
    return [words] if several else []


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
