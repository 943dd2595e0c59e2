"""Plan what an identification searches and at which threshold, before there are probes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from frpipe.core.calibration import CalibrationCard, CalibrationMap
from frpipe.core.counted import counted
from frpipe.core.threshold import Threshold, ThresholdCard, both_forms
from frpipe.gallery.catalog import VersionId
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.search_view import SearchView
from frpipe.gallery.spec import GallerySpec
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.identify.schema import IDENTIFY_VERSION, LATER_PROBE_COLUMNS
from frpipe.jobs.identify.worker import SearchSpec
from frpipe.jobs.photo import embedder_card
from frpipe.jobs.ratios import calibration_fact, calibration_for
from frpipe.jobs.recorded_version import RecordedVersion
from frpipe.jobs.recorded_version import pinned as pinned_version
from frpipe.matching.threshold import threshold_of

JOB = "identify"


@dataclass(frozen=True)
class SearchPlan:
    """A search of one version of a gallery: which templates are compared, and how it is decided.

    version: as the output names it.  limit: None in a closed set.  calibration: None: no ratios are given.
    columns: which of the later columns its rows have.
    """

    gallery: Gallery
    version: VersionId
    spec: SearchSpec
    search_view: SearchView
    limit: Threshold | None
    calibration: CalibrationMap | None = None
    columns: tuple[str, ...] = LATER_PROBE_COLUMNS

    @classmethod
    def of(
        cls,
        version: VersionId,
        spec: SearchSpec,
        threshold: float | None,
        card: ThresholdCard | None,
        *,
        closed: bool,
        calibration: CalibrationCard | None = None,
    ) -> SearchPlan:
        """Open the gallery and find the threshold.

        Raises GalleryError: no such version or attribute; ConfigError: no threshold; GalleryMismatch: a card
        of another embedder.
        """
        gallery, search_view = Gallery.open(spec.gallery), spec.search_view()
        limit = None if closed else _threshold(gallery, search_view, spec, threshold, card)
        return cls(
            gallery, version, spec, search_view, limit, calibration_for(gallery.spec, calibration, card)
        )

    def identity(self, probes: str) -> dict[str, Any]:
        """The facts that decide the content of the output. probes: digest of the probes' files."""
        similarity = self.limit.similarity if self.limit else None
        return identity_of(
            self.version, self.spec, similarity, probes, self.calibration, columns=self.columns
        )

    @property
    def searched(self) -> VersionId:
        """The version with its commit, also where the output was begun without one."""
        return VersionId(self.gallery.gallery_id, self.spec.version, self.spec.commit)

    def lines(self) -> list[str]:
        """The plan as lines for people."""
        where = " and ".join(f"{name} = {value}" for name, value in self.spec.where.items())
        accepted = (
            f"{both_forms(self.limit.similarity)}: {self.limit.source}"
            if self.limit
            else "closed set: always the nearest"
        )
        return [
            f"gallery    {self.searched}, {counted(self.search_view.rows, 'templates')} of "
            f"{counted(self.search_view.subjects, 'people')}{f' where {where}' if where else ''}",
            f"candidates {self.spec.k} a probe, a person scores the {self.spec.score} of their templates",
            *([f"listed     {least_text(self.spec.at_least)}"] if self.spec.at_least > -1 else []),
            f"accepted   {accepted}",
            *(["ratios     in rank1_llr, and llr of each candidate"] if self.calibration else []),
        ]

    def facts(self) -> dict[str, Any]:
        """The plan for programs."""
        return {
            "gallery": self.gallery.uri,
            "gallery_version": self.spec.version,
            "templates": self.search_view.rows,
            "subjects": self.search_view.subjects,
            "where": dict(self.spec.where),
            "candidates": self.spec.k,
            "score": self.spec.score,
            **least_fact(self.spec.at_least),
            "threshold": self.limit.as_dict() if self.limit else None,
        }

    def remarks(self) -> list[str]:
        """Remarks that an operator should read before the work."""
        found = (
            []
            if self.search_view.rows
            else ["nobody in the gallery is compared: all candidates will be empty"]
        )
        unsure = RecordedVersion(self.version).warning
        if unsure:
            found.append(unsure)
        if self.limit and self.limit.warning:
            found.append(f"threshold {self.limit.similarity:g}: {self.limit.warning}")
        return found


def identity_of(
    version: VersionId,
    spec: SearchSpec,
    similarity: float | None,
    probes: str,
    calibration: CalibrationMap | None = None,
    *,
    columns: tuple[str, ...] = LATER_PROBE_COLUMNS,
) -> dict[str, Any]:
    """The facts that decide the content of an output. similarity: the threshold; None in a closed set.

    columns: as `columns_of`.
    """
    return {
        "job": JOB,
        "schema_version": IDENTIFY_VERSION,
        "probes": probes,
        **version.as_dict("gallery_"),
        "candidates": spec.k,
        "score": spec.score,
        "where": spec.where,
        # Outputs of earlier code have no such fact.
        **least_fact(spec.at_least),
        **calibration_fact(calibration),
        **({"columns": [*columns]} if columns else {}),
        "threshold_similarity": similarity,
    }


def least_fact(at_least: float) -> dict[str, float]:
    """The least similarity of candidates, for programs; empty where all are listed."""
    return {"min_similarity": at_least} if at_least > -1 else {}


def least_text(at_least: float) -> str:
    """The least similarity of candidates, for people."""
    return f"candidates of {both_forms(at_least)}; those below are not listed"


def similarity_of(
    gallery: GallerySpec, threshold: float | None, card: ThresholdCard | None, *, closed: bool
) -> float | None:
    """The threshold of a search, found without reading the gallery; None in a closed set."""
    if closed:
        return None
    return threshold_of(
        gallery.embedder_hash,
        given=threshold,
        card=card,
        embedder_card=embedder_card(gallery),
        preprocessing=gallery.preprocessing_hashes,
    ).similarity


def columns_of(out: Folder) -> tuple[str, ...]:
    """The later columns of the rows of an output: an output that was begun goes on with its own."""
    begun = run.begun(out)
    identity = begun.get("identity")
    known = identity.get("columns") if isinstance(identity, Mapping) else None
    return tuple(
        name for name in LATER_PROBE_COLUMNS if not begun or (isinstance(known, list) and name in known)
    )


def pinned(spec: SearchSpec, version: int | None, out: Folder) -> tuple[VersionId, SearchSpec]:
    """Set the version: the one asked for, else the one that the output was begun with, else the newest."""
    begun = RecordedVersion.of(out, JOB)
    found, named = pinned_version(Gallery.open(spec.gallery), version, begun)
    return named, replace(spec, version=found.number, commit=found.version.commit)


def _threshold(
    gallery: Gallery,
    search_view: SearchView,
    spec: SearchSpec,
    threshold: float | None,
    card: ThresholdCard | None,
) -> Threshold:
    searched = search_view.subjects if spec.score == "mean" else search_view.rows
    return threshold_of(
        gallery.spec.embedder_hash,
        given=threshold,
        card=card,
        embedder_card=embedder_card(gallery.spec),
        searched=searched,
        subjects=search_view.subjects if card and card.purpose == "identification" else None,
        preprocessing=gallery.spec.preprocessing_hashes,
    )
