"""Select for a replay, beside what is chosen, the accepted photos that changed gates judge otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.io.output.features import Features
from frpipe.io.output.held import is_held
from frpipe.jobs.rejects import Choice
from frpipe.stages.run_spec import RunSpec
from frpipe.stages.stage import FaceStage, stage_classes


@dataclass(frozen=True, slots=True)
class Gate:
    """The gate of a stage, as a replay sets it."""

    stage: type[FaceStage]
    settings: Any
    models: Mapping[str, Any]

    @property
    def columns(self) -> list[str]:
        """The columns that the stage has written of faces."""
        return [column.name for column in self.stage.face_columns]

    def otherwise(self, faces: pa.Table) -> NDArray[np.bool_]:
        """Mark the faces that it judges otherwise than was written, (n,): all, where that cannot be told."""
        found = self.stage.judged_otherwise(self.settings, self.models, faces)
        return np.ones(faces.num_rows, bool) if found is None else np.asarray(found, bool)


@dataclass(frozen=True, slots=True)
class Rejudged:
    """A choice of photos, and the accepted ones with a face that a gate judges otherwise."""

    choice: Choice
    gates: tuple[Gate, ...]

    @classmethod
    def of(cls, choice: Choice, spec: RunSpec, changes: Iterable[str]) -> Self:
        """Make a selection. spec: of the replay.

        changes: the names of the settings that it changes, and of those that earlier replays have changed.
        """
        changed = {name.split(".")[1] for name in changes if name.startswith("stages.")}
        gates = (
            Gate(
                stage,
                stage.section.model_validate(spec.config.stages[stage.name]),
                spec.stage_cards.get(stage.name, {}),
            )
            for stage in stage_classes([name for name in spec.config.stages if name in changed])
        )
        return cls(choice, tuple(gates))

    @property
    def stages(self) -> list[str]:
        """The names of the stages whose gates have changed."""
        return [gate.stage.name for gate in self.gates]

    @property
    def causes(self) -> frozenset[str]:
        """The causes of the choice: faces that are judged otherwise have none yet."""
        return self.choice.causes

    def __str__(self) -> str:
        return f"{self.choice}, or judged otherwise by {', '.join(self.stages)}"

    def in_part(self, run: Features, part: int) -> pa.ChunkedArray:
        """Mark the images of a published part that are meant, (rows,) bool."""
        images = run.images(part, ["image_id"])
        return pc.or_(self.choice.in_part(run, part), self._changed(images, self._faces(run, part)))

    def among(self, images: pa.Table, faces: pa.Table) -> pa.ChunkedArray:
        """Mark the images of a part's tables. faces: held ones among them."""
        accepted = faces.filter(pa.array(~is_held(faces)))
        return pc.or_(self.choice.among(images, faces), self._changed(images, accepted))

    def accepted(self, run: Features) -> int:
        """Count the photos with an accepted face that is judged otherwise."""
        return sum(
            len(pc.unique(faces["image_id"].filter(pa.array(self._otherwise(faces)))))
            for faces in (self._faces(run, part) for part in run.parts())
        )

    def _faces(self, run: Features, part: int) -> pa.Table:
        return run.faces(part, ["image_id", *(name for gate in self.gates for name in gate.columns)])

    def _otherwise(self, faces: pa.Table) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = np.logical_or.reduce([gate.otherwise(faces) for gate in self.gates])
        return found

    def _changed(self, images: pa.Table, faces: pa.Table) -> pa.ChunkedArray:
        theirs = faces["image_id"].filter(pa.array(self._otherwise(faces))).combine_chunks()
        return pc.is_in(images["image_id"], value_set=theirs)
