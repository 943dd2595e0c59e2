"""The stage `pad`: which prints and replays it lets in, which people it keeps out, and what it costs.

    python benchmarks/pad.py ../shared/data spoof lfw borders grey speed
    python benchmarks/pad.py ../shared/data spoof --detector retinaface_mv1_025

- spoof: APCER of prints, the one species with photos enough, and BPCER, at 0.1, 0.5, 0.9 and the threshold of
  the card, with Clopper-Pearson intervals of 95 %; photos without a face, which are non-response; how many
  people have an error at all; the scores of single samples.
- lfw: the share of LFW photos taken for bona fide, by how much of what the network sees is black of a warp;
  and the same photos cropped otherwise than the card says.
- borders: photos without such black, as they are and turned by a few degrees, the corners mirrored or black.
- grey: the photos of spoof and of LFW in colour, and without it.
- speed: the stage against bare loops, per CPU-second of one thread, and what it adds to an enrolment.

Networks are those whose weights are here. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from frpipe.core.config import Config, load_config
from frpipe.metrics.intervals import clopper_pearson
from frpipe.models.card import Card
from frpipe.models.crop_model import CropModel
from frpipe.models.loading import load_crop_model
from frpipe.models.registry import Registry
from frpipe.stages.locate import Located, locator_of
from frpipe.stages.models import Models
from frpipe.stages.pad.probabilities import fused, probabilities, spec_of
from frpipe.vision.enlarge import Enlarged, enlarged_window

Array = np.ndarray[Any, Any]
# Of the same networks the export that is quicker first.
PAIR = (("minifasnet_v2_batched", "minifasnet_v2"), ("minifasnet_v1se_batched", "minifasnet_v1se"))
ALONE = (("minifas_se_128",),)
SAMPLES = {
    "print": ("minivision/images/sample/image_F1.jpg", "vietmoney/data/test/fake_002.jpg"),
    "replay": ("minivision/images/sample/image_F2.jpg",),
    "species not stated": ("vietmoney/data/test/fake_001.jpg", "vietmoney/data/test/fake_003.jpg"),
    "bona fide": (
        "minivision/images/sample/image_T1.jpg",
        "vietmoney/data/test/true_001.jpg",
        "vietmoney/data/test/true_002.jpg",
        "vietmoney/data/test/true_003.png",
    ),
}
BLACK, TURN_DEG = 8, 10
# Crops that differ from what the cards say.
WAYS: Mapping[str, Mapping[str, Any]] = {
    "shift": {"border": "shift"},
    "reflect": {"border": "reflect"},
    "constant": {"border": "constant"},
    "by area": {"resize": "area"},
    "bilinear": {"resize": "bilinear"},
}


class System(NamedTuple):
    """Networks whose probabilities are averaged."""

    models: tuple[CropModel, ...]

    @property
    def threshold(self) -> float:
        return float(np.mean([spec_of(model.card).threshold for model in self.models]))

    @property
    def windows(self) -> list[Enlarged]:
        return [window(model.card) for model in self.models]

    def scores(self, faces: Sequence[Located], windows: Sequence[Enlarged] | None = None) -> Array:
        """Of the first face of each photo. windows: other crops than those of the cards."""
        each = [
            probabilities(model, np.stack([face.enlarged[kind][0] for face in faces]))
            for model, kind in zip(self.models, windows or self.windows, strict=True)
        ]
        return fused([spec_of(model.card) for model in self.models], each)[0]

    def others(self) -> dict[str, list[Enlarged]]:
        """Crops in other ways than those of the cards."""
        found = {way: [window(model.card, **other) for model in self.models] for way, other in WAYS.items()}
        return {way: windows for way, windows in found.items() if windows != self.windows}


def window(card: Card, **other: Any) -> Enlarged:
    """The crop that a card asks for, or another about the same face."""
    spec = spec_of(card)
    return Enlarged(
        spec.scale, card.input.side, other.get("border", spec.border), other.get("resize", spec.resize)
    )


class Bench:
    """A locator that cuts all crops, and the systems."""

    def __init__(self, detector: str) -> None:
        given = [f"detect.model={detector}", "detect.policy=centre-largest", "detect.not_photographs=keep"]
        self.config: Config = load_config(None, given)
        self.models = Models.of(self.config)
        pair, alone = ([_loaded(names, self.config) for names in kind] for kind in (PAIR, ALONE))
        found = {each.card.name: System((each,)) for each in (*pair, *alone) if each}
        if all(pair):
            found["fusion"] = System(tuple(each for each in pair if each))
        self.systems = found

    def faces(self, photos: Iterable[bytes], *, others: bool = False) -> list[Located]:
        """others: crops in other ways are cut, too."""
        kinds = {kind for system in self.systems.values() for kind in system.windows}
        for system in self.systems.values() if others else ():
            kinds |= {kind for windows in system.others().values() for kind in windows}
        models = self.models
        locator = locator_of(models.config, models.detector, models.judge, enlarged=[*kinds])
        return list(locator.locate(photos))


def _loaded(names: Sequence[str], config: Config) -> CropModel | None:
    registry = Registry.default()
    cards = [card for card in map(registry.card, names) if registry.locate(card)]
    return load_crop_model(cards[0], config.resources.locate) if cards else None


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = {"spoof": spoof, "lfw": lfw, "borders": borders, "grey": grey, "speed": speed}
    parser.add_argument("data", type=Path, help="folder with spoof and lfw")
    parser.add_argument("parts", nargs="+", choices=parts)
    parser.add_argument("--detector", default="yunet_2023mar", metavar="CARD")
    parser.add_argument("--photos", type=int, default=1000, help="of LFW, one a person first")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    bench = Bench(options.detector)
    report: dict[str, Any] = {"detector": options.detector}
    for part in options.parts:
        report[part] = parts[part](bench, options.data, options.photos)
        print(f"{part}: {json.dumps(report[part])}", flush=True)
    print(json.dumps(report))


def spoof(bench: Bench, data: Path, _: int) -> dict[str, Any]:
    sets = {
        "bona fide": sorted((data / "spoof/print/live").glob("*/*.jpg")),
        "print": sorted((data / "spoof/print/attack").glob("*/*.jpg")),
    }
    report: dict[str, Any] = {}
    for name, paths in sets.items():
        outcomes = bench.faces((path.read_bytes() for path in paths), others=True)
        seen = [(path, each) for path, each in zip(paths, outcomes, strict=True) if each.crops]
        people = [path.parent.name for path, _ in seen]
        report[name] = {
            "photos": len(paths),
            "non-response": len(paths) - len(seen),
            "people": len({*people}),
        }
        for system_name, system in bench.systems.items():
            scores = system.scores([each for _, each in seen])
            report[name][f"{system_name}, cropped otherwise"] = _otherwise(system, [each for _, each in seen])
            for threshold in sorted({0.1, 0.5, 0.9, system.threshold}):
                accepted = scores >= threshold
                wrong = ~accepted if name == "bona fide" else accepted
                with_error = {who for who, is_wrong in zip(people, wrong, strict=True) if is_wrong}
                rate = "BPCER" if name == "bona fide" else "APCER"
                report[name][f"{system_name} at {threshold:g}"] = {
                    rate: _rate(int(wrong.sum()), len(wrong)),
                    "people with an error": len(with_error),
                    "median score": round(float(np.median(scores)), 4),
                }
    report["samples"] = _samples(bench, data / "spoof/samples")
    return report


def _otherwise(system: System, faces: Sequence[Located]) -> dict[str, Any]:
    """How many are taken for bona fide, by another way of cropping."""
    found = {}
    for way, windows in system.others().items():
        accepted = system.scores(faces, windows) >= system.threshold
        found[f"accepted, {way}"] = _rate(int(accepted.sum()), len(accepted))
    return found


def _samples(bench: Bench, folder: Path) -> dict[str, Any]:
    """The scores of single photos, which are no rates."""
    found: dict[str, Any] = {}
    for species, names in SAMPLES.items():
        outcomes = bench.faces((folder / name).read_bytes() for name in names)
        scored = [each for each in outcomes if each.crops]
        found[species] = {"photos": len(names), "non-response": len(names) - len(scored)} | {
            name: np.round(system.scores(scored), 3).tolist() for name, system in bench.systems.items()
        }
    return found


def _rate(count: int, of: int) -> dict[str, Any]:
    low, high = clopper_pearson(count, of)
    return {"count": count, "of": of, "rate": _3(count / of), "95 %": [_3(low), _3(high)]}


def _3(value: Any) -> float:
    return round(float(value), 3)


def chosen(data: Path, count: int) -> list[Path]:
    """So many photos of LFW: the first of each person, in even steps."""
    first = [sorted(folder.glob("*.jpg"))[0] for folder in sorted((data / "lfw/images").iterdir())]
    return [first[number] for number in np.linspace(0, len(first) - 1, min(count, len(first))).astype(int)]


def pixels_of(path: Path) -> Array:
    pixels = cv2.imread(str(path))
    assert pixels is not None, path
    return np.asarray(pixels)


def lfw(bench: Bench, data: Path, photos: int) -> dict[str, Any]:
    paths = chosen(data, photos)
    outcomes = bench.faces((path.read_bytes() for path in paths), others=True)
    seen = [(path, each) for path, each in zip(paths, outcomes, strict=True) if each.crops]
    faces = [each for _, each in seen]
    report: dict[str, Any] = {"photos": len(paths), "non-response": len(paths) - len(faces)}
    for name, system in bench.systems.items():
        accepted = system.scores(faces) >= system.threshold
        found: dict[str, Any] = {"as the card says": _rate(int(accepted.sum()), len(accepted))}
        found |= _otherwise(system, faces)
        shares = np.array([_black(path, each, system.windows) for path, each in seen])
        found["by black in the window"] = {
            label: _rate(int(accepted[part].sum()), int(part.sum()))
            for label, part in (
                ("below 0.1 %", shares < 0.001),
                ("0.1 to 2 %", (shares >= 0.001) & (shares < 0.02)),
                ("2 % and more", shares >= 0.02),
            )
            if part.any()
        }
        report[name] = found
    report["as cropped, 150 px, no warp"] = _unaligned(bench, data, photos)
    return report


def _black(path: Path, face: Located, windows: Sequence[Enlarged]) -> float:
    """The share of black pixels in the largest of the windows, as far as it lies in the photo."""
    pixels = pixels_of(path)
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = enlarged_window(face.faces.boxes[0], max(windows, key=lambda w: w.scale), width, height)
    part = pixels[max(0, y1) : max(0, y2), max(0, x1) : max(0, x2)]
    return float((part.max(axis=2) <= BLACK).mean())


def _unaligned(bench: Bench, data: Path, photos: int) -> dict[str, Any]:
    paths = sorted((data / "lfw/images_unaligned150").glob("**/*.jpg"))
    paths = paths[:: max(1, len(paths) // photos)]
    faces = [each for each in bench.faces(path.read_bytes() for path in paths) if each.crops]
    return {"photos": len(paths), "non-response": len(paths) - len(faces)} | {
        name: _rate(int((system.scores(faces) >= system.threshold).sum()), len(faces))
        for name, system in bench.systems.items()
    }


def borders(bench: Bench, data: Path, photos: int) -> dict[str, Any]:
    """The same people, their photos turned by a few degrees, with the corners filled up in two ways."""
    whole = [path for path in chosen(data, photos) if (pixels_of(path).max(axis=2) <= BLACK).mean() < 0.001]
    ways: Mapping[str, Any] = {
        "as they are": None,
        "turned, corners mirrored": cv2.BORDER_REFLECT_101,
        "turned, corners black": cv2.BORDER_CONSTANT,
    }
    report: dict[str, Any] = {"photos": len(whole), "turn_deg": TURN_DEG}
    for way, border in ways.items():
        outcomes = bench.faces(_turned(path, border) for path in whole)
        faces = [each for each in outcomes if each.crops]
        report[way] = {"non-response": len(outcomes) - len(faces)} | {
            name: _rate(int((system.scores(faces) >= system.threshold).sum()), len(faces))
            for name, system in bench.systems.items()
        }
    return report


def _turned(path: Path, border: int | None) -> bytes:
    if border is None:
        return path.read_bytes()
    pixels = pixels_of(path)
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), TURN_DEG, 1.0)
    turned = cv2.warpAffine(pixels, matrix, (width, height), borderMode=border)
    return cv2.imencode(".jpg", turned, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def grey(bench: Bench, data: Path, photos: int) -> dict[str, Any]:
    from pad_grey import compared

    frames = {kind: sorted((data / f"spoof/print/{kind}").glob("*/*.jpg")) for kind in ("live", "attack")}
    return compared(bench, {**frames, "LFW": chosen(data, photos)})


def speed(bench: Bench, data: Path, _: int) -> dict[str, Any]:
    from pad_speed import timed

    pair = bench.systems.get("fusion") or next(iter(bench.systems.values()))
    return timed(bench, pair.models, [path.read_bytes() for path in chosen(data, 128)])


if __name__ == "__main__":
    main()
