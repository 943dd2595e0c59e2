"""A finished enroll output of given photos, one face each, without a model or a photo."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from frpipe.core.report import PhotoCounts, Report
from frpipe.core.schema import IMAGE_COLUMNS, SCHEMA_VERSION, face_schema, image_schema
from frpipe.io.output import run
from frpipe.io.output.parts import check_part, write_part
from frpipe.io.output.plan import plan
from frpipe.io.storage.folder import Folder

DIM = 16
HASHES = {"embedder_hash": "e" * 64, "preprocessing_hash": "p" * 64, "detector_hash": "d" * 64}
METADATA = {f"frpipe.{name}": value for name, value in HASHES.items()}
_NOTHING = pa.schema([])


class Photo(NamedTuple):
    """content: what its file holds; the vector is made of it too.  folder: where it lies, with a slash."""

    image_id: str
    subject_id: str | None
    content: str
    folder: str = ""

    @property
    def vector(self) -> np.ndarray:
        """(DIM,) float32, of length 1."""
        seed = int.from_bytes(hashlib.sha256(self.content.encode()).digest()[:4])
        values = np.random.default_rng(seed).standard_normal(DIM)
        return (values / np.linalg.norm(values)).astype(np.float32)


def made_run(place: Path, photos: Sequence[Photo], manifest: Path | None = None) -> Folder:
    """An output in `place`, in one part."""
    if manifest is None:
        manifest = place.parent / f"{place.name}.csv"
        manifest.parent.mkdir(parents=True, exist_ok=True)
        lines = [f'"{p.image_id}","{p.image_id}","{p.subject_id or ""}"' for p in photos]
        manifest.write_text("\n".join(("image_id,image_uri,subject_id", *lines)) + "\n")
    out = Folder.at(str(place))
    cut = plan(str(manifest), out, max(1, len(photos)))
    facts = {"created": "2026-05-01T00:00:00+00:00", "manifest": str(manifest)}
    identity = {"schema_version": SCHEMA_VERSION, "manifest": cut.fingerprint, "recipe": {}}
    run.claim(out, identity, facts)
    images = pa.Table.from_pylist([_image(photo) for photo in photos], image_schema(_NOTHING))
    dim = len(photos[0].vector) if photos else DIM
    faces = pa.Table.from_pylist([_face(photo) for photo in photos], face_schema(dim, _NOTHING))
    write_part(out, 0, images, faces, METADATA)
    *files, table = check_part(out, 0)
    tally = PhotoCounts()
    tally.add(table)
    report = Report.of(
        tally,
        pools=[],
        models={},
        parts=1,
        launch_rows=len(photos),
        wall_s=1.0,
        rows_per_s=1.0,
        output=out.uri,
    )
    run.seal(out, files, report.as_dict(), report.text())
    return out


def _known(photo: Photo) -> dict[str, object]:
    return {
        "image_id": photo.image_id,
        "image_uri": f"{photo.folder}{photo.image_id}",
        "subject_id": photo.subject_id,
    }


def _image(photo: Photo) -> dict[str, object]:
    sha = hashlib.sha256(photo.content.encode()).hexdigest()
    facts = {"status": "ok", "attempts": 1, "faces": 1, "content_sha256": sha, "width": 100, "height": 100}
    return {**dict.fromkeys(column.name for column in IMAGE_COLUMNS), **_known(photo), **facts}


def _face(photo: Photo) -> dict[str, object]:
    measured = ("score", "eye_distance_px", "roll_deg", "detector_face_px", "sharpness", "norm")
    return {
        **dict.fromkeys(("box_x1", "box_y1", "box_x2", "box_y2", *measured), 1.0),
        **_known(photo),
        "face_id": f"{photo.image_id}#0",
        "face_index": 0,
        "is_subject": True,
        "face_policy": "all",
        "landmarks": [1.0] * 10,
        "refined": False,
        "embedding": photo.vector.tolist(),
        **HASHES,
    }
