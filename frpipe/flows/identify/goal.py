"""What identification searches, and where strangers begin: all that is known before there are probes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from frpipe.core.errors import GalleryError
from frpipe.core.identify_schema import IDENTIFY_VERSION
from frpipe.core.threshold import ThresholdCard
from frpipe.flows.photo import embedder_card
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.lineup import Lineup
from frpipe.io import run
from frpipe.io.folder import Folder
from frpipe.matching.limit import Limit, limit_of
from frpipe.stages.search import SearchSpec

JOB = "identify"


@dataclass(frozen=True)
class Goal:
    """One version of a gallery, who of it is compared and how. limit: None in a closed set."""

    gallery: Gallery
    spec: SearchSpec
    lineup: Lineup
    limit: Limit | None

    @classmethod
    def of(
        cls, spec: SearchSpec, threshold: float | None, card: ThresholdCard | None, *, closed: bool
    ) -> Goal:
        """Raises GalleryError: no such version or attribute. ConfigError: no threshold. GalleryMismatch: a
        threshold card of another embedder."""
        gallery, lineup = Gallery.open(spec.gallery), spec.lineup()
        limit = None if closed else _limit(gallery, lineup, spec, threshold, card)
        return cls(gallery, spec, lineup, limit)

    def identity(self, probes: str) -> dict[str, Any]:
        """What decides the content of the output. probes: digest of the probes' files."""
        return {
            "job": JOB,
            "schema_version": IDENTIFY_VERSION,
            "probes": probes,
            "gallery_id": self.gallery.gallery_id,
            "gallery_version": self.spec.version,
            "candidates": self.spec.k,
            "score": self.spec.score,
            "where": self.spec.where,
            "threshold_similarity": self.limit.similarity if self.limit else None,
        }

    def lines(self) -> list[str]:
        """For people."""
        where = " and ".join(f"{name} = {value}" for name, value in self.spec.where.items())
        accepted = (
            f"similarity >= {self.limit.similarity:g} ({self.limit.source})"
            if self.limit
            else "closed set: always the nearest"
        )
        return [
            f"gallery    version {self.spec.version}, {self.lineup.rows:,} templates of "
            f"{self.lineup.subjects:,} people{f' where {where}' if where else ''}",
            f"candidates {self.spec.k} a probe, a person scores the {self.spec.score} of their templates",
            f"accepted   {accepted}",
        ]

    def facts(self) -> dict[str, Any]:
        """For programs."""
        return {
            "gallery": self.gallery.uri,
            "gallery_version": self.spec.version,
            "templates": self.lineup.rows,
            "subjects": self.lineup.subjects,
            "where": dict(self.spec.where),
            "candidates": self.spec.k,
            "score": self.spec.score,
            "threshold": asdict(self.limit) if self.limit else None,
        }

    def remarks(self) -> list[str]:
        """What an operator should know before the work."""
        found = (
            [] if self.lineup.rows else ["nobody in the gallery is compared: all candidates will be empty"]
        )
        if self.limit and self.limit.warning:
            found.append(f"threshold {self.limit.similarity:g}: {self.limit.warning}")
        return found


def pinned(spec: SearchSpec, version: int | None, out: Folder) -> SearchSpec:
    """With the version asked for, else the one that the output was begun with, else the newest."""
    gallery = Gallery.open(spec.gallery)
    begun = None if version is not None else _begun(out, gallery)
    try:
        number = gallery.snapshot(begun if version is None else version).number
    except GalleryError as error:
        if begun is None:
            raise
        raise GalleryError(
            f"{error.message}, and the output was begun with it", "use a new --output: it takes the newest"
        ) from None
    return replace(spec, version=number)


def _begun(out: Folder, gallery: Gallery) -> int | None:
    identity = run.begun(out).get("identity", {})
    if (identity.get("job"), identity.get("gallery_id")) != (JOB, gallery.gallery_id):
        return None
    return int(identity["gallery_version"])


def _limit(
    gallery: Gallery,
    lineup: Lineup,
    spec: SearchSpec,
    threshold: float | None,
    card: ThresholdCard | None,
) -> Limit:
    searched = lineup.subjects if spec.score == "mean" else lineup.rows
    return limit_of(
        gallery.spec.embedder_hash,
        given=threshold,
        card=card,
        embedder_card=embedder_card(gallery.spec),
        # A search stays one, however few are searched.
        searched=max(2, searched),
        subjects=lineup.subjects if card and card.purpose == "identification" else None,
        preprocessing_hash=gallery.spec.preprocessing_hash,
    )
