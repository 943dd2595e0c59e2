"""Look up the faces that a list of pairs names: an embedding for each name, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.held import HELD_FACE, HELD_INSTEAD, is_held_instead
from frpipe.core.left_out import LEFT_OUT_FACE, is_left_out
from frpipe.core.reasons import Reason, Reject, Status
from frpipe.core.subject import LEFT_OUT_BY
from frpipe.core.text import canonical_text
from frpipe.core.threshold import Threshold
from frpipe.gallery.schema import EMBEDDING
from frpipe.jobs.subject_faces import SubjectPolicy
from frpipe.jobs.verify.schema import STATUSES, UNKNOWN_FACE, UNKNOWN_IMAGE, pair_schema
from frpipe.matching.exact import inner_products
from frpipe.models.detectors.policy import chosen

_PHOTO = ["image_id", "image_uri", "status", "reason", "width", "height", "faces_detected"]
IMAGE_NAMES = [*_PHOTO, HELD_INSTEAD.name, *LEFT_OUT_BY.values()]
_BOX = ["box_x1", "box_y1", "box_x2", "box_y2"]
FACE_NAMES = ["face_id", "image_id", *_BOX, EMBEDDING]
# What a name costs beside its vector: its text, its place in a dictionary, its reason. With ids of forty
# characters up to 250, and as much again for a face_id, which is looked up by its photo.
NAME_BYTES = 500

# Kinds of names of a photo, in rising precedence.
_FACE_ID, _IMAGE_URI, _IMAGE_ID = 1, 2, 3


@dataclass(frozen=True, slots=True)
class _Part:
    """The faces of a part, ordered by their photo: those of photo i are rows edges[i] to edges[i + 1]."""

    face_ids: list[str]
    boxes: NDArray[np.float32]
    vectors: NDArray[np.float32]
    edges: NDArray[np.int64]

    @classmethod
    def of(cls, images: pa.Table, faces: pa.Table) -> _Part:
        owners = pc.index_in(faces["image_id"], value_set=images["image_id"].combine_chunks()).to_numpy()
        order = np.argsort(owners, kind="stable")
        edges = np.searchsorted(owners[order], np.arange(images.num_rows + 1))
        faces = faces.take(pa.array(order))
        boxes = np.stack([faces[name].to_numpy() for name in _BOX], axis=1)
        flat = faces[EMBEDDING].combine_chunks().flatten().to_numpy()
        dim = faces.schema.field(EMBEDDING).type.list_size
        return cls(faces["face_id"].to_pylist(), boxes, flat.reshape(-1, dim), edges)


class NamedFaces:
    """The faces of names.

    vectors: (n, dim) float32, row i for the name whose number is i; zeros where there is none. A name is an
    image_id, else an image_uri (of several photos at one place the first), else a face_id. A photo stands for
    the face that the policy means; a face_id for that face, whatever the policy.
    """

    def __init__(self, names: Mapping[str, int], dim: int, policy: SubjectPolicy) -> None:
        """Begin without faces. names: in Unicode NFC, numbered from 0 without gaps."""
        self._names, self._policy = names, policy
        # Pages of names that no photo has are never touched.
        self.vectors = np.zeros((len(names), dim), np.float32)
        self._reasons: list[str | None] = [None, UNKNOWN_IMAGE]
        self._why = np.ones(len(names), np.uint8)
        self._rank = np.zeros(len(names), np.uint8)
        self._by_photo = _face_ids_by_photo(names)

    def add(self, images: pa.Table, faces: pa.Table) -> None:
        """Take what is named from a part. images: IMAGE_NAMES, as far as there.  faces: FACE_NAMES."""
        part = _Part.of(images, faces)
        held = is_held_instead(images, self._policy).tolist()
        left_out = is_left_out(images, self._policy).tolist()
        for number, photo in enumerate(images.select(_PHOTO).to_pylist()):
            photo[HELD_FACE], photo[LEFT_OUT_FACE] = held[number], left_out[number]
            rows = range(int(part.edges[number]), int(part.edges[number + 1]))
            self._add_photo(photo, part, rows)

    def present(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether there is an embedding, for some names."""
        mask: NDArray[np.bool_] = self._why[numbers] == 0
        return mask

    def reasons(self, numbers: NDArray[np.int64]) -> pa.StringArray:
        """The reasons why there is no embedding, for some names; null where there is one."""
        return pa.array(self._reasons, pa.string()).take(pa.array(self._why[numbers]))

    def _add_photo(self, photo: dict[str, Any], part: _Part, rows: range) -> None:
        for key, rank in (("image_id", _IMAGE_ID), ("image_uri", _IMAGE_URI)):
            written = photo[key]
            name = None if written is None else self._names.get(canonical_text(written))
            if name is not None:
                self._settle(name, rank, self._meant(photo, part, rows), part)
        for face_id in self._by_photo.get(canonical_text(photo["image_id"]), ()):
            found = next((row for row in rows if canonical_text(part.face_ids[row]) == face_id), None)
            without = _why_none(photo) or UNKNOWN_FACE
            self._settle(self._names[face_id], _FACE_ID, without if found is None else found, part)

    def _settle(self, name: int, rank: int, found: int | str, part: _Part) -> None:
        """Settle a name. found: a row of the part, or why there is none."""
        if rank <= self._rank[name]:
            return
        self._rank[name] = rank
        if isinstance(found, int):
            self.vectors[name] = part.vectors[found]
            self._why[name] = 0
            return
        if found not in self._reasons:
            self._reasons.append(found)
        self._why[name] = self._reasons.index(found)

    def _meant(self, photo: dict[str, Any], part: _Part, rows: range) -> int | str:
        """Choose the row of the face that the policy means, or say why there is none."""
        why = _why_none(photo)
        if why is not None:
            return why
        if self._policy == "require-one" and max(len(rows), photo["faces_detected"] or 0) > 1:
            return Reason.MANY_FACES.value
        if photo[HELD_FACE]:
            return HELD_FACE
        if photo[LEFT_OUT_FACE]:
            return LEFT_OUT_FACE
        boxes = part.boxes[rows.start : rows.stop]
        try:
            (best,) = chosen(boxes, photo["width"], photo["height"], self._policy)
        except Reject as reject:
            return str(reject.reason)
        return rows.start + int(best)


