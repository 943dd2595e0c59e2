"""Scan a run, before anything is changed, for the rows of people who are to be erased."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.held import FACES_HELD
from frpipe.gallery.schema import vectors_of
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.erasure.needles import Haystack, Needle
from frpipe.io.output.features import Features
from frpipe.io.output.plan import ManifestPlan, read_part
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.in_order import in_order

_IMAGES = ("image_id", "subject_id", "content_sha256", "faces")
_ALL = "all_faces"
_FACES = ["image_id", "subject_id", "embedding"]


@dataclass(slots=True)
class FoundRows:
    """The rows to erase.

    ids: those that occur in a row.  faces: their number, held ones among them.  contents: SHA-256 of photos
    with a face.  needles: their vectors.
    """

    ids: ErasedIds
    images: int = 0
    faces: int = 0
    parts: list[int] = field(default_factory=list)
    contents: set[str] = field(default_factory=set)
    needles: set[Needle] = field(default_factory=set)


@dataclass(slots=True)
class Copies:
    """Rows that stay and show what is erased: the same file, or the same vector, under another photo's id.

    shared: those of their vectors that are looked for.
    """

    ids: ErasedIds
    images: int = 0
    shared: set[Needle] = field(default_factory=set)


def scan(out: Folder, plan: ManifestPlan, wanted: ErasedIds, pending: ErasedIds) -> FoundRows:
    """Find the rows with one of the ids `wanted`, but for those whose erasure is under way.

    Reads ids of all parts, and vectors where there are such rows. Raises OutputError: a part is damaged.
    """
    features = Features(out)
    done, each = {*features.parts()}, features.by_vectors()

    def look(part: int) -> FoundRows:
        images = _images(features, part) if part in done else _unpublished(out, part)
        hit = images.filter(pa.array(wanted.mask(images) & ~pending.mask(images)))
        found = FoundRows(wanted.among(hit), hit.num_rows, pc.sum(hit[_ALL]).as_py() or 0)
        if found.images:
            found.parts = [part]
            with_face = hit.filter(pc.greater(hit[_ALL], 0))
            found.contents = set(with_face["content_sha256"].drop_null().to_pylist())
        if found.faces:
            found.needles = {n for own in each for n in Needle.of(_vectors(own, part, hit))}
        return found

    total = FoundRows(ErasedIds(wanted.key))
    for found in in_order(look, range(plan.parts)) if len(wanted) else ():
        total.ids |= found.ids
        total.images, total.faces = total.images + found.images, total.faces + found.faces
        total.parts += found.parts
        total.contents |= found.contents
        total.needles |= found.needles
    return total


def copies_of(out: Folder, found: FoundRows, erased: ErasedIds) -> Copies:
    """Find copies of the photos that stay. erased: ids of all rows that go. Reads all vectors of the run."""
    features, haystack = Features(out), Haystack(found.needles)
    contents = pa.array(sorted(found.contents), pa.string())
    each = features.by_vectors()

    def look(part: int) -> Copies:
        images = _images(features, part)
        with_face = pc.greater(images[_ALL], 0).to_numpy()
        stays = with_face & ~erased.mask(images)
        same = images.filter(pa.array(stays & pc.is_in(images["content_sha256"], contents).to_numpy()))
        ids = set(same["image_id"].to_pylist())
        shared: set[Needle] = set()
        for own in each:
            kept = own.faces(part, _FACES)
            kept = kept.filter(pa.array(~erased.mask(kept)))
            same_vectors = haystack.found_in(vectors_of(kept).tobytes())
            if same_vectors:
                alike = [needle in same_vectors for needle in Needle.of(vectors_of(kept))]
                ids |= set(kept.filter(pa.array(alike))["image_id"].to_pylist())
                shared |= same_vectors
        return Copies(ErasedIds.of(erased.key, (), ids), len(ids), shared)

    total = Copies(ErasedIds(erased.key))
    for copies in in_order(look, features.parts()) if found.faces else ():
        total.ids |= copies.ids
        total.images += copies.images
        total.shared |= copies.shared
    return total


def _images(features: Features, part: int) -> pa.Table:
    """Read the images of a part, with the number of faces of each, those that are held among them."""
    if not features.holds:
        images = features.images(part, _IMAGES)
        return images.append_column(_ALL, images["faces"])
    images = features.images(part, (*_IMAGES, FACES_HELD.name))
    return images.append_column(_ALL, pc.add(images["faces"], pc.fill_null(images[FACES_HELD.name], 0)))


def _unpublished(out: Folder, part: int) -> pa.Table:
    """Read the rows of a part from the plan alone: its files were damaged, and withdrawn."""
    rows = read_part(out, part).select(["image_id", "subject_id"])
    nothing = {"content_sha256": pa.nulls(len(rows), pa.string()), _ALL: np.zeros(len(rows), np.int32)}
    return pa.table({"image_id": rows["image_id"], "subject_id": rows["subject_id"], **nothing})


def _vectors(features: Features, part: int, images: pa.Table) -> np.ndarray:
    faces = features.faces(part, _FACES)
    theirs = pc.is_in(faces["image_id"], value_set=images["image_id"].combine_chunks())
    return vectors_of(faces.filter(theirs))
