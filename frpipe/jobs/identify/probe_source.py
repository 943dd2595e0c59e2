"""Probes from a finished enroll output, or from a manifest that is enrolled first."""

from __future__ import annotations

from pathlib import PurePosixPath

from frpipe.core.errors import GalleryMismatch
from frpipe.gallery.spec import GallerySpec
from frpipe.io.manifest.manifest import SUFFIXES
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.features import FeatureRun

FEATURES = "features"
"""Where probes of a manifest are enrolled to, under the output."""


def is_manifest(probes: str) -> bool:
    """Whether a URI names a manifest (a file, or a folder of files), not the output of a run."""
    folder = Folder.at(probes)
    if folder.exists(run.RUN):
        return False
    return _suffixed(probes) or any(_suffixed(name) for name in folder.walk())


def check_recipe(source: FeatureRun, gallery: GallerySpec) -> None:
    """Raise GalleryMismatch, both hashes named, for probes that the gallery's recipe did not make."""
    try:
        gallery.check_same(source.spec)
    except GalleryMismatch as error:
        raise GalleryMismatch(error.message, source.remedy(gallery.embedder_hash)) from None


def _suffixed(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES
