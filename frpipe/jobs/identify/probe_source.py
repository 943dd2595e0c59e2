"""Read probes from a finished enroll output, or from a manifest that is enrolled first."""

from __future__ import annotations

from collections.abc import Mapping

from frpipe.core.errors import GalleryMismatch
from frpipe.gallery.spec import GallerySpec
from frpipe.io.manifest.list_files import is_list, is_pattern
from frpipe.io.output import run
from frpipe.io.output.features import PartRows
from frpipe.io.storage.folder import Folder
from frpipe.jobs.features import FeatureRun

FEATURES = "features"
"""Folder under the output into which a manifest of probes is enrolled."""

Parts = tuple[int, ...]
"""A unit of work: parts of the probes that are searched together."""
# Photos without a face make rows too: the most photos of a unit, for each probe that it may hold.
_PHOTOS_PER_PROBE = 16


def probe_units(parts: Mapping[int, PartRows], rows: int) -> list[Parts]:
    """Bundle the parts, in order, into units of at least `rows` faces; only the last may have fewer."""
    units: list[Parts] = []
    bundle: list[int] = []
    photos = faces = 0
    for part, count in parts.items():
        bundle.append(part)
        photos, faces = photos + count.photos, faces + count.faces
        if faces >= rows or photos >= _PHOTOS_PER_PROBE * rows:
            units.append(tuple(bundle))
            bundle, photos, faces = [], 0, 0
    return [*units, tuple(bundle)] if bundle else units


def is_manifest(probes: str) -> bool:
    """Whether a URI names a manifest (a file, a folder of files or a pattern), not the output of a run."""
    folder = Folder.at(probes)
    if folder.exists(run.RUN):
        return False
    return is_list(probes) or any(map(is_list, folder.walk())) or is_pattern(probes)


def check_recipe(source: FeatureRun, gallery: GallerySpec) -> None:
    """Raise GalleryMismatch, both hashes named, for probes that the gallery's recipe did not make."""
    try:
        gallery.check_same(source.spec)
    except GalleryMismatch as error:
        raise GalleryMismatch(error.message, source.remedy(gallery)) from None
