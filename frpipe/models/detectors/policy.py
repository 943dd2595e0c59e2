"""Policies: which faces of a photo are meant."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from frpipe.core.config import FacePolicy
from frpipe.core.reasons import Reason, Reject
from frpipe.core.subject import LEFT_OUT_BY, SubjectRule
from frpipe.models.detectors.faces import Faces, Floats


def choose(faces: Faces, width: int, height: int, policy: FacePolicy) -> Faces:
    """Choose the faces to keep, as `chosen` says."""
    return faces.take(chosen(faces.boxes, width, height, policy))


def chosen(boxes: Floats, width: int, height: int, policy: FacePolicy) -> NDArray[np.intp]:
    """Places of the faces to keep, at most one unless the policy is `all`; none where there are none.

    boxes: (k, 4), best score first.  width, height: of the array that they refer to, pixels. Policies:
    - all: every face.
    - largest: the box of the largest area.
    - centre-largest: the largest value of `area - 2 d^2`, d being the distance in pixels from the centre of
      the box to the centre of the photo. Both terms grow alike with the resolution. The factor 2 is that of
      the aligner in D. Sandberg's facenet; on the 3,200 pairs of LFW View 1 it chooses as the nearest face
      does (accuracy 0.9959; largest 0.9922; 0.5 in place of 2 0.9950), and of two faces side by side in a
      group it takes the larger.
    - require-one: the only face; Reject(MANY_FACES) where there are more.
    Ties go to the better score.
    """
    if policy == "all" or not len(boxes):
        return np.arange(len(boxes))
    if policy == "require-one":
        if len(boxes) > 1:
            raise Reject(Reason.MANY_FACES, f"{len(boxes)} faces")
        return np.arange(1)
    return np.array([np.argmax(_merits(boxes, np.array([[width, height]]), policy))])


def within(boxes: Floats, found: int, size: tuple[int, int], most: int) -> list[int]:
    """Places of the faces to keep where a photo may have `most`: those that are meant, then the best scored.

    boxes: (k, 4), of all faces that were found, best score first, and behind the first `found` of them those
    that are refused.  size: width and height.  Where there is no room for two, the face that
    `centre-largest` means is kept.
    """
    if found <= most:
        return [*range(found)]
    rules: tuple[SubjectRule, ...] = ("centre-largest", "largest")
    meant = [int(chosen(boxes, *size, rule)[0]) for rule in rules]
    ranked = dict.fromkeys([*(place for place in meant if place < found), *range(found)])
    return sorted([*ranked][:most])


def reasons_by_policy(
    boxes: Floats, width: int, height: int, why: Mapping[int, str]
) -> dict[str, str | None]:
    """Why the face that each policy means is left out, by the policy's column; None: it is not.

    boxes: (k, 4), of all faces that were found.  why: of those left out the reason, by their row.
    """
    if not why or len(why) == len(boxes):
        return dict.fromkeys(LEFT_OUT_BY.values())
    return {
        name: why.get(int(chosen(boxes, width, height, policy)[0])) for policy, name in LEFT_OUT_BY.items()
    }


def first_of_each(
    photos: NDArray[np.integer], boxes: Floats, sizes: NDArray[np.integer], policy: FacePolicy
) -> NDArray[np.bool_]:
    """Choose the face of each of many photos, as `chosen` does by `largest` or `centre-largest`.

    photos: (k,) of each face the number of its photo; those of a photo best score first.  boxes: (k, 4)
    float32.  sizes: (k, 2) width and height of its photo. Returns (k,) bool, true once for each photo.
    """
    order = np.lexsort((-_merits(boxes, sizes, policy), photos))
    first = np.ones(len(order), bool)
    first[1:] = photos[order[1:]] != photos[order[:-1]]
    found = np.zeros(len(order), bool)
    found[order[first]] = True
    return found


def _merits(boxes: Floats, sizes: NDArray[np.integer], policy: FacePolicy) -> Floats:
    """The merit of each face, (k,), of which a photo's chosen face has most. sizes: (k, 2) or (1, 2)."""
    areas: Floats = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    return areas - 2 * _squared_distances(boxes, sizes) if policy == "centre-largest" else areas


def _squared_distances(boxes: Floats, sizes: NDArray[np.integer]) -> Floats:
    centre = (sizes - 1).astype(np.float32) / 2
    offset = (boxes[:, :2] + boxes[:, 2:]) / 2 - centre
    distances: Floats = np.sum(offset * offset, axis=1, dtype=np.float32)
    return distances
