"""Finished outputs of given photos, one face each, without a model or a photo, and results on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from frpipe.core.report import PhotoCounts, Report
from frpipe.core.schema import IMAGE_COLUMNS, SCHEMA_VERSION, face_schema, image_schema
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.output.parts import check_part, part_file, to_parquet, write_part
from frpipe.io.output.plan import plan
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dedup.schema import CLUSTER_SCHEMA
from frpipe.jobs.dedup.since import CLUSTERS
from frpipe.jobs.identify.schema import PROBE_SCHEMA
from frpipe.jobs.identify.worker import PROBES

DIM = 16
HASHES = {"embedder_hash": "e" * 64, "preprocessing_hash": "p" * 64, "detector_hash": "d" * 64}
METADATA = {f"frpipe.{name}": value for name, value in HASHES.items()}
_NOTHING = pa.schema([])
Facts = Mapping[str, object]
_NO_FACTS: Facts = MappingProxyType({})


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


def made_search(
    place: Path, probes: Folder, created: str, *people: str, gallery: str = "g", facts: Facts = _NO_FACTS
) -> Folder:
    """A result of identify on the photos of an output: each has these people for candidates.

    facts: further ones of its run.json.
    """
    out = Folder.at(str(place))
    identity = {"job": "identify", "gallery_id": gallery, "probes": run.digest(probes)}
    run.claim(out, identity, {"created": created, "probes": probes.uri, **facts})
    rows = [
        {
            **dict.fromkeys(PROBE_SCHEMA.names),
            "image_id": row["image_id"],
            "face_id": f"{row['image_id']}#0",
            "probe_subject_id": row["subject_id"],
            "status": "ok",
            "candidates": [
                {"rank": n, "subject_id": who, "similarity": 1 - n / 10, "distance": n / 10}
                for n, who in enumerate(people, 1)
            ],
            "gallery_id": gallery,
            "gallery_version": 1,
            "embedder_hash": HASHES["embedder_hash"],
            "preprocessing_hash": HASHES["preprocessing_hash"],
        }
        for row in Features(probes).images(0).to_pylist()
    ]
    units = Units(out, PROBES)
    units.publish(0, pa.Table.from_pylist(rows, PROBE_SCHEMA), {})
    run.seal(out, units.files(), {"gallery_id": gallery, "probes": len(rows)}, "")
    return out


def made_dedup(
    place: Path, created: str, *people: str, gallery: str = "g", facts: Facts = _NO_FACTS
) -> Folder:
    """A result of dedup: a cluster of these people, or none. facts: further ones of its run.json."""
    out = Folder.at(str(place))
    run.claim(out, {"job": "dedup", "source": {"gallery_id": gallery}}, {"created": created, **facts})
    cluster = {"cluster_id": "c", "component_id": "c", "size": len(people), "weak": False}
    rows = [{**cluster, "subject_id": who, "keeper": who == people[0]} for who in people]
    data = to_parquet(pa.Table.from_pylist(rows, CLUSTER_SCHEMA), {})
    out.write(CLUSTERS, data)
    run.seal(out, [part_file(CLUSTERS, data)], {"clusters": int(bool(people))}, "")
    return out
