"""Work on faces of single photos step by step: find, crop, align, embed, compare.

A photo is a path or a URI, the bytes of an encoded photo, or (H, W, 3) uint8 RGB pixels. Each call takes
`detector` and `embedder`, names of cards, or a whole `config`; models are loaded once a process.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frpipe.core.calibration import CalibrationCard
from frpipe.core.config import Config, FacePolicy, load_config
from frpipe.core.errors import ConfigError, FaceError, OutputError
from frpipe.core.migration import Answer, also_called
from frpipe.core.reasons import Reject, Status
from frpipe.core.threshold import ThresholdCard
from frpipe.jobs.face_pipeline import FacePipeline, PhotoSource, pipeline_of
from frpipe.jobs.subject_faces import quality
from frpipe.jobs.verify import single
from frpipe.jobs.verify.single import Verification
from frpipe.stages.locate import Located
from frpipe.vision.align import align_photo
from frpipe.vision.crop import square_crop
from frpipe.vision.decode import Photo, decode

if TYPE_CHECKING:
    import pyarrow as pa

_MODELS = {"model_name": "embedder", "detector_backend": "detector"}
_ONE: FacePolicy = "centre-largest"
_NOW_SIMILARITY = (
    "verify(threshold=) is a similarity, as everywhere, and was a distance in earlier versions: "
    "if a distance is meant, say distance="
)


@dataclass(frozen=True, slots=True, eq=False)
class Face(Answer):
    """A face of a photo.

    box: x1, y1, x2, y2 in pixels of the upright photo, the centre of its top left pixel being 0, 0.
    landmarks: (5, 2) float32, x then y there: left eye, right eye, nose, left and right corner of the mouth,
    left as the viewer sees it.  score: the detector's.  quality: in [0, 1], how usable the face is.
    roll_deg: clockwise, in (-180, 180].  aligned: (112, 112, 3) uint8 RGB, what the embedder is given.
    measures: what the stages of the configuration say of it, by the names of their columns.
    """

    box: tuple[float, float, float, float]
    landmarks: NDArray[np.float32]
    score: float
    quality: float
    roll_deg: float
    aligned: NDArray[np.uint8]
    measures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def left_eye(self) -> tuple[float, float]:
        """The person's own left eye, on the right for the viewer."""
        return _point(self.landmarks[1])

    @property
    def right_eye(self) -> tuple[float, float]:
        """The person's own right eye, on the left for the viewer."""
        return _point(self.landmarks[0])


@also_called(img_path="photo", **_MODELS)
def detect(
    photo: PhotoSource,
    *,
    policy: FacePolicy = "all",
    detector: str | None = None,
    config: Config | None = None,
) -> list[Face]:
    """Find the faces of a photo, best score first; an empty list where there is none.

    policy: which of them are wanted; all, or one as `detect.policy` has it.
    Raises FaceError where the photo cannot be read, or its faces are refused (see the reason).
    """
    pipeline = pipeline_of(settings(config, detector=detector, policy=policy))
    return _faces(_located(pipeline, photo))


@also_called(img_path="photo", detector_backend="detector")
def crop(
    photo: PhotoSource,
    face: Face | None = None,
    *,
    size: int = 224,
    margin: float = 0.0,
    detector: str | None = None,
    config: Config | None = None,
) -> NDArray[np.uint8]:
    """(size, size, 3) uint8 RGB: the square about a face, not squeezed, black outside the photo.

    face: None for the largest near the centre.  margin: share of the square's side added to it.
    Raises FaceError where the photo cannot be read or shows no face.
    """
    found = face or one(photo, config, detector=detector)
    with _rejects_as_errors():
        return square_crop(upright(photo, config).pixels, found.box, size, margin)


