"""Decide how photos end once further stages have left out faces of them, or held them back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.config import FacePolicy
from frpipe.core.held import BOTH, FACES_HELD, HELD_INSTEAD
from frpipe.core.left_out import columns_there
from frpipe.core.reasons import Status
from frpipe.core.schema import BY_ANY, extras_of
from frpipe.models.detectors.policy import chosen
from frpipe.stages.stage import Held
from frpipe.stages.tabulate import ROW

_POLICIES: tuple[FacePolicy, ...] = ("largest", "centre-largest")
Reasons = Sequence[str | None]


def columns_of(held: Sequence[Held | None]) -> dict[str, list[str | float | None]]:
    """The columns of held faces: by name a value for each face, null for one that is not held."""
    names = {"held_reason": "reason", "held_measure": "measure", "held_value": "value", "held_limit": "limit"}
    return {
        column: [None if each is None else getattr(each, name) for each in held]
        for column, name in names.items()
    }


def with_faces_held(
    images: pa.Table, faces: pa.Table, reasons: Reasons, held: Sequence[Held | None]
) -> pa.Table:
    """Add to the images how many faces of each are held back, before the manifest's columns.

    And where it has others, whether a policy means one that is held; null where a photo had no face.
    reasons: of each face why it is left out.
    """
    owners = faces[ROW].to_numpy()
    theirs = owners[[each is not None for each in held]]
    counts = np.bincount(theirs, minlength=images.num_rows)
    had = np.bincount(owners, minlength=images.num_rows) > 0
    values = pa.array(counts, FACES_HELD.type, mask=~had)
    where = images.num_columns - len(extras_of(images.schema))
    images = images.add_column(where, FACES_HELD.field_of(BY_ANY), values)
    instead = pa.array(_instead(images, faces, reasons, held), HELD_INSTEAD.type)
    return images.add_column(where + 1, HELD_INSTEAD.field_of(BY_ANY), instead)


def _instead(
    images: pa.Table, faces: pa.Table, reasons: Reasons, held: Sequence[Held | None]
) -> list[str | None]:
    """The policies, for each photo, by which the face that is meant is held, though others are not."""
    owners = faces[ROW].to_numpy()
    boxes = np.stack([faces[f"box_{each}"].to_numpy() for each in ("x1", "y1", "x2", "y2")], axis=1)
    back = np.array([each is not None for each in held], bool)
    there = np.array([reason is None for reason in reasons], bool)
    # Where it is noted that the face that is meant was left out, it is not one that is held.
    meant = np.ones(len(there), bool) if columns_there(images.schema) else there
    found: list[str | None] = [None] * images.num_rows
    for photo in np.intersect1d(owners[back], owners[there & ~back]).tolist():
        rows = np.flatnonzero((owners == photo) & meant)
        width, height = images["width"][photo].as_py(), images["height"][photo].as_py()
        policies = [each for each in _POLICIES if back[rows[chosen(boxes[rows], width, height, each)[0]]]]
        found[photo] = BOTH if len(policies) > 1 else next(iter(policies), None)
    return found


def ended(
    images: pa.Table, owners: NDArray[np.int64], reasons: Reasons, held: Sequence[Held | None]
) -> pa.Table:
    """Write into the images how many faces are written, and how a photo ends that has lost the last.

    reasons, held: of each face why it is left out, or why it is held back; owners: the row of its photo.
    """
    lost = _counted(owners, reasons)
    back = _counted(owners, [each.reason if each else None for each in held])
    columns = {name: images[name].to_pylist() for name in ("status", "reason", "detail", "faces")}
    for row in sorted(lost.keys() | back.keys()):
        _end(columns, row, lost.get(row, Counter()), back.get(row, Counter()))
    for name, values in columns.items():
        at = images.column_names.index(name)
        images = images.set_column(
            at, images.schema.field(at), pa.array(values, images.schema.field(at).type)
        )
    return images


def _end(columns: Mapping[str, list[Any]], row: int, lost: Counter[str], back: Counter[str]) -> None:
    """Settle one photo. lost, back: how many of its faces are left out, and held back, by reason."""
    total = columns["faces"][row]
    columns["faces"][row] = total - lost.total() - back.total()
    if columns["faces"][row]:
        texts = [
            f"{counts.total()} of {total} faces {what}: {_words(counts)}"
            for what, counts in (("left out", lost), ("held back", back))
            if counts
        ]
        columns["detail"][row] = "; ".join(filter(None, (columns["detail"][row], *texts)))
        return
    reason, count = (lost + back).most_common(1)[0]
    columns["status"][row] = Status.REJECTED.value
    held = f", {back.total()} held back" if back else ""
    columns["reason"][row], columns["detail"][row] = reason, f"{count} of {total} faces{held}"


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in counts.items())


def _counted(owners: NDArray[np.int64], reasons: Reasons) -> dict[int, Counter[str]]:
    """Count the reasons of each photo's faces, by the row of the photo."""
    found: dict[int, Counter[str]] = {}
    for owner, reason in zip(owners.tolist(), reasons, strict=True):
        if reason is not None:
            found.setdefault(owner, Counter())[reason] += 1
    return found
