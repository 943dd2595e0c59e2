"""The demo: real photos of known people and of strangers, enrolled, compared and drawn."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from frpipe.core.config import Config
from frpipe.core.counted import counted
from frpipe.io.output.features import Features
from frpipe.jobs.enroll.job import Enrollment
from frpipe.jobs.sheet import write_sheet
from frpipe.models.packages import Artifact, fetch_members
from frpipe.models.registry import Registry


@dataclass(frozen=True, slots=True)
class DemoPhoto:
    """A photo inside a package of the Python registry, and its person if one is meant."""

    name: str
    member: str
    subject_id: str = ""
    office: str = ""


_PACKAGES: dict[tuple[str, Artifact], tuple[DemoPhoto, ...]] = {
    ("face-recognition==1.3.0", "sdist"): (
        DemoPhoto("president-1.jpg", "tests/test_images/obama.jpg", "barack-obama", "President"),
        DemoPhoto("president-2.jpg", "tests/test_images/obama2.jpg", "barack-obama", "President"),
        DemoPhoto("president-3.jpg", "tests/test_images/obama3.jpg", "barack-obama", "President"),
        DemoPhoto(
            "president-part-1.jpg", "tests/test_images/obama_partial_face.jpg", "barack-obama", "President"
        ),
        DemoPhoto(
            "president-part-2.jpg", "tests/test_images/obama_partial_face2.jpg", "barack-obama", "President"
        ),
        DemoPhoto("vice-president.jpg", "tests/test_images/biden.jpg", "joe-biden", "Vice President"),
    ),
    ("insightface==2.1", "wheel"): (DemoPhoto("six-strangers.jpg", "insightface/data/images/t1.jpg"),),
}
_BROKEN = DemoPhoto("cut-short.jpg", "")
_SUBJECT_FACES = ("image_id", "subject_id", "embedding")


def run_demo(output: Path, say: Callable[[str], None]) -> str:
    """Enroll the demo's photos under `output` and draw the sheet; return the tables to print."""
    photos = output / "photos"
    manifest = _write_photos(photos, say)
    features = str(output / "features")
    say(f"enrolling {manifest}")
    report = Enrollment(str(manifest), features, Config(), say=say).run()
    picture = output / "contact-sheet.png"
    write_sheet(features, picture)
    return "\n".join(
        (
            *_found(features),
            "",
            *_compared(features),
            "",
            report.text(),
            f"contact sheet: {picture}",
            f"features:      {features}",
        )
    )


def _write_photos(folder: Path, say: Callable[[str], None]) -> Path:
    manifest = folder.parent / "manifest.csv"
    if not manifest.exists():
        photos = fetch_photos(folder, say)
        whole = (folder / photos[0].name).read_bytes()
        (folder / _BROKEN.name).write_bytes(whole[: len(whole) // 3])
        _write_manifest(manifest, folder, [*photos, _BROKEN])
    return manifest


def fetch_photos(folder: Path, say: Callable[[str], None]) -> list[DemoPhoto]:
    """Fetch the demo's photos into `folder`; none is written before all are here."""
    found: dict[str, bytes] = {}
    for (package, artifact), photos in _PACKAGES.items():
        say(f"fetching photos from the package {package}")
        content = fetch_members(package, artifact, [photo.member for photo in photos])
        found |= {photo.name: content[photo.member] for photo in photos}
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in found.items():
        (folder / name).write_bytes(data)
    return [photo for photos in _PACKAGES.values() for photo in photos]


def _write_manifest(path: Path, folder: Path, photos: list[DemoPhoto]) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("image_id", "image_uri", "subject_id", "office"))
        writer.writerows((p.name, f"{folder.name}/{p.name}", p.subject_id, p.office) for p in photos)
    partial.replace(path)


def _found(features: str) -> Iterator[str]:
    yield f"{'photo':<24}{'status':<10}{'size':<12}{'faces':<7}why"
    for images in Features.at(features).all_images():
        for row in images.to_pylist():
            size = f"{row['width']}x{row['height']}" if row["width"] else "-"
            yield f"{row['image_id']:<24}{row['status']:<10}{size:<12}{row['faces']:<7}{row['reason'] or ''}"


def _compared(features: str) -> Iterator[str]:
    """Compare each known photo, and the nearest stranger, with the first photo of the President."""
    rows = [row for faces in Features.at(features).all_faces(_SUBJECT_FACES) for row in faces.to_pylist()]
    card = Registry.default().card_for("embedder", Config().embedder.model)
    limit = card.embedder.threshold.similarity if card.embedder and card.embedder.threshold else float("nan")
    reference, others = rows[0], rows[1:]
    yield f"{'compared with ' + reference['image_id']:<36}similarity   same person? (at least {limit:g})"
    similarities = [float(np.dot(reference["embedding"], row["embedding"])) for row in others]
    for row, similarity in zip(others, similarities, strict=True):
        if row["subject_id"]:
            yield f"  {row['image_id']:<34}{similarity:10.3f}   {'yes' if similarity >= limit else 'no'}"
    strangers = [s for row, s in zip(others, similarities, strict=True) if not row["subject_id"]]
    if strangers:
        nearest, name = max(strangers), f"nearest of {counted(len(strangers), 'strangers')}"
        yield f"  {name:<34}{nearest:10.3f}   {'yes' if nearest >= limit else 'no'}"