@also_called(img_path="photo", detector_backend="detector")
def align(
    photo: PhotoSource,
    face: Face | None = None,
    *,
    size: int = 112,
    detector: str | None = None,
    config: Config | None = None,
) -> NDArray[np.uint8]:
    """(size, size, 3) uint8 RGB: a face, its eyes, nose and mouth moved to where embedders expect them.

    face: None for the largest near the centre. Raises FaceError as `crop` does.
    """
    found = face or one(photo, config, detector=detector)
    if size == found.aligned.shape[0]:
        return found.aligned
    with _rejects_as_errors():
        return align_photo(upright(photo, config), found.landmarks, size, settings(config).align.antialias)


@also_called(img_path="photo", **_MODELS)
def embed(
    photo: PhotoSource | Face,
    *,
    detector: str | None = None,
    embedder: str | None = None,
    config: Config | None = None,
) -> NDArray[np.float32]:
    """(dim,) float32 of unit length: the template of a face.

    photo: a face that `detect` found, or a photo, of which the largest face near the centre is taken.
    Raises FaceError where there is no face, or the model gives no vector for it.
    """
    wanted = settings(config, detector=detector, embedder=embedder)
    face = photo if isinstance(photo, Face) else one(photo, wanted)
    vector = pipeline_of(wanted).embed([face.aligned])[0]
    length = np.linalg.norm(vector)
    if not np.isfinite(length) or not length:
        raise FaceError("the model gives no vector for the face", "choose another photo")
    unit: NDArray[np.float32] = (vector / length).astype(np.float32)
    return unit


@also_called(img1_path="a", img2_path="b", **_MODELS)
def verify(
    a: PhotoSource,
    b: PhotoSource,
    *,
    detector: str | None = None,
    embedder: str | None = None,
    config: Config | None = None,
    threshold: float | None = None,
    distance: float | None = None,
    card: ThresholdCard | None = None,
    calibration: CalibrationCard | None = None,
) -> Verification:
    """Say whether two photos show one person, as the verify job does for many.

    Of each photo the largest face near the centre counts, or what the configuration says.  threshold: a
    similarity, or in its place `distance`; None takes the threshold card, and without one the embedder's.
    calibration: for `llr`; None takes that of the threshold card, where it has one.
    Raises FaceError where a photo shows no face; ConfigError where there is no threshold, or the policy asks
    for all faces; GalleryMismatch for a card of another embedder.
    """
    if threshold is not None:
        warnings.warn(_NOW_SIMILARITY, FutureWarning, stacklevel=3)
    asked = config.detect.policy if config and "policy" in config.detect.model_fields_set else None
    wanted = settings(config, detector=detector, embedder=embedder, policy=asked)
    return single.verify(
        a,
        b,
        config=wanted,
        threshold=threshold,
        distance=distance,
        card=card,
        calibration=calibration,
    )


def similarity(a: ArrayLike, b: ArrayLike) -> float:
    """Cosine similarity of two templates (dim,), in [-1, 1]: 1 is the same direction.

    Raises ValueError for vectors of two sizes, of no length, or that are not finite.
    """
    x, y = (np.asarray(vector, np.float64) for vector in (a, b))
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"templates are two vectors of one size: these are {x.shape} and {y.shape}")
    lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
    if not np.isfinite(lengths) or not lengths:
        raise ValueError("a template has no length, or is not finite")
    return float(np.clip(x @ y / lengths, -1, 1))


def distance(a: ArrayLike, b: ArrayLike) -> float:
    """Cosine distance of two templates (dim,): 1 - similarity, in [0, 2]. Raises as `similarity` does."""
    return 1 - similarity(a, b)


