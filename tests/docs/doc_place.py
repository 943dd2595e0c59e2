"""A folder in which the documentation is true: everything that its pages name is there, small and drawn.

The models are tiny ones under the names of real ones. They take a red square for a face; the blue and green
about it tell one person from another. What pages call `s3://` lies in the folder `s3`.
"""

from __future__ import annotations

import base64
import csv
import gzip
import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, redirect_stderr, redirect_stdout
from io import StringIO
from itertools import pairwise
from pathlib import Path

import installed
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from doc_blocks import ROOT
from frozen import AMENDED, FIXTURES, Frozen
from PIL import Image

from frpipe.cli.main import main
from frpipe.jobs.evaluate import output
from frpipe.jobs.face_pipeline import pipeline_of
from frpipe.models.card import LooksSpec, ModelThreshold
from frpipe.models.registry import Registry, read_card
from frpipe.runtime.runtime import Runtime
from frpipe.stages.locate import Locator
from frpipe.testing.executors import InThisProcess
from frpipe.testing.tiny import tiny_detector, tiny_embedder, tiny_pad, tiny_quality

DETECTORS = ("retinaface_mv1_025", "yunet_2023mar", "retinaface_mnet025")
STAGED = ("lightqnet_dm100", "minifasnet_v2", "minifasnet_v1se", "minifas_se_128")
EMBEDDERS = {
    "sface_2021dec": 128,
    "edgeface_xs_q": 512,
    "mobilefacenet_faceplugin": 512,
    "mobilefacenet_npm": 512,
}
THRESHOLD = ModelThreshold(value=0.9, kind="similarity", fmr=1e-4, source="drawn people")
PEOPLE = ("anna", "bela", "joe-biden", "barack-obama")
_SIDE, _PATTERN, _FACE, _TILE = 64, 40, 8, 8


def frpipe(*words: object) -> None:
    """A command of frpipe, in this process. Raises AssertionError with what it said where it fails."""
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()) as said:
        try:
            code: object = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
    assert code in {0, None}, f"exit code {code}: frpipe {' '.join(map(str, words))}\n{said.getvalue()}"


