"""Probes from a finished enroll output, or from a manifest that is enrolled first."""

from __future__ import annotations

from frpipe.flows.enroll import Enrollment
from frpipe.flows.features import FeatureRun
from frpipe.flows.photo import check_config
from frpipe.gallery.gallery import Gallery
from frpipe.io import run
from frpipe.io.folder import Folder
from frpipe.io.manifest import SUFFIXES

FEATURES = "features"
"""Where probes of a manifest are enrolled to, under the output."""


def feature_run(probes: str, gallery: str, enrollment: Enrollment) -> FeatureRun:
    """The run that holds the probes; a manifest is enrolled first, as `enrollment` says.

    Raises GalleryMismatch before any work where the enrollment's settings are not the gallery's.
    """
    if not is_manifest(probes):
        return FeatureRun.open(probes)
    check_config(enrollment.config, Gallery.open(gallery).spec)
    enrollment.run()
    return FeatureRun.open(enrollment.output)


def is_manifest(probes: str) -> bool:
    """Whether a URI names a manifest, not the output of a run."""
    return probes.lower().endswith(tuple(SUFFIXES)) and not Folder.at(probes).exists(run.RUN)
