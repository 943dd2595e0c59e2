"""Photos of the pairs that went worst, for a page that people asked to see them on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from frpipe.flows.dedup_source import FeatureSource
from frpipe.flows.features import FeatureRun
from frpipe.flows.systems import System
from frpipe.flows.thumbnails import Thumbnails


def worst_pictures(systems: Sequence[System]) -> dict[str, bytes]:
    """JPEGs by the id of the photo. The systems are of the same photos: the first that has one gives it."""
    found: dict[str, bytes] = {}
    for system in systems:
        ids = {side for trial in system.evaluation.worst for side in (trial.a, trial.b)} - found.keys()
        faces = {one if re.search(r"#\d+$", one) else f"{one}#0": one for one in ids}
        features = FeatureRun.open(system.features)
        source = FeatureSource(features.folder.uri, features.created, 1)
        thumbnails = Thumbnails(source.locations(dict.fromkeys(faces)))
        found |= {one: data for face, one in faces.items() if (data := thumbnails.of(face)) is not None}
    return found