def in_this_process(patch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    """Take these models, keep jobs here, draw no plots, and let drawn people pass for photographed ones."""
    pipeline_of.cache_clear()
    for name, value in environment.items():
        patch.setenv(name, value)
    for name in ("open", "nodes"):
        patch.setattr(Runtime, name, getattr(InThisProcess, name))
    patch.setattr(output, "figures", lambda _: [])
    patch.setattr(Locator, "_is_no_photograph", lambda *_: False)


def make_models(place: Path) -> dict[str, str]:
    """Cards and weights; the environment that tells them to frpipe."""
    cards, weights = place / "cards", place / "weights"
    cards.mkdir(parents=True)
    weights.mkdir()
    earlier = Frozen(shutil.copytree(FIXTURES, place / "earlier"))
    earlier.amend(AMENDED)
    own = ROOT / "models/cards"
    for name in (*DETECTORS, *EMBEDDERS):
        path = weights / f"{name}.onnx"
        real = read_card(own / f"{name}.yaml")
        if name in DETECTORS:
            card = tiny_detector("yunet", path).model_copy(update={"looks": _looks(name)})
        else:
            card = tiny_embedder(path, dim=EMBEDDERS[name], seed=len(name))
            assert card.embedder is not None
            card = card.model_copy(
                update={"embedder": card.embedder.model_copy(update={"threshold": THRESHOLD})}
            )
        known = {"name": name, "file": path.name, "licence": real.licence, "aliases": real.aliases}
        card = card.model_copy(update=known)
        (cards / f"{name}.yaml").write_text(yaml.safe_dump(card.model_dump(mode="json", exclude_none=True)))
    for name in STAGED:
        path, spec = weights / f"{name}.onnx", read_card(own / f"{name}.yaml").pad
        card = tiny_pad(path, spec) if spec else tiny_quality(path)
        card = card.model_copy(update={"name": name})
        (cards / f"{name}.yaml").write_text(yaml.safe_dump(card.model_dump(mode="json", exclude_none=True)))
    return {
        "FRPIPE_CARD_DIR": os.pathsep.join((str(earlier.root / "cards"), str(cards))),
        "FRPIPE_MODEL_DIR": os.pathsep.join((str(earlier.root / "models"), str(weights))),
        "FRPIPE_CACHE": str(place / "cache"),
    }


def _looks(judge: str) -> LooksSpec:
    """Numbers of the tiny detector."""
    return LooksSpec(
        judge=judge,
        sure_score=0.5,
        judged_score=0.5,
        sure_evidence=1.0,
        judged_clear_score=0.5,
        proposal_score=0.4,
        smallest_face_px=8,
        steady_face_px=16,
        steady_roll_deg=12,
        largest_face_px=300,
    )


def draw(path: Path, *faces: tuple[str, int]) -> Path:
    """Draw people side by side, each a little other in each photo; nobody at all is grey."""
    pixels = np.full((_SIDE, _SIDE * max(1, len(faces)), 3), 0 if faces else 90, np.uint8)
    for at, (person, number) in enumerate(faces):
        chosen, own = random.Random(person), random.Random(f"{person} {number}")
        top, left = 8 * (number % 3), _SIDE * at + 8 * (number % 2)
        for row in range(_PATTERN // _TILE):
            for column in range(_PATTERN // _TILE):
                colours = [chosen.choice((40, 110, 180, 250)) - own.randrange(30) for _ in range(2)]
                y, x = top + row * _TILE, left + column * _TILE
                pixels[y : y + _TILE, x : x + _TILE, 1:] = colours
        y, x = (start + (_PATTERN - _FACE) // 2 for start in (top, left))
        pixels[y : y + _FACE, x : x + _FACE, 0] = 250 - number
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "PNG")
    return path


def write_rows(path: Path, rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def make_place(place: Path) -> None:
    """All that several pages name. The working folder is `place`."""
    for name in ("configs", "k8s"):
        (place / name).symlink_to(ROOT / name)
    photos = {f"{person}/{number}.jpg": (person, number) for person in PEOPLE for number in (1, 2)}
    for name, face in photos.items():
        draw(place / "photos" / name, face)
        draw(place / "people" / name, face)
        draw(place / "s3/photos/2026" / name, face)
    for name, number in (("a", 1), ("b", 2), ("c", 3)):
        draw(place / f"{name}.jpg", ("anna", number))
    (place / "cut.jpg").write_bytes((place / "a.jpg").read_bytes()[:200])
    listed = [
        (str(place / "photos" / name), face[0], ("Sales", "Stores")[face[1] % 2])
        for name, face in photos.items()
    ]
    listed += [
        (str(place / "cut.jpg"), "bela", "Sales"),
        (str(place / "photos/gone.jpg"), "anna", "Sales"),
    ]
    rows = [("image_id", "image_uri", "subject_id", "department")]
    rows += [(f"{number:02d}", *row) for number, row in enumerate(listed)]
    for name in ("photos.csv", "staff.csv", "tonight.csv", "m.csv"):
        write_rows(place / name, rows)
    frpipe("manifest", "scan", "photos", "-o", "photos.parquet")
    shutil.copy(place / "photos.parquet", place / "m.parquet")
    frpipe("manifest", "scan", "s3/photos/2026", "-o", "s3/photos/2026-05-01.parquet")
    ids = [row[0] for row in rows[1:]]
    pairs = [(a, b, str(a[1] == b[1])) for a, b in pairwise(ids)]
    write_rows(place / "pairs.csv", [("a", "b", "mated"), *pairs])
    for name in ("ids.txt", "request.txt"):
        (place / name).write_text("anna\n")
    shutil.copytree(FIXTURES / "enroll-finished", place / "out/earlier")
    (place / "mypackage").mkdir()
    (place / "mypackage/dicom.py").write_text("def decode(data):\n    return None\n")
    for name in ("card", "threshold"):
        _card(place / f"{name}.json")


def _card(path: Path) -> None:
    text = (ROOT / "docs/thresholds.md").read_text().partition("```json\n")[2].partition("```")[0]
    sha = Registry.default().card("sface_2021dec").sha256
    path.write_text(json.dumps({**json.loads(text), "embedder_hash": sha}))


# what pages need beside


def enrolled(output: str = "out/photos", *more: object, manifest: str = "photos.csv") -> None:
    frpipe("run", "enroll", "--manifest", manifest, "--output", output, *more)


def gallery(uri: str = "people.gallery", features: str = "out/photos") -> None:
    if not Path(features).exists():
        enrolled(features)
    frpipe("run", "consolidate", "--features", features, "--gallery", uri)


def night(path: str = "night.yaml") -> None:
    """A night that has ended, of one folder a person."""
    Path("album").mkdir()
    for person in PEOPLE:
        draw(Path(f"album/{person}/1.png"), (person, 1))
    places = {"runs": "nights", "photos": "album", "gallery": "night.gallery"}
    settings = {"dedup": {"threshold": 0.99}, "identify": {"gallery": {"threshold": 0.99}}}
    Path(path).write_text(yaml.safe_dump({**places, **settings}))
    frpipe("run", "nightly", "--config", path)


def lfw() -> None:
    """Photos and lists in the form of LFW."""
    names = {"Ann_Lee": 2, "Bo_Kim": 2, "Cy": 2, "Di_Ort": 2}
    for name, count in names.items():
        for number in range(1, count + 1):
            draw(Path(f"lfw/{name}/{name}_{number:04d}.jpg"), (name, number))
    pairs = ["Ann_Lee\t1\t2", "Ann_Lee\t2\tBo_Kim\t1", "Cy\t1\t2", "Cy\t1\tDi_Ort\t2"]
    Path("pairs.txt").write_text("\n".join(["2\t1", *pairs]) + "\n")
    for name, (mated, other) in {"pairsDevTrain": pairs[:2], "pairsDevTest": pairs[2:]}.items():
        Path(f"{name}.txt").write_text(f"1\n{mated}\n{other}\n")
    photo = "{0}/{0}_{1:04d}.jpg".format
    fglfw = [photo("Ann_Lee", 1), photo("Ann_Lee", 2), photo("Cy", 1), photo("Di_Ort", 1)]
    Path("pair_FGLFW.txt").write_text("\n".join(fglfw * 10) + "\n")


def demo_photos() -> None:
    """The demo's photos and manifest, drawn."""
    shutil.rmtree("photos")
    names = ["president-1.jpg", "president-2.jpg", "president-3.jpg"]
    for number, name in enumerate(names):
        draw(Path("photos") / name, ("barack-obama", number))
    draw(Path("photos/vice-president.jpg"), ("joe-biden", 1))
    draw(Path("photos/six-strangers.jpg"), *((f"stranger {n}", n) for n in range(6)))
    rows = [(name, f"photos/{name}", "barack-obama", "President") for name in names]
    rows.append(("vice-president.jpg", "photos/vice-president.jpg", "joe-biden", "Vice President"))
    write_rows(Path("manifest.csv"), [("image_id", "image_uri", "subject_id", "office"), *rows])


def _demo() -> None:
    """The demo's photos; and a gallery G of somebody."""
    demo_photos()
    enrolled("s3/features/2026-05-01", manifest="s3/photos/2026-05-01.parquet")
    gallery("G", "s3/features/2026-05-01")
    for number in (1, 2):
        enrolled(f"features-{number}", manifest="manifest.csv")
    night()


def _shard() -> None:
    gallery("G")
    shard = next(Path("G/shards").glob("*.h5"))
    shutil.copy(shard, shard.with_name("0123456789abcdef0123.h5"))


def _erased() -> None:
    enrolled()
    night()


def _identified() -> None:
    enrolled("STAFF", manifest="staff.csv")
    gallery("people-made", "STAFF")
    frpipe("run", "identify", "--probes", "STAFF", "--gallery", "people-made", "--output", "FOUND")


def _with_gate() -> ExitStack:
    """The example package, whose gate the page names; what it is asked of is enrolled behind it."""
    stack = ExitStack()
    stack.enter_context(installed.example(Path("installed")))
    return stack


def _outputs() -> ExitStack:
    stack = _with_gate()
    embedders = "embed=[{model: sface_2021dec}, {model: edgeface_xs_q}]"
    enrolled("OUT", "--set", embedders, "--set", "stages.dim.least=100")
    Path("OUT/embeddings/NAME").symlink_to(Path("OUT/embeddings/edgeface_xs_q").resolve())
    enrolled()
    return stack


def _dedup() -> None:
    gallery("data/people")
    frpipe("run", "dedup", "--gallery", "data/people", "--output", "RESULT", "--threshold", 0.5)


def _evaluation() -> None:
    lfw()
    gallery("open.gallery")
    enrolled("out/photos")
    for name in ("sface", "edgeface"):
        frpipe("run", "verify", "--pairs", "pairs.csv", "--features", "out/photos", "--output", name)
    gallery()
    _presentations()


def _presentations() -> None:
    """Scores of an invented detector: of nobody."""
    draw = random.Random(0)
    rows = ["pad_score,label,subject_id"]
    for label, mean, amount in (("bona_fide", 0.8, 200), ("print", 0.2, 100), ("replay", 0.4, 60)):
        rows += [f"{draw.gauss(mean, 0.15):.4f},{label},person-{n % 40}" for n in range(amount)]
    Path("presentations.csv").write_text("\n".join(rows) + "\n")


def _operations() -> None:
    """An encrypted gallery, and two keys."""
    enrolled("FEATURES/1")
    Path("secure").mkdir()
    Path("shm").mkdir()
    for name in ("old", "new"):
        Path(f"secure/{name}").write_bytes(base64.b64encode(os.urandom(32)))
        Path(f"secure/{name}").chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRPIPE_GALLERY_KEY_FILE", str(Path("secure/old").absolute()))
        frpipe("gallery", "create", "people", "--like", "FEATURES/1", "--encrypt")
        gallery("people", "FEATURES/1")


def _tonight() -> None:
    enrolled("out/tonight", manifest="tonight.csv")
    enrolled("OUT")


def _mine() -> None:
    lfw()
    shutil.copy("pairs.csv", "mine.csv")


def _rejected() -> ExitStack:
    stack = _with_gate()
    enrolled()
    enrolled("out/dim", "--set", "stages.dim.least=255")
    gallery()
    return stack


def _brackets() -> None:
    enrolled("OUT")
    shutil.copytree("OUT", "out[1]")


def _all_pairs() -> None:
    gallery()


def _readme() -> None:
    """Pairs named as a scan names photos."""
    _tonight()
    names = pq.read_table("photos.parquet")["image_uri"].to_pylist()
    write_rows(
        Path("pairs.csv"), [("a", "b", "mated"), *((a, b, a[-7:] == b[-7:]) for a, b in pairwise(names))]
    )


def _queries() -> None:
    import query_nights

    query_nights.nights()


def _packed() -> None:
    """A folder of packed lists."""
    Path("s3/lists/2026").mkdir(parents=True)
    Path("s3/lists/2026/05.csv.gz").write_bytes(gzip.compress(Path("photos.csv").read_bytes()))


NEEDS: dict[str, Callable[[], AbstractContextManager[object] | None]] = {
    "README.md": _readme,
    "docs/backup.md": lambda: gallery("people"),
    "docs/dedup.md": _dedup,
    "docs/erasure.md": _erased,
    "docs/evaluation.md": _evaluation,
    "docs/gallery-format.md": _shard,
    "docs/gallery.md": _demo,
    "docs/identify.md": _identified,
    "docs/manifest.md": _packed,
    "docs/metrics.md": _all_pairs,
    "docs/operations.md": _operations,
    "docs/outputs.md": _outputs,
    "docs/protocols.md": _mine,
    "docs/queries.md": _queries,
    "docs/recipes.md": _brackets,
    "docs/replay.md": _rejected,
    "docs/stages.md": lambda: installed.example(Path("installed")),
    "docs/tables.md": _erased,
    "docs/turned-and-small.md": lambda: enrolled("OUT"),
    "docs/verify-job.md": lambda: enrolled("OUT"),
}
"""What a page names beside, by page."""