def read_features(output: str, columns: list[str] | None = None, *, held: bool = False) -> pa.Table:
    """The faces of a finished enroll output as one Arrow table; `.to_pandas()` makes a DataFrame of it.

    columns: names in docs/outputs.md, `embedding` among them; None: all.  held: those that a stage has held
    back, with why, in place of the others.  In memory at once: for many millions read `faces/*.parquet` with
    an engine. Raises OutputError where there is no finished output, or no stage of it holds faces back.
    """
    import pyarrow as pa  # noqa: PLC0415 - photos are compared without it

    from frpipe.core.held import HELD_COLUMNS  # noqa: PLC0415
    from frpipe.io.output.features import Features  # noqa: PLC0415
    from frpipe.jobs.features import FeatureRun  # noqa: PLC0415

    features = Features(FeatureRun.open(output).folder, held=held)
    if held and not features.holds:
        raise OutputError(
            f"no stage of {output} holds faces back", "leave held=True out: all its faces are in faces/"
        )
    of_held = sorted({column.name for column in HELD_COLUMNS} & {*(columns or ())})
    if of_held and not held and features.holds:
        raise OutputError(f"only faces that are held back have {', '.join(of_held)}", "add held=True")
    return pa.concat_tables(features.all_faces(columns))


def one(photo: PhotoSource, config: Config | None = None, *, detector: str | None = None) -> Face:
    """Choose the face of a photo that is meant: by default the largest near the centre.

    Raises FaceError where the photo cannot be read or shows no face.
    """
    found = _faces(_located(pipeline_of(settings(config, detector=detector)), photo))
    if not found:
        raise FaceError("the photo gives no face", "choose another photo")
    return found[0]


def upright(photo: PhotoSource, config: Config | None = None) -> Photo:
    """The pixels of a photo, turned as its EXIF says. Raises FaceError where it cannot be read."""
    wanted = settings(config)
    with _rejects_as_errors():
        data = pipeline_of(wanted).read(photo)
        if isinstance(data, Reject):
            raise data
        return decode(data, wanted.decode)


def settings(
    config: Config | None = None,
    *,
    detector: str | None = None,
    embedder: str | None = None,
    policy: FacePolicy | None = None,
) -> Config:
    """Make a configuration with these models and this policy; the policy for one face where none is given.

    Raises ConfigError where models are named beside a configuration, which names its own.
    """
    if config is None:
        named = {"detect.model": detector, "embed.model": embedder, "detect.policy": policy or _ONE}
        return load_config(None, [f"{name}={value}" for name, value in named.items() if value])
    if detector or embedder:
        raise ConfigError("a configuration is given, and models beside it", "name the models in one of them")
    wanted = policy or (_ONE if config.detect.policy == "all" else config.detect.policy)
    return config.model_copy(update={"detect": config.detect.model_copy(update={"policy": wanted})})


def _located(pipeline: FacePipeline, photo: PhotoSource) -> Located:
    located = pipeline.locate([photo])[0]
    if located.status is Status.REJECTED:
        raise FaceError(
            f"the photo gives no face: {located.reason}" + (f" ({located.detail})" if located.detail else ""),
            "choose another photo",
        )
    return located


def _faces(located: Located) -> list[Face]:
    worth = quality(
        *(
            np.array(each, np.float64)
            for each in (located.faces.scores, located.eye_distance_px, located.sharpness)
        )
    )
    return [
        Face(
            box=tuple(map(float, box)),  # type: ignore[arg-type]
            landmarks=points,
            score=float(score),
            quality=float(good),
            roll_deg=float(candidate.roll_deg or 0.0),
            aligned=crop,
            measures=measures,
        )
        for box, points, score, good, candidate, crop, measures in zip(
            located.faces.boxes,
            located.faces.points,
            located.faces.scores,
            worth,
            located.candidates,
            located.crops,
            located.measures or [{}] * len(located.crops),
            strict=True,
        )
    ]


@contextmanager
def _rejects_as_errors() -> Iterator[None]:
    try:
        yield
    except Reject as why:
        raise _refused(why.reason, why.detail) from None


def _refused(reason: str | None, detail: str | None) -> FaceError:
    why = f"{reason} ({detail})" if detail else f"{reason}"
    return FaceError(f"the photo gives no face: {why}", "choose another photo")


def _point(xy: Any) -> tuple[float, float]:
    return float(xy[0]), float(xy[1])
