"""Decide which kind of templates a run may give to a gallery."""

from __future__ import annotations

from typing import cast

from frpipe.core.errors import GalleryError
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.policy import Policy
from frpipe.gallery.templates import TemplatePolicy
from frpipe.gallery.weights import WEIGHED_BY, weighted_kind
from frpipe.io.output import run
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.subject_faces import unweighed


def kept_kind(gallery: Gallery, asked: TemplatePolicy | None, policy: Policy) -> TemplatePolicy | None:
    """Choose the kind that a run gives: what is asked for, or the weighted mean that the gallery keeps to.

    Raises GalleryError where the gallery has weighted means and others are asked for, and not replaced.
    """
    kind = cast("TemplatePolicy | None", weighted_kind(gallery))
    if asked is None or kind is None or asked == kind or policy == "replace":
        return asked or kind
    raise GalleryError(
        f"the gallery has templates of the kind {kind}, and {asked} was asked for",
        f"give --templates {kind} (of a night: consolidate.templates), or --policy replace to "
        "exchange those of the people of this run",
    )


def refuse_unweighed(source: FeatureRun, kind: TemplatePolicy | None) -> None:
    """Raise OutputError where the run has not measured what a weighted mean weighs by."""
    if kind is not None and kind in WEIGHED_BY:
        stages = run.begun(source.folder).get("identity", {}).get("recipe", {}).get("stages", {})
        if "quality" not in stages:
            raise unweighed(kind, source.manifest)