def _why_none(photo: dict[str, Any]) -> str | None:
    """The reason why a photo has no face at all; None: it has one."""
    return None if photo["status"] == Status.OK else str(photo["reason"] or photo["status"])


def _face_ids_by_photo(names: Mapping[str, int]) -> dict[str, list[str]]:
    """Group names of the form `image_id#number` by their image_id."""
    found: dict[str, list[str]] = {}
    for name in names:
        photo, mark, number = name.rpartition("#")
        if mark and number.isdecimal():
            found.setdefault(photo, []).append(name)
    return found


def compared(
    block: pa.Table, a: NDArray[np.int64], b: NDArray[np.int64], faces: NamedFaces, threshold: Threshold
) -> pa.Table:
    """Tabulate some pairs of a list with what was found, as `pair_schema` says.

    a, b: (n,) numbers of their names in `faces`.
    """
    here_a, here_b = faces.present(a), faces.present(b)
    both = here_a & here_b
    similarity = np.zeros(len(a))
    similarity[both] = np.clip(inner_products(faces.vectors, a[both], faces.vectors, b[both]), -1, 1)
    columns = [
        *block.columns,
        pa.array(similarity, mask=~both),
        pa.array(1 - similarity, mask=~both),
        pa.array(np.full(len(a), threshold.similarity)),
        pa.array(similarity >= threshold.similarity, mask=~both),
        pa.array(STATUSES).take(pa.array(~here_a + 2 * ~here_b)),
        faces.reasons(a),
        faces.reasons(b),
    ]
    return pa.table(columns, schema=pair_schema(block.schema))
