"""Finished enroll outputs of drawn vectors by two embedders, without a model or a photo."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from made_runs import HASHES, Photo, _face, _image

from frpipe.core.report import PhotoCounts, Report
from frpipe.core.schema import SCHEMA_VERSION, embedding_schema, face_schema, image_schema
from frpipe.io.output import run
from frpipe.io.output.parts import check_beside, check_part, write_part
from frpipe.io.output.plan import plan
from frpipe.io.storage.folder import Folder

FIRST, SECOND = "drawn_first", "drawn_second"
DIM, OTHER_DIM = 24, 16
OTHER = {**HASHES, "embedder_hash": "f" * 64}
_FACTS = {"input": {}, "sha256": HASHES["embedder_hash"]}
RECIPE: dict[str, Any] = {
    "settings": {
        "decode": {},
        "detect": {"turns": []},
        "align": {},
        "embed": [{"model": FIRST, "flip": False}, {"model": SECOND, "flip": False}],
    },
    "detector": {"sha256": HASHES["detector_hash"]},
    "embedder": _FACTS,
    "embedders": {SECOND: {**_FACTS, "sha256": OTHER["embedder_hash"]}},
}


def drawn_run(
    place: Path,
    people: Sequence[str],
    photos: int = 2,
    *,
    noise: float = 0.9,
    seed: int = 0,
    columns: dict[str, Sequence[str]] | None = None,
) -> Folder:
    """An output of so many photos of each person: `WHO-0`, `WHO-1`, and so on.

    noise: how far photos of a person are apart, in lengths of a vector.  columns: of the manifest, a value
    for each person.
    """
    rng, own = np.random.default_rng(seed), columns or {}
    shots = [Photo(f"{who}-{n}", who, f"{who}-{n}") for who in people for n in range(photos)]
    manifest = place.parent / f"{place.name}.csv"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    head = ",".join(("image_id,image_uri,subject_id", *own))
    values = [",".join(each) for each in zip(*own.values(), strict=True)] or [""] * len(people)
    lines = [
        f"{shot.image_id},{shot.image_id},{shot.subject_id}{',' * bool(own)}{values[n // photos]}"
        for n, shot in enumerate(shots)
    ]
    manifest.write_text("\n".join((head, *lines)) + "\n")
    out = Folder.at(str(place))
    cut = plan(str(manifest), out, len(shots))
    identity = {"schema_version": SCHEMA_VERSION, "manifest": cut.fingerprint, "recipe": RECIPE}
    run.claim(out, identity, {"created": "2026-05-01T00:00:00+00:00", "manifest": str(manifest)})
    extra = pa.schema([(name, pa.string()) for name in own])
    more = [{name: column[n // photos] for name, column in own.items()} for n in range(len(shots))]
    first, second = (_vectors(rng, len(people), photos, noise, dim) for dim in (DIM, OTHER_DIM))
    rows = [{**_face(shot), "embedding": vector.tolist()} for shot, vector in zip(shots, first, strict=True)]
    faces = pa.Table.from_pylist(
        [{**row, **each} for row, each in zip(rows, more, strict=True)], face_schema(DIM, extra)
    )
    images = pa.Table.from_pylist(
        [{**_image(shot), **each} for shot, each in zip(shots, more, strict=True)], image_schema(extra)
    )
    beside = pa.Table.from_pylist(
        [{**row, **OTHER, "embedding": vector.tolist()} for row, vector in zip(rows, second, strict=True)],
        embedding_schema(OTHER_DIM).with_metadata(_metadata(OTHER)),
    )
    write_part(out, 0, images, faces, _metadata(HASHES), {SECOND: beside})
    *files, table = check_part(out, 0)
    tally = PhotoCounts()
    tally.add(table)
    facts = {
        "pools": [],
        "models": {},
        "parts": 1,
        "launch_rows": len(shots),
        "wall_s": 1.0,
        "rows_per_s": 1.0,
    }
    report = Report.of(tally, output=out.uri, **facts)  # type: ignore[arg-type]
    run.seal(out, [*files, *check_beside(out, 0, table)], report.as_dict(), report.text())
    return out


def all_pairs(place: Path, people: Sequence[str], photos: int = 2) -> Path:
    """The list of all pairs of the photos of such a run."""
    ids = [(f"{who}-{n}", who) for who in people for n in range(photos)]
    pairs = (f"{a},{b},{str(x == y).lower()}" for (a, x), (b, y) in itertools.combinations(ids, 2))
    place.write_text("\n".join(("a,b,mated", *pairs)) + "\n")
    return place


def _metadata(hashes: dict[str, str]) -> dict[str, str]:
    return {f"frpipe.{name}": value for name, value in hashes.items()}


def _vectors(rng: np.random.Generator, people: int, photos: int, noise: float, dim: int) -> np.ndarray:
    centres = np.repeat(_unit(rng.normal(size=(people, dim))), photos, axis=0)
    return _unit(centres + noise * _unit(rng.normal(size=centres.shape))).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
