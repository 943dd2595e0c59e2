"""The stage `quality`: what it says of photos made worse, of poses, of good faces; and what it costs.

    python benchmarks/quality.py ../shared/data worse rule preset pose speed
    python benchmarks/quality.py ../shared/data pose --detector retinaface_mnet025
    python benchmarks/quality.py ../shared/data agreement --published expected_results.csv

- worse: mean components of LFW photos made worse, the faces found anew; of how many a face is lost.
- rule: components, alone and joined, against the similarity to another photo of the person, on such photos:
  rank correlation, and non-matches left once the worst tenth, fifth and three tenths are discarded.
- preset: the share of good faces that each limit of `enrolment` keeps out: LFW, and CFP frontal and profile.
- pose: angles on CFP and LFW; two detectors on the same photos; the model of the head, fitted anew.
- speed: the stage against bare loops, per CPU-second of one thread, and its share of an enrolment.
- agreement: components of raw values that the reference implementation publishes, against its own.

The learned score is measured where the weights of lightqnet_dm100 are. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from worsen import LADDERS, pixels_of, worse

from frpipe.core.config import Config, load_config
from frpipe.models.registry import Registry
from frpipe.stages.chain import StageChain
from frpipe.stages.locate import Located, locator_of
from frpipe.stages.models import Models
from frpipe.stages.quality.measures import DECISIVE, MEASURES
from frpipe.stages.quality.settings import PRESETS, QualitySettings
from frpipe.stages.tabulate import tabulate
from frpipe.testing.faces import plan_of

Array = np.ndarray[Any, Any]
LEARNED, DETECTOR = "lightqnet_dm100", "yunet_2023mar"
WORSENED, PEOPLE, EVERY = 200, 250, 3
# What each kind of damage should lower: the mean falls with every step.
LOWERS = {
    "blur": ("ofiq_like_sharpness_score", "learned_quality", "quality_score"),
    "noise": ("noise_score", "learned_quality", "quality_score"),
    "dark": (
        "ofiq_like_luminance_mean_score",
        "ofiq_like_luminance_variance_score",
        "ofiq_like_dynamic_range_score",
        "ofiq_like_under_exposure_score",
    ),
    "bright": ("ofiq_like_over_exposure_score", "ofiq_like_natural_colour_score"),
    "small": ("inter_eye_score", "ofiq_like_sharpness_score", "learned_quality", "quality_score"),
    "jpeg": ("ofiq_like_compression_score", "learned_quality", "quality_score"),
}
SCORES = ("quality_score", "learned_quality", *(f"{measure.name}_score" for measure in MEASURES))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = {"worse": worsened, "rule": rule, "preset": preset, "pose": pose, "speed": speed}
    parser.add_argument("data", type=Path, help="folder with lfw and cfp")
    parser.add_argument("parts", nargs="+", choices=[*parts, "agreement"])
    parser.add_argument("--detector", default=DETECTOR, metavar="CARD")
    parser.add_argument("--published", type=Path, help="of the reference implementation: raw and component")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    report: dict[str, Any] = {}
    for part in options.parts:
        if part == "agreement":
            report[part] = agreement(options.published)
        else:
            report[part] = parts[part](options.data, config_of(options.detector))
        print(f"{part}: {json.dumps(report[part])}", flush=True)
    print(json.dumps(report))


def config_of(detector: str, *settings: str) -> Config:
    """One face a photo, whatever it is on; the learned score where its weights are."""
    registry = Registry.default()
    learned = [f"quality.model={LEARNED}"] if registry.find(registry.card(LEARNED)).is_file() else []
    given = [
        f"detect.model={detector}",
        "detect.policy=centre-largest",
        "detect.not_photographs=keep",
        "quality.preset=enrolment",
    ]
    return load_config(None, [*given, *learned, *settings])


class Bench:
    """A locator and the stage, loaded."""

    def __init__(self, config: Config) -> None:
        self.models = Models.of(config)
        self.chain = StageChain.of(self.models.config, self.models.stage_cards)
        self.locator = locator_of(self.models.config, self.models.detector, self.models.judge)

    def locate(self, photos: Iterable[bytes]) -> list[Located]:
        return list(self.locator.locate(photos))

    def faces(self, outcomes: Sequence[Located]) -> pa.Table:
        """The faces with the columns of the stage; `row` is the number of the photo."""
        part = tabulate(0, plan_of(len(outcomes)), outcomes, [1] * len(outcomes), "all")
        return self.chain(part).faces


def lfw(data: Path, every: int = EVERY) -> list[Path]:
    return sorted((data / "lfw/images").glob("*/*.jpg"))[::every]


def worsened(data: Path, config: Config) -> dict[str, Any]:
    """Mean components by kind and amount, the share of photos without a face, and what does not fall."""
    bench = Bench(config)
    photos = lfw(data, 1)[:: 4995 // WORSENED][:WORSENED]
    clean = _means(bench, [path.read_bytes() for path in photos])
    found: dict[str, Any] = {"photos": len(photos), "clean": clean}
    for kind, amounts in LADDERS.items():
        steps = [clean]
        for amount in amounts:
            worse_ones = [worse(pixels_of(path), kind, amount, seed) for seed, path in enumerate(photos)]
            steps.append(_means(bench, worse_ones))
            found[f"{kind} {amount}"] = steps[-1]
        names = [name for name in LOWERS[kind] if name in clean]
        found[f"{kind} rises"] = [
            name for name in names if any(b[name] > a[name] for a, b in pairwise(steps))
        ]
    return found


def _means(bench: Bench, photos: Iterable[bytes]) -> dict[str, float]:
    outcomes = bench.locate(photos)
    faces = bench.faces(outcomes)
    means = {name: _mean(faces[name]) for name in SCORES if faces[name].null_count < faces.num_rows}
    lost = 1 - len(set(faces["row"].to_pylist())) / len(outcomes)
    return {**means, "no_face": round(lost, 3)}


def _mean(column: pa.ChunkedArray) -> float:
    return round(float(np.nanmean(column.cast(pa.float64()).to_numpy())), 3)


def rule(data: Path, config: Config) -> dict[str, Any]:
    """Of components and of their joins: rank correlation with similarity, and what a discard leaves."""
    from quality_rule import ruled

    return ruled(Bench(config), config, data, PEOPLE, (*DECISIVE, "learned_quality"))


def preset(data: Path, config: Config) -> dict[str, Any]:
    """The share of faces beyond each limit, with the learned score and without."""
    cfp = sorted((data / "cfp/images").glob("*/*/*.jpg"))
    sets = {
        "lfw": lfw(data),
        "cfp frontal": [path for path in cfp if path.parent.name == "frontal"],
        "cfp profile": [path for path in cfp if path.parent.name == "profile"],
    }
    both = {"learned": config, "points and pixels": without_network(config)}
    report: dict[str, Any] = {"limits": dict(PRESETS["enrolment"])}
    for name, paths in sets.items():
        outcomes = Bench(config).locate(path.read_bytes() for path in paths)
        for what, each in both.items():
            flags = Bench(each).faces(outcomes)["quality_flags"].to_pylist()
            limits = {limit: sum(limit in (f or "") for f in flags) for limit in PRESETS["enrolment"]}
            report[f"{name}, {what}"] = {
                "faces": len(flags),
                "any": sum(f is not None for f in flags),
                **limits,
            }
    return report


def without_network(config: Config) -> Config:
    settings = {**config.stages["quality"], "model": None}
    return config.model_copy(
        update={"stages": {"quality": QualitySettings(**settings).model_dump(mode="json")}}
    )


def pose(data: Path, config: Config) -> dict[str, Any]:
    """Percentiles of angles, the disagreement of two detectors, and the fitted head."""
    from quality_pose import posed

    return posed(data, config, Bench, lfw(data))


def speed(data: Path, config: Config) -> dict[str, Any]:
    """CPU time of the stage against bare loops, and against all else of an enrolment."""
    from quality_speed import timed

    return timed(Bench(config), Bench(without_network(config)), lfw(data, 1)[::13][:256])


def agreement(published: Path | None) -> dict[str, Any]:
    """Pairs of raw value and component, and the largest difference from ours."""
    if published is None:
        sys.exit(
            "agreement needs --published FILE: raw values in NAME, components in NAME.scalar, `;` between"
        )
    names = {
        "HeadPoseYaw": "pose_yaw",
        "HeadPosePitch": "pose_pitch",
        "HeadPoseRoll": "pose_roll",
        "InterEyeDistance": "inter_eye",
        "SingleFacePresent": "single_face",
        "LeftwardCropOfTheFaceImage": "crop_left",
        "RightwardCropOfTheFaceImage": "crop_right",
        "LuminanceMean": "ofiq_like_luminance_mean",
        "LuminanceVariance": "ofiq_like_luminance_variance",
        "DynamicRange": "ofiq_like_dynamic_range",
        "OverExposurePrevention": "ofiq_like_over_exposure",
        "UnderExposurePrevention": "ofiq_like_under_exposure",
        "IlluminationUniformity": "ofiq_like_illumination_uniformity",
        "NaturalColour": "ofiq_like_natural_colour",
    }
    components: dict[str, Callable[[Any], Any]] = {measure.name: measure.component for measure in MEASURES}
    with published.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    found: dict[str, Any] = {"photos": len(rows)}
    for theirs, ours in names.items():
        raw, expected = (np.array([float(row[f"{theirs}{end}"]) for row in rows]) for end in ("", ".scalar"))
        known = expected >= 0
        apart = np.abs(components[ours](raw[known]) - expected[known])
        found[ours] = {"pairs": int(known.sum()), "most_apart": float(apart.max())}
    return found


if __name__ == "__main__":
    main()
