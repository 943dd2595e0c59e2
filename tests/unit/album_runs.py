"""Finished enroll outputs of photos whose faces a test chooses, without a model or a photo."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from frpipe.core.report import PhotoCounts, Report
from frpipe.core.schema import IMAGE_COLUMNS, SCHEMA_VERSION, face_schema, image_schema, later_image_fields
from frpipe.core.subject import LEFT_OUT_BY
from frpipe.io.output import run
from frpipe.io.output.parts import check_part, write_part
from frpipe.io.output.plan import load_plan, plan
from frpipe.io.storage.folder import Folder

DIM = 16
HASHES = {"embedder_hash": "e" * 64, "preprocessing_hash": "p" * 64, "detector_hash": "d" * 64}
METADATA = {f"frpipe.{name}": value for name, value in HASHES.items()}
_PART_ROWS = 3
_EXTRA = pa.schema([])


def face(seed: int, near: int | None = None) -> np.ndarray:
    """(DIM,) a unit vector; near: of another one's person, at a similarity of about 0.9."""
    values = np.random.default_rng(seed).normal(size=DIM)
    values /= np.linalg.norm(values)
    if near is not None:
        values = face(near) + 0.4 * values
    return (values / np.linalg.norm(values)).astype(np.float32)


@dataclass(frozen=True)
class Shot:
    """A photo: whose it is, and the faces on it (the subject's first), or why it has none.

    left_out: why the subject's face is not among them, if it was left out.
    """

    subject: str | None
    faces: Sequence[np.ndarray] = ()
    status: str = "ok"
    reason: str | None = None
    size: Mapping[int, float] = field(default_factory=dict)
    left_out: str | None = None

    @classmethod
    def empty(cls, subject: str | None) -> Shot:
        return cls(subject, status="no_face")

    @classmethod
    def rejected(cls, subject: str | None, reason: str = "corrupt") -> Shot:
        return cls(subject, status="rejected", reason=reason)


def enrolled(
    out: Path,
    shots: Mapping[str, Shot],
    *,
    day: int = 1,
    root: str | None = "/photos",
    relative: bool = False,
    manifest: Path | None = None,
) -> str:
    """A finished output; by image_id what each photo shows. root: where they lie; None: not known where.
    relative: below the folder of the manifest."""
    out.parent.mkdir(parents=True, exist_ok=True)
    names = list(shots)
    place = {name: name if relative else f"{root}/{name}" for name in names}
    manifest = manifest or out.parent / f"{out.name}.csv"
    lines = [f"{name},{place[name]},{shots[name].subject or ''}" for name in names]
    manifest.write_text("\n".join(("image_id,image_uri,subject_id", *lines)) + "\n")
    folder = Folder.at(str(out))
    cut = plan(str(manifest), folder, _PART_ROWS)
    facts = {"created": f"2026-05-{day:02d}T00:00:00+00:00", "manifest": str(manifest)}
    run.claim(folder, {"schema_version": SCHEMA_VERSION, "manifest": cut.fingerprint, "recipe": {}}, facts)
    later = later_image_fields() if any(shot.left_out for shot in shots.values()) else ()
    for part in range(cut.parts):
        some = names[part * _PART_ROWS : (part + 1) * _PART_ROWS]
        known = {
            name: {
                "image_id": name,
                "image_uri": None if root is None else place[name],
                "subject_id": shots[name].subject,
            }
            for name in some
        }
        images = [_image(known[name], shots[name]) for name in some]
        faces = [_face(known[name], n, shots[name]) for name in some for n in range(len(shots[name].faces))]
        tables = (
            pa.Table.from_pylist(images, image_schema(_EXTRA, staged=later)),
            pa.Table.from_pylist(faces, face_schema(DIM, _EXTRA)),
        )
        write_part(folder, part, *tables, METADATA)
    seal(folder)
    return str(out)


def seal(out: Folder) -> Report:
    """End a run, as the enroll job does; its report."""
    files, tally = [], PhotoCounts()
    for part in range(load_plan(out).parts):
        *both, images = check_part(out, part)
        files += both
        tally.add(images)
    report = Report.of(
        tally, pools=[], models={}, parts=1, launch_rows=1, wall_s=1.0, rows_per_s=1.0, output=out.uri
    )
    run.seal(out, files, report.as_dict(), report.text())
    return report


def _image(known: dict[str, Any], shot: Shot) -> dict[str, Any]:
    content = hashlib.sha256(b"".join(each.tobytes() for each in shot.faces)).hexdigest()
    facts = {"status": shot.status, "reason": shot.reason, "attempts": 1, "faces": len(shot.faces)}
    facts |= dict.fromkeys(LEFT_OUT_BY.values(), shot.left_out)
    facts |= {"faces_detected": len(shot.faces), "content_sha256": content, "width": 100, "height": 100}
    return {**dict.fromkeys(column.name for column in IMAGE_COLUMNS), **known, **facts}


def _face(known: dict[str, Any], number: int, shot: Shot) -> dict[str, Any]:
    """The first is in the middle, the others stand at the edge; `size` makes one the largest."""
    measured = ("score", "eye_distance_px", "roll_deg", "detector_face_px", "sharpness", "norm")
    half = 10 * shot.size.get(number, 1.0)
    middle = 50.0 if number == 0 else 15.0
    box = dict(
        zip(("box_x1", "box_y1", "box_x2", "box_y2"), (middle - half, middle - half) * 1, strict=False)
    )
    box |= {"box_x2": middle + half, "box_y2": middle + half}
    return {
        **dict.fromkeys(measured, 1.0),
        **box,
        **known,
        "face_id": f"{known['image_id']}#{number}",
        "face_index": number,
        "is_subject": number == 0 and shot.left_out is None,
        "face_policy": "all",
        "landmarks": [1.0] * 10,
        "refined": False,
        "embedding": shot.faces[number].tolist(),
        **HASHES,
    }
