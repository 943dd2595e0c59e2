"""A cohort: people who are in no test, against whom normalisation measures the sides of comparisons."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError
from frpipe.core.text import canonical_text
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import FACE_ID, SUBJECT_ID, vectors_of
from frpipe.gallery.spec import GallerySpec
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.subject_faces import IMAGE_NAMES, templates_of
from frpipe.metrics.normalisation import LEAST_COHORT


@dataclass(frozen=True, slots=True)
class ImpostorCohort:
    """A cohort.

    people: (c,) ids, sorted.  vectors: (c, dim) float32, of the first template of each, by face id.
    """

    people: list[str]
    vectors: NDArray[np.float32]

    @classmethod
    def open(cls, uri: str, spec: GallerySpec) -> ImpostorCohort:
        """Open an enroll output with subject_id, or the newest version of a gallery.

        spec: of the vectors that are compared.  Raises GalleryMismatch: it is of another recipe;
        ConfigError: it is not known who anybody in it is.
        """
        made, tables = _opened(uri, spec)
        spec.check_same(made)
        first: dict[str, tuple[str, NDArray[np.float32]]] = {}
        for table in tables:
            names = zip(table[SUBJECT_ID].to_pylist(), table[FACE_ID].to_pylist(), strict=True)
            for (who, face), vector in zip(names, vectors_of(table), strict=True):
                key = canonical_text(who)
                if key not in first or face < first[key][0]:
                    first[key] = face, vector.copy()
        if not first:
            raise ConfigError(
                f"it is not known who is in the cohort {uri}", "enroll it with the column subject_id"
            )
        people = sorted(first)
        return cls(people, np.stack([first[who][1] for who in people]))

    @staticmethod
    def digest(uri: str) -> str:
        """A digest of the content of a cohort."""
        folder = Folder.at(uri)
        return run.digest(folder) if run.begun(folder) else str(Gallery.open(uri).snapshot().id)

    def without(self, tested: Collection[str]) -> tuple[ImpostorCohort, list[str]]:
        """Leave out the people who are among the tested, and say in words how many were.

        Raises ConfigError: fewer than 30 are left.
        """
        kept = [number for number, who in enumerate(self.people) if who not in tested]
        if len(kept) < LEAST_COHORT:
            raise ConfigError(
                f"{counted(len(kept), 'people')} of the cohort are not tested, {LEAST_COHORT} are needed",
                "give a cohort of people who are not tested",
            )
        shared = len(self.people) - len(kept)
        words = f"{counted(shared, 'people')} of the cohort are tested too: they were left out of it"
        return ImpostorCohort([self.people[number] for number in kept], self.vectors[kept]), [words] * bool(
            shared
        )


def _opened(uri: str, spec: GallerySpec) -> tuple[GallerySpec, Iterator[pa.Table]]:
    folder = Folder.at(uri)
    if not run.begun(folder):
        gallery = Gallery.open(uri)
        return gallery.spec, gallery.snapshot().tables([SUBJECT_ID, FACE_ID])
    source = FeatureRun.open(uri)
    recipe: dict[str, Any] = run.begun(folder).get("identity", {}).get("recipe") or {}
    for name in recipe.get("embedders", {}):
        if source.spec.embedder_hash != spec.embedder_hash:
            source = FeatureRun.open(uri, name)
    return source.spec, _templates(source)


def _templates(source: FeatureRun) -> Iterator[pa.Table]:
    for images, faces in source.features.tables(IMAGE_NAMES, None):
        table, _ = templates_of(images, faces, "centre-largest", source.created)
        yield table
