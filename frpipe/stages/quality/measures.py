"""The measures of the stage `quality`: their columns, and their values for a batch of faces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from frpipe.core.schema import Column
from frpipe.stages.stage import FaceBatch
from frpipe.vision.quality.border import border_component, border_distances, upright_points
from frpipe.vision.quality.cheeks import (
    illumination_uniformity,
    illumination_uniformity_component,
    natural_colour,
    natural_colour_component,
)
from frpipe.vision.quality.component import Floats
from frpipe.vision.quality.compression import bits_per_pixel, compression_component
from frpipe.vision.quality.detail import detail, noise_component, sharpness_component
from frpipe.vision.quality.eyes import inter_eye_component, inter_eye_distance
from frpipe.vision.quality.luminance import (
    dynamic_range,
    dynamic_range_component,
    face_histograms,
    luminance_mean,
    luminance_mean_component,
    luminance_variance,
    luminance_variance_component,
    over_exposure,
    over_exposure_component,
    under_exposure,
    under_exposure_component,
)
from frpipe.vision.quality.pose import Pose, pose_component, pose_of_points
from frpipe.vision.quality.single import second_face_share, single_face_component

Raw = dict[str, Floats]
"""Values by measure, one for each face; NaN where it could not be assessed."""

LEARNED: Final = "learned_quality"


class Measure(NamedTuple):
    """One measure. name: of the measure and, with `_score` behind, of its component.  raw: its column."""

    name: str
    raw: str
    doc: str
    component: Callable[[ArrayLike], Floats]

    @property
    def columns(self) -> tuple[Column, Column]:
        """The columns of the raw value, and of the component of 0 to 100."""
        words = self.name.replace("ofiq_like_", "").replace("_", " ")
        score = Column(f"{self.name}_score", pa.int8(), f"component of {words}, 0 to 100", True)
        return Column(self.raw, pa.float32(), self.doc, True), score


def _own(name: str, doc: str, component: Callable[[ArrayLike], Floats]) -> Measure:
    return Measure(name, name, doc, component)


MEASURES: Final = (
    Measure("pose_yaw", "pose_yaw_deg", "yaw, degrees; above 0 to the person's own left", pose_component),
    Measure("pose_pitch", "pose_pitch_deg", "pitch, degrees, above 0 down; low confidence", pose_component),
    Measure("pose_roll", "pose_roll_deg", "roll, degrees clockwise", pose_component),
    Measure("inter_eye", "inter_eye_px", "distance of the eyes over cos(yaw), pixels", inter_eye_component),
    Measure(
        "single_face",
        "second_face_share",
        "area of the photo's second largest face over that of its largest",
        single_face_component,
    ),
    Measure("crop_left", "crop_left_eyes", "left border to its eye, in eye distances", border_component),
    Measure("crop_right", "crop_right_eyes", "right border to its eye, in eye distances", border_component),
    _own("ofiq_like_luminance_mean", "mean luminance, 0 to 1", luminance_mean_component),
    _own("ofiq_like_luminance_variance", "variance of luminance, 0 to 0.25", luminance_variance_component),
    _own("ofiq_like_dynamic_range", "entropy of luminance, bits", dynamic_range_component),
    _own("ofiq_like_over_exposure", "share of luminances of 247 to 255", over_exposure_component),
    _own("ofiq_like_under_exposure", "share of luminances of 0 to 25", under_exposure_component),
    _own(
        "ofiq_like_illumination_uniformity",
        "what the luminances of both cheeks have in common, 0 to 1",
        illumination_uniformity_component,
    ),
    _own("ofiq_like_natural_colour", "distance from colours of skin, CIELAB", natural_colour_component),
    _own("ofiq_like_sharpness", "contrast at the fine scale over all contrast", sharpness_component),
    _own("ofiq_like_compression", "bits per pixel of the photo, JPEG alone", compression_component),
    Measure("noise", "noise_sigma", "standard deviation of noise, grey levels of 255", noise_component),
)
BY_NAME: Final = {measure.name: measure for measure in MEASURES}
# In the order in which causes are written.
CAUSES: Final = {
    "inter_eye": "profile",
    "single_face": "other_faces_unknown",
    "crop_left": "eyes_at_one_place",
    "crop_right": "eyes_at_one_place",
    "ofiq_like_compression": "no_jpeg",
    "pose_yaw": "degenerate_points",
    "pose_pitch": "degenerate_points",
    "pose_roll": "degenerate_points",
}
"""Why a measure is null, of those that may be."""


def points_of(batch: FaceBatch) -> Floats:
    """The landmarks of the faces, (n, 5, 2), in pixels of the EXIF-upright photo."""
    flat = pc.list_flatten(batch.faces["landmarks"]).to_numpy()
    return np.asarray(flat, np.float64).reshape(-1, 5, 2)


def measured(batch: FaceBatch, pose: Pose | None = None) -> Raw:
    """All measures of a batch from points and pixels. pose: by a network, in place of that by the points."""
    points = points_of(batch)
    yaw, pitch, roll = pose or pose_of_points(points)
    eyes = np.hypot(*(points[:, 1] - points[:, 0]).T)
    return {
        "pose_yaw": yaw,
        "pose_pitch": pitch,
        "pose_roll": roll,
        "inter_eye": inter_eye_distance(eyes, yaw),
        **_of_photos(batch, points),
        **_of_crops(batch.crops),
    }


def _of_photos(batch: FaceBatch, points: Floats) -> Raw:
    """Measures of the faces that the photo as a whole gives."""
    rows = batch.faces["row"].to_numpy()
    width, height, size = (_numbers(batch.images, name)[rows] for name in ("width", "height", "bytes"))
    turn = np.nan_to_num(_numbers(batch.images, "turn_deg"))[rows]
    left, right = border_distances(*upright_points(points, width, height, turn))
    is_jpeg = pc.fill_null(pc.equal(batch.images["format"], "JPEG"), False).to_numpy()[rows].astype(bool)
    return {
        "single_face": _second_faces(batch, rows)[rows],
        "crop_left": left,
        "crop_right": right,
        "ofiq_like_compression": np.where(is_jpeg, bits_per_pixel(size, width, height), np.nan),
    }


def _second_faces(batch: FaceBatch, rows: NDArray[np.int64]) -> Floats:
    """The share of the second face, by photo; NaN where a face that was found is not in the batch."""
    x1, y1, x2, y2 = (
        batch.faces[f"box_{name}"].to_numpy().astype(float) for name in ("x1", "y1", "x2", "y2")
    )
    count = batch.images.num_rows
    shares = second_face_share((x2 - x1) * (y2 - y1), rows, count)
    found = _numbers(batch.images, "faces_detected") - np.nan_to_num(_numbers(batch.images, "faces_refused"))
    shares[np.nan_to_num(found) > np.bincount(rows, minlength=count)] = np.nan
    return shares


def _of_crops(crops: NDArray[np.uint8]) -> Raw:
    """Measures that the pixels of the aligned crop give."""
    light = face_histograms(crops)
    sharpness, noise = detail(crops)
    return {
        "ofiq_like_luminance_mean": luminance_mean(light),
        "ofiq_like_luminance_variance": luminance_variance(light),
        "ofiq_like_dynamic_range": dynamic_range(light),
        "ofiq_like_over_exposure": over_exposure(light),
        "ofiq_like_under_exposure": under_exposure(light),
        "ofiq_like_illumination_uniformity": illumination_uniformity(crops),
        "ofiq_like_natural_colour": natural_colour(crops),
        "ofiq_like_sharpness": sharpness,
        "noise": noise,
    }


def _numbers(images: pa.Table, name: str) -> Floats:
    """A column of images as numbers, NaN for null and where recipes of a single look have no such column."""
    if name not in images.column_names:
        return np.full(images.num_rows, np.nan)
    return np.asarray(images[name].cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def components(raw: Mapping[str, Floats]) -> Raw:
    """The component of each measure, 0 to 100; NaN where it could not be assessed."""
    return {measure.name: measure.component(raw[measure.name]) for measure in MEASURES}


# Chosen on LFW and on photos made worse (docs/quality.md): what light says of a face hardly tells whether it
# is recognised, and a minimum says what is wrong.
DECISIVE: Final = ("pose_yaw", "ofiq_like_sharpness", "ofiq_like_compression", "noise")


def quality_score(scores: Mapping[str, Floats]) -> Floats:
    """(n,), 0 to 100: the least of the components in `DECISIVE`, and of the learned one where there is one.

    What could not be assessed does not count.
    """
    decisive = [scores[name] for name in (*DECISIVE, LEARNED) if name in scores]
    found: Floats = np.fmin.reduce(decisive)
    return found


def failures(raw: Mapping[str, Floats]) -> list[str | None]:
    """Failures of each face, as `measure: cause; ...`: what could not be assessed; None where all could."""
    causes: list[list[str]] = [[] for _ in next(iter(raw.values()))]
    for name, values in raw.items():
        for row in np.flatnonzero(np.isnan(values)):
            causes[row].append(f"{name}: {CAUSES.get(name, 'not_finite')}")
    return ["; ".join(each) or None for each in causes]
