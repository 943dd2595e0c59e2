"""Tell whose photos of a folder are, by the folders that they lie in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.counted import counted
from frpipe.core.errors import ManifestError
from frpipe.core.night_config import ScanStep
from frpipe.io.manifest.columns import SUBJECT
from frpipe.jobs.nightly.known_photos import TRIED, KnownPhotos

People = Callable[[pa.Array], pa.Array]
"""Tells whose photos are, by their ids."""


def people_rule(astray: int, listed: int, how: ScanStep, known: KnownPhotos | None) -> People:
    """Choose how folders name people. astray: number of photos not one folder down."""
    if how.subject_from != "auto":
        return _folders if how.subject_from == "folder" else _nobody
    if not astray:
        return _folders
    if known is None or not names_people(known):
        return _nobody
    if astray == listed:
        raise ManifestError(
            f"of {counted(astray, 'photos')} none lies one folder down, so that folders are not taken "
            "for people any more, as they were before",
            "check the setting photos, or say in scan.subject_from what folders mean",
        )
    return _folders_of_the_root


def _nobody(ids: pa.Array) -> pa.Array:
    return pa.nulls(len(ids), pa.string())


def _folders_of_the_root(ids: pa.Array) -> pa.Array:
    return pc.if_else(is_one_down(ids), _folders(ids), _nobody(ids))


def _folders(ids: pa.Array) -> pa.Array:
    """The name of the folder that each photo lies in; null where that is the root, or has no name."""
    names = pc.list_element(pc.split_pattern(ids, "/", max_splits=1, reverse=True), 0)
    if pc.any(pc.match_substring(names, "/"), min_count=0).as_py():
        parts = pc.split_pattern(names, "/", max_splits=1, reverse=True)
        names = parts.flatten().take(pc.subtract(parts.offsets[1:], 1))
    return pc.if_else(
        pc.and_(pc.greater(pc.count_substring(ids, "/"), 0), pc.not_equal(names, "")), names, None
    )


def is_one_down(names: Any) -> Any:
    return pc.equal(pc.count_substring(names, "/"), 1)


def names_people(known: KnownPhotos) -> bool:
    """Whether any known photo is of a person."""
    return any(pc.any(pc.and_(t[TRIED], pc.is_valid(t[SUBJECT]))).as_py() for t in known.tables())
