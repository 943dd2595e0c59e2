"""Estimate the memory of a consolidation, at once or in passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from frpipe.core.sizing import CONSTANTS, GalleryLoad, Image, Reduced, consolidate_bytes
from frpipe.gallery.gallery import GALLERY, Gallery
from frpipe.gallery.spec import GallerySpec
from frpipe.gallery.templates import TemplatePolicy
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.jobs.consolidate.room import Room
from frpipe.jobs.features import FeatureRun


def load_of(
    source: FeatureRun,
    gallery: str,
    spec: GallerySpec,
    counts: tuple[int, int],
    kind: TemplatePolicy,
    *,
    agrees: bool,
    examined: bool,
) -> GalleryLoad:
    """Describe what a run puts into a gallery.

    gallery: its address; it need not be there.  counts: of photos and templates.  agrees: whether a person's
    faces are looked at together.  examined: whether new faces are compared with others.
    """
    photos, templates = counts
    reduced: Reduced = "mean" if kind.endswith("mean") else "chosen" if kind == "medoid" or agrees else "no"
    image: Image = "encrypted" if spec.encryption else "file" if uris.is_local(gallery) else "memory"
    there = Gallery.open(gallery).snapshot().rows if Folder.at(gallery).exists(GALLERY) else 0
    return GalleryLoad(
        photos,
        templates,
        spec.dim,
        faces=source.faces,
        part_faces=max((each.faces for each in source.features.rows().values()), default=0),
        shard_rows=spec.rows_per_shard,
        stored=np.dtype(spec.stored_type).itemsize,
        reduced=reduced,
        examined=examined,
        image=image,
        there=there,
    )


def worker_bytes(load: GalleryLoad, passes: int, room: Room) -> int:
    """Memory of a worker at its peak, where the load is done in so many passes.

    A process that does one pass after the other holds what is known of all photos; a forked worker shares the
    pages of its job.
    """
    share = replace(
        load,
        templates=-(-load.templates // max(1, passes)),
        faces=-(-load.read // max(1, passes)),
    )
    if room.workers == 1:
        return consolidate_bytes(share)
    alone = consolidate_bytes(replace(share, photos=0))
    return alone - CONSTANTS.process + CONSTANTS.forked if room.forked else alone
