"""The contract of a further stage: what it declares, and what it does with a batch of aligned faces.

A stage stands between finding faces and embedding them. It measures faces or photos, leaves faces out, or
changes their crops. All else follows from what it declares: its settings in the configuration, its columns in
`faces` and `images`, its part of the recipe, the weights that are brought to the nodes, the tables of the
documentation. A package registers it under its name in the entry point group `frpipe.stages`; a run has it
where the configuration names it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core import plugins
from frpipe.core.config import Section
from frpipe.core.errors import ConfigError
from frpipe.core.held import HELD_NAMES
from frpipe.core.reasons import Reason
from frpipe.core.schema import BY_ANY, MANIFEST_NAMES, Column, reserved_names
from frpipe.models.card import Card
from frpipe.models.crop_model import CropModel
from frpipe.vision.enlarge import Enlarged

__all__ = [
    "Column",
    "Enlarged",
    "FaceBatch",
    "FaceStage",
    "Held",
    "NoSettings",
    "Section",
    "StageResult",
    "stage_class",
    "stage_classes",
]

Values = Sequence[Any] | NDArray[Any]
"""A sequence, an array of NumPy, or one of Arrow."""
NOTHING: Mapping[str, Any] = MappingProxyType({})
_REMEDY = "mend the stage (docs/stages.md; frpipe.testing.stage_kit tests it), or leave it out"


class NoSettings(Section):
    """The settings of a stage that has none."""


@dataclass(frozen=True, slots=True)
class FaceBatch:
    """Some photos with their faces, in order; all faces of a photo are in one batch.

    crops: (n, 112, 112, 3) uint8 RGB, one per face, aligned; not to be written to.  faces: n rows, the
    columns of `faces` that are known before the embedding, and those of earlier stages; `row` is the photo's
    row in `images`.  images: the photos, each with one face at least.  enlarged: by the names that the stage
    gave them, the crops that it asked for: (n, side, side, 3) uint8 RGB, turned by quarters so that heads
    stand upright; not to be written to.
    """

    crops: NDArray[np.uint8]
    faces: pa.Table
    images: pa.Table
    enlarged: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Held:
    """The reason why a face is held back, what was measured, its value, and the limit it did not meet."""

    reason: str
    measure: str
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class StageResult:
    """The result of a stage for a batch.

    faces, images: the declared columns, a value for each face, or for each photo.  reasons: for each face why
    it is left out, a declared reason, or None; None at all: every face stays.  crops: of a stage that changes
    vectors alone, the crops that are embedded in place of those it was given, of the same shape and type.
    held: of a stage that `holds`, for each face why it is held back, or None: it is embedded as others are
    and written to `held/` in place of `faces/`.  The first stage that holds a face is named; one that is also
    left out is in neither.
    """

    faces: Mapping[str, Values] = field(default_factory=dict)
    images: Mapping[str, Values] = field(default_factory=dict)
    reasons: Sequence[str | None] | None = None
    crops: NDArray[np.uint8] | None = None
    held: Sequence[Held | None] | None = None


class FaceStage(ABC):
    """A further stage. One is made in each worker, from its settings and its models, ready to run.

    name: as it is registered.  version: raised whenever the code changes what it computes.  section: of the
    configuration, its settings with defaults, each described.  roles: of each setting that names a card, the
    role that the card must have.  face_columns, image_columns: what it adds; those of images may be null,
    since photos without a face have none.  reasons: why it may leave out a face, or hold it back, each with
    what that means.  holds: whether it may hold faces back.  gates: settings that decide which faces it
    leaves out or holds back, and no value that it gives: a replay may change them.
    changes_vectors: whether it changes crops; then its part of the recipe is part of `preprocessing_hash`.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    section: ClassVar[type[Section]] = NoSettings
    roles: ClassVar[Mapping[str, str]] = NOTHING
    face_columns: ClassVar[tuple[Column, ...]] = ()
    image_columns: ClassVar[tuple[Column, ...]] = ()
    reasons: ClassVar[Mapping[str, str]] = NOTHING
    changes_vectors: ClassVar[bool] = False
    holds: ClassVar[bool] = False
    gates: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: Any, models: Mapping[str, CropModel]) -> None:
        """Prepare the stage. settings: a `section`, filled in.  models: by the setting that names a card."""
        self.settings = settings
        self.models = models

    @classmethod
    def enlarged(cls, settings: Any, cards: Mapping[str, Card]) -> Mapping[str, Enlarged]:
        """The crops of the photo about each face that the stage wants beside the aligned ones, by name.

        settings: as in `__init__`.  cards: of its models.  Asked once, when a worker makes the stage.
        """
        return NOTHING

    @classmethod
    def judged_otherwise(
        cls, settings: Any, cards: Mapping[str, Card], faces: pa.Table
    ) -> NDArray[np.bool_] | None:
        """Mark the accepted faces, (n,) bool, of which these gates say otherwise than their row does.

        They would be left out, held back, or marked otherwise. A replay with other gates does their photos
        again. settings, cards: as in `enlarged`.  faces: n rows of `faces`, at least the stage's columns.
        None: that cannot be told from columns, and all photos with faces are done again.
        """
        return None

    @abstractmethod
    def process(self, batch: FaceBatch) -> StageResult:
        """Process a batch. What is said of a face must not depend on the other photos of the batch."""

    @classmethod
    def timed_columns(cls) -> tuple[Column, ...]:
        """The stage's columns of `images`, with the time that it took, which every stage has."""
        time = Column(f"{cls.name}_ms", pa.float32(), f"its share of a batch's {cls.name}, ms", True)
        return (*cls.image_columns, time)


