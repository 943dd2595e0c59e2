"""A small finished enroll output to erase from, without a model or a photo."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from frpipe.core.report import PhotoCounts, Report
from frpipe.core.schema import IMAGE_COLUMNS, SCHEMA_VERSION, face_schema, image_schema
from frpipe.io.output import run
from frpipe.io.output.parts import check_part, write_part
from frpipe.io.output.plan import load_plan, plan
from frpipe.io.storage.folder import Folder

ROWS, PART_ROWS, PARTS = 12, 2, 6
DIM = 8
REJECTED, NO_FACE, TWO_FACES = 3, 5, 6
EXTRA = pa.schema([pa.field("tags", pa.string()), pa.field("boss", pa.string())])
HASHES = {"embedder_hash": "e" * 64, "preprocessing_hash": "p" * 64, "detector_hash": "d" * 64}
METADATA = {f"frpipe.{name}": value for name, value in HASHES.items()}


def image_id(row: int) -> str:
    return f"picture-{row:04d}"


def subject_id(row: int) -> str:
    """Rows 0 and 7 are of one person; `person-1` is a part of `person-10`."""
    return "person-0" if row == 7 else f"person-{row}"


def finished_run(
    place: Path, contents: dict[int, str] | None = None, alike: dict[int, int] | None = None
) -> Folder:
    """contents: what other than its own id a photo's file holds.  alike: rows with the vectors of another.
    The boss of each person is the one before."""
    manifest = place / "m.csv"
    place.mkdir(parents=True, exist_ok=True)
    lines = [f"{image_id(i)},{i}.jpg,{subject_id(i)},t{i},{_boss(i)}" for i in range(ROWS)]
    manifest.write_text("\n".join(("image_id,image_uri,subject_id,tags,boss", *lines)) + "\n")
    out = Folder.at(str(place / "out"))
    cut = plan(str(manifest), out, PART_ROWS)
    facts = {"created": "2026-05-01T00:00:00+00:00", "manifest": str(manifest)}
    run.claim(out, {"schema_version": SCHEMA_VERSION, "manifest": cut.fingerprint, "recipe": {}}, facts)
    for part in range(PARTS):
        rows = range(part * PART_ROWS, (part + 1) * PART_ROWS)
        images = [_image(row, (contents or {}).get(row, image_id(row))) for row in rows]
        faces = [_face(row, each, (alike or {}).get(row, row)) for row in rows for each in range(_faces(row))]
        tables = (
            pa.Table.from_pylist(images, image_schema(EXTRA)),
            pa.Table.from_pylist(faces, face_schema(DIM, EXTRA)),
        )
        write_part(out, part, *tables, METADATA)
    seal(out)
    return out


def seal(out: Folder) -> None:
    """As the enroll job does at its end."""
    files, tally = [], PhotoCounts()
    for part in range(load_plan(out).parts):
        *both, images = check_part(out, part)
        files += both
        tally.add(images)
    report = Report.of(
        tally, pools=[], models={}, parts=PARTS, launch_rows=ROWS, wall_s=1.0, rows_per_s=1.0, output=out.uri
    )
    run.seal(out, files, report.as_dict(), report.text())


def vector(row: int, face: int = 0) -> np.ndarray:
    values = np.random.default_rng(100 * row + face).normal(size=DIM)
    return (values / np.linalg.norm(values)).astype(np.float32)


def _boss(row: int) -> str:
    return "" if row == 0 else f"boss-of-{row}"


def _faces(row: int) -> int:
    return {REJECTED: 0, NO_FACE: 0, TWO_FACES: 2}.get(row, 1)


def _known(row: int) -> dict[str, Any]:
    return {
        "image_id": image_id(row),
        "image_uri": f"{row}.jpg",
        "subject_id": subject_id(row),
        "tags": f"t{row}",
        "boss": _boss(row) or None,
    }


def _image(row: int, content: str) -> dict[str, Any]:
    status, reason = {REJECTED: ("rejected", "truncated"), NO_FACE: ("no_face", None)}.get(row, ("ok", None))
    sha = hashlib.sha256(content.encode()).hexdigest()
    facts = {"status": status, "reason": reason, "attempts": 1, "faces": _faces(row), "content_sha256": sha}
    facts |= {"width": 100, "height": 100}
    return {**dict.fromkeys(column.name for column in IMAGE_COLUMNS), **_known(row), **facts}


def _face(row: int, face: int, alike: int) -> dict[str, Any]:
    measured = ("score", "eye_distance_px", "roll_deg", "detector_face_px", "sharpness", "norm")
    return {
        **dict.fromkeys(("box_x1", "box_y1", "box_x2", "box_y2", *measured), 1.0),
        **_known(row),
        "face_id": f"{image_id(row)}#{face}",
        "face_index": face,
        "is_subject": face == 0,
        "face_policy": "all",
        "landmarks": [float(row)] * 10,
        "refined": False,
        "embedding": vector(alike, face).tolist(),
        **HASHES,
    }
