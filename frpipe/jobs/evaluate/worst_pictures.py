"""Photos of the pairs that went worst, for a page that people asked to see them on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from frpipe.jobs.dedup.source import FeatureSource
from frpipe.jobs.evaluate.photo_facts import PhotoFacts
from frpipe.jobs.evaluate.systems import System
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.thumbnails import Thumbnails


def worst_pictures(systems: Sequence[System]) -> dict[str, bytes]:
    """JPEGs by what the list of pairs calls the photo: of the first system whose photos it is among."""
    found: dict[str, bytes] = {}
    for system in systems:
        ids = {side for trial in system.evaluation.worst for side in (trial.a, trial.b)} - found.keys()
        named = np.array(sorted(ids), object)
        images = PhotoFacts.of(system.features).of_photos("image_id", named)
        features = FeatureRun.open(system.features)
        source = FeatureSource(features.folder.uri, features.created, 1)
        # It finds photos by ids of faces; which face is all one.
        faces = [f"{image}#0" for image in images]
        thumbnails = Thumbnails(source.locations(dict.fromkeys(faces)))
        shown = zip(named, map(thumbnails.of, faces), strict=True)
        found |= {name: data for name, data in shown if data is not None}
    return found