def stage_class(name: str) -> type[FaceStage]:
    """Load the stage of a name. Raises ConfigError: it is not installed, or what it declares is not right."""
    found = plugins.load(plugins.STAGES, name)
    if not (isinstance(found, type) and issubclass(found, FaceStage)):
        raise ConfigError(f"what is registered as the stage {name!r} is no FaceStage", _REMEDY)
    if fault := declared_fault(found, name):
        raise ConfigError(f"the stage {name!r}: {fault}", _REMEDY)
    return found


def stage_classes(names: Sequence[str]) -> list[type[FaceStage]]:
    """Load the stages of a configuration. Raises ConfigError as `stage_class`, and where two share a name."""
    found = [stage_class(name) for name in names]
    for kind in ("face_columns", "image_columns", "reasons"):
        owners: dict[str, str] = {}
        for stage in found:
            declared = stage.timed_columns() if kind == "image_columns" else getattr(stage, kind)
            for each in declared:
                name = each.name if isinstance(each, Column) else each
                if name in owners:
                    raise ConfigError(
                        f"the stages {owners[name]} and {stage.name} both have {name!r} among their {kind}",
                        "leave one of them out",
                    )
                owners[name] = stage.name
    return found


def declared_fault(stage: type[FaceStage], name: str) -> str:
    """Say what is wrong with what a stage declares; empty where it is right. name: as it is registered."""
    taken = reserved_names() | set(MANIFEST_NAMES) | {"row", "location"} | HELD_NAMES
    columns = [*stage.face_columns, *stage.timed_columns()] if getattr(stage, "name", "") == name else []
    known = {reason.value for reason in Reason} | {"no_face", "ok", "rejected"}
    faults = (
        (not name.isidentifier() or not name.islower(), "its name is no lower-case identifier"),
        (name == BY_ANY, f"{BY_ANY!r} is no name for a stage"),
        (not columns, f"it calls itself {getattr(stage, 'name', None)!r}"),
        (not isinstance(getattr(stage, "version", None), int), "its version is no whole number"),
        (
            not (isinstance(stage.section, type) and issubclass(stage.section, Section)),
            "its section is no Section",
        ),
        *((each.name in taken, f"{each.name!r} is a column of frpipe") for each in columns),
        *((not each.doc, f"the column {each.name!r} is not described") for each in columns),
        *((not each.nullable, f"{each.name!r} of images must be nullable") for each in stage.image_columns),
        *((reason in known, f"{reason!r} is a reason of frpipe") for reason in stage.reasons),
        *((not reason.isidentifier(), f"{reason!r} is no identifier") for reason in stage.reasons),
        *((key not in stage.section.model_fields, f"no setting {key!r} names a card") for key in stage.roles),
        *((key not in stage.section.model_fields, f"its gate {key!r} is no setting") for key in stage.gates),
        (stage.holds and not stage.reasons, "it holds faces back, and declares no reason"),
    )
    return next((what for wrong, what in faults if wrong), "")
