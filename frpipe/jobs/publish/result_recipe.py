"""The recipe of the vectors that a result of identify or dedup has compared, as far as the result says it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from frpipe.core.errors import FrpipeError
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.spec import RECIPE_HASHES, SAME_VECTORS, GallerySpec
from frpipe.io.output import run
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.identify.worker import PROBES


@dataclass(frozen=True, slots=True)
class ResultRecipe:
    """The recipe of a result. hashes: by column; without those that it does not say.

    same_vectors: further hashes of its input, which stand for the same vectors.
    """

    hashes: Mapping[str, str]
    same_vectors: tuple[str, ...] = ()

    @classmethod
    def of(cls, folder: Folder) -> ResultRecipe:
        """Read the recipe of a finished result.

        Its `run.json` says it. Of an older search the rows say the embedder and its input, and the rest its
        gallery or its probes do, as long as they are there.
        """
        begun = run.begun(folder)
        hashes = {name: str(begun[name]) for name in RECIPE_HASHES if begun.get(name)}
        if SAME_VECTORS in begun:
            return cls(hashes, tuple(begun[SAME_VECTORS]))
        hashes = {**_in_rows(folder), **hashes}
        specs = [spec for spec in (_of_gallery(begun), _of_features(begun)) if spec is not None]
        same = {each for spec in specs for each in spec.preprocessing_hashes}
        return cls({**(specs[0].hashes if specs else {}), **hashes}, tuple(sorted(same)))

    def beside(self, tables: GallerySpec) -> GallerySpec:
        """Make the specification to compare with that of tables: what the result does not say is theirs."""
        said: dict[str, Any] = {**tables.hashes, **self.hashes}
        return GallerySpec(tables.dim, **said, same_vectors=self.same_vectors)

    def columns(self, recipe: str) -> dict[str, str | None]:
        """The columns of its rows. recipe: of the tables; null where the result does not say its own."""
        said = {name: self.hashes.get(name) for name in RECIPE_HASHES}
        is_known = said["embedder_hash"] and said["preprocessing_hash"]
        return {**said, "recipe": recipe if is_known else None}


def _in_rows(folder: Folder) -> dict[str, str]:
    """Read what the rows of a search say, which is the same in all of them."""
    for table in Units(folder, PROBES).tables():
        names = [name for name in RECIPE_HASHES if name in table.column_names]
        for row in table.select(names).slice(0, 1).to_pylist():
            return {name: value for name, value in row.items() if value}
    return {}


def _of_gallery(begun: Mapping[str, Any]) -> GallerySpec | None:
    """The specification of the gallery that was searched, if it is still there: it never changes."""
    identity, place = begun.get("identity") or {}, (begun.get("source") or begun).get("gallery")
    searched = identity.get("gallery_id") or (identity.get("source") or {}).get("gallery_id")
    if place:
        with suppress(FrpipeError):
            found = Gallery.open(str(place))
            return found.spec if found.gallery_id == searched else None
    return None


def _of_features(begun: Mapping[str, Any]) -> GallerySpec | None:
    """The specification of the faces that were compared, if they are still there, as they were."""
    identity, place = begun.get("identity") or {}, begun.get("probes")
    if place:
        with suppress(FrpipeError):
            found = FeatureRun.open(str(place))
            return found.spec if found.digest == identity.get("probes") else None
    return None
