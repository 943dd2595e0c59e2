"""Run the further stages of a configuration over a part's faces, before they are embedded."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.config import Config
from frpipe.core.errors import ConfigError, FrpipeError
from frpipe.core.reasons import Status
from frpipe.core.schema import Column, extras_of
from frpipe.io.output.held import is_held, with_held
from frpipe.models.card import Card
from frpipe.models.loading import load_crop_model
from frpipe.stages.endings import columns_of, ended, with_faces_held
from frpipe.stages.left_out import noted
from frpipe.stages.locate import Located
from frpipe.stages.part_batch import PartBatch
from frpipe.stages.stage import FaceBatch, FaceStage, Held, StageResult, Values, stage_classes
from frpipe.stages.tabulate import ROW, tabulate
from frpipe.vision.enlarge import Enlarged

Feed = Callable[[], None]
Mask = NDArray[np.bool_]
# Faces that a stage sees at once: enough for its models, few enough for its memory and for the watchdog.
BATCH_FACES = 256
_REMEDY = "mend the stage, or leave it out (docs/stages.md)"


class StageChain:
    """The stages of a run in the order of their names; an empty chain does nothing."""

    def __init__(self, stages: Sequence[FaceStage], batch_faces: int = BATCH_FACES) -> None:
        self._stages = stages
        self._batch_faces = batch_faces
        self._wanted = [_wanted_of(stage) for stage in stages]

    @classmethod
    def of(cls, config: Config, cards: Mapping[str, Mapping[str, Card]]) -> StageChain:
        """Stages ready to run on the device of the locate pool, where they run.

        cards: by stage and by the setting that names the card. Raises ConfigError: a stage is not installed;
        ModelError and its kin: its models.
        """
        return cls(
            [_made(stage, config, cards.get(stage.name, {})) for stage in stage_classes([*config.stages])]
        )

    def __bool__(self) -> bool:
        return bool(self._stages)

    @property
    def enlarged(self) -> tuple[Enlarged, ...]:
        """The crops that the stages ask for beside the aligned ones, each once."""
        return tuple(dict.fromkeys(kind for wanted in self._wanted for kind in wanted.values()))

    def __call__(self, part_batch: PartBatch, feed: Feed = lambda: None) -> PartBatch:
        """Add the columns of the stages to a part, and drop the faces that they leave out.

        Faces that are held back stay, with why behind them (frpipe.io.output.held).
        feed: called whenever a stage has done a batch.  The crops are copied only where faces are left out.
        """
        return self._run(part_batch, feed)[0] if self else part_batch

    def apply(self, located: Located) -> None:
        """Run the stages on one photo outside of a run: its faces, or how it ends, are changed in place.

        A face that would be held back is left out: there is nowhere to hold it.
        """
        if not self or not located.crops:
            return
        photo = tabulate(0, _ANY_PLAN, [located], [1], "all")
        after, kept = self._run(photo, lambda: None)
        row = after.images.select(["status", "reason", "detail"]).to_pylist()[0]
        written = ~is_held(after.faces)
        indices = np.flatnonzero(kept)[written]
        located.status, located.reason, located.detail = Status(row["status"]), row["reason"], row["detail"]
        located.faces = located.faces.take(indices)
        located.crops, located.enlarged = list(after.crops[written]), {}
        located.measures = after.faces.filter(pa.array(written)).select(self.measures).to_pylist()
        for name in ("candidates", "eye_distance_px", "sharpness"):
            values = getattr(located, name)
            setattr(located, name, [values[index] for index in indices] if values else [])

    @property
    def measures(self) -> list[str]:
        """The columns of faces that the stages add."""
        return [column.name for stage in self._stages for column in stage.face_columns]

    def _run(self, part_batch: PartBatch, feed: Feed) -> tuple[PartBatch, Mask]:
        """Run the stages: the part afterwards, and which of its faces are kept."""
        images, faces, crops = part_batch.images, part_batch.faces, part_batch.crops
        owners = faces[ROW].to_numpy()
        spans = list(_spans(owners, self._batch_faces))
        reasons: list[str | None] = [None] * len(owners)
        held: list[Held | None] = [None] * len(owners)
        for stage, wanted in zip(self._stages, self._wanted, strict=True):
            if stage.changes_vectors and not crops.flags.writeable:
                crops = crops.copy()
            enlarged = _of_stage(stage, wanted, part_batch) if len(owners) else {}
            found = _Found(stage, images, faces, crops, enlarged)
            for start, stop in spans:
                told, back = found.add(start, stop)
                reasons[start:stop] = [a or b for a, b in zip(reasons[start:stop], told, strict=True)]
                held[start:stop] = [a or b for a, b in zip(held[start:stop], back, strict=True)]
                feed()
            images, faces = found.images(), found.faces()
        held = [each if reason is None else None for each, reason in zip(held, reasons, strict=True)]
        if any(stage.holds for stage in self._stages):
            images = with_faces_held(images, faces, reasons, held)
            faces = with_held(faces, columns_of(held))
        kept = np.array([reason is None for reason in reasons], bool)
        images = noted(images, faces, owners, reasons)
        if not kept.all() or any(held):
            images = ended(images, owners, reasons, held)
        if not kept.all():
            faces, crops = faces.filter(pa.array(kept)), crops[kept]
        return PartBatch(part_batch.part, images, faces, crops), kept


class _Found:
    """The findings of one stage in a part, batch by batch."""

    def __init__(
        self,
        stage: FaceStage,
        images: pa.Table,
        faces: pa.Table,
        crops: NDArray[np.uint8],
        enlarged: Mapping[str, NDArray[np.uint8]],
    ) -> None:
        self._stage, self._images, self._faces, self._crops = stage, images, faces, crops
        self._enlarged = enlarged
        self._owners = faces[ROW].to_numpy()
        self._of_faces: dict[str, list[pa.Array]] = {column.name: [] for column in stage.face_columns}
        self._of_images: dict[str, list[pa.Array]] = {each.name: [] for each in stage.timed_columns()}
        self._photos: list[NDArray[np.int64]] = []

    def add(self, start: int, stop: int) -> tuple[Sequence[str | None], Sequence[Held | None]]:
        """Process a batch; return why each of its faces is left out, and why it is held back."""
        photos, rows = np.unique(self._owners[start:stop], return_inverse=True)
        faces = self._faces.slice(start, stop - start)
        faces = faces.set_column(faces.column_names.index(ROW), ROW, pa.array(rows))
        crops = _view(self._crops[start:stop])
        enlarged = {name: _view(whole[start:stop]) for name, whole in self._enlarged.items()}
        began = time.perf_counter()
        result = self._process(FaceBatch(crops, faces, self._images.take(pa.array(photos)), enlarged))
        each_ms = (time.perf_counter() - began) * 1000 / (stop - start)
        times = {f"{self._stage.name}_ms": np.bincount(rows) * each_ms}
        self._photos.append(photos)
        self._keep(self._stage.face_columns, result.faces, stop - start, self._of_faces)
        self._keep(self._stage.timed_columns(), {**result.images, **times}, len(photos), self._of_images)
        if result.crops is not None:
            self._crops[start:stop] = self._changed(result.crops, crops)
        return self._reasons(result, stop - start), self._held(result, stop - start)

    def faces(self) -> pa.Table:
        """The faces, the stage's columns last."""
        table, added = self._faces, self._stage.face_columns
        # All at once: to append them one by one takes a time for each that is already there.
        fields = [*table.schema, *(column.field_of(self._stage.name) for column in added)]
        values = (pa.chunked_array(self._of_faces[column.name], column.type) for column in added)
        return pa.Table.from_arrays(
            [*table.columns, *values], schema=pa.schema(fields, table.schema.metadata)
        )

    def images(self) -> pa.Table:
        """The images, the stage's columns before the manifest's; null where a photo has no face."""
        table, extra = self._images, extras_of(self._images.schema)
        at = np.full(table.num_rows, -1)
        photos = np.concatenate([np.zeros(0, np.int64), *self._photos])
        at[photos] = np.arange(len(photos))
        indices = pa.array(at, mask=at < 0)
        for column in self._stage.timed_columns():
            values = pa.chunked_array(self._of_images[column.name], column.type).take(indices)
            where = table.num_columns - len(extra)
            table = table.add_column(where, column.field_of(self._stage.name), values)
        return table

    def _process(self, batch: FaceBatch) -> StageResult:
        try:
            result = self._stage.process(batch)
        except (FrpipeError, MemoryError):
            raise
        except Exception as error:
            # Its text may hold anything of a photo; where it was raised may not.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
            raise self._fault(f"failed with {type(error).__name__} ({where})") from error
        if not isinstance(result, StageResult):
            raise self._fault("gave no StageResult")
        return result

    def _keep(
        self,
        columns: Sequence[Column],
        given: Mapping[str, Values],
        rows: int,
        kept: dict[str, list[pa.Array]],
    ) -> None:
        differing = {column.name for column in columns} ^ set(given)
        if differing:
            raise self._fault(f"gave other columns than it declares: {', '.join(sorted(differing))}")
        for column in columns:
            kept[column.name].append(self._array(column, given[column.name], rows))

    def _array(self, column: Column, values: Any, rows: int) -> pa.Array:
        try:
            if isinstance(values, pa.Array):
                array = values if values.type == column.type else values.cast(column.type)
            else:
                array = pa.array(values, column.type)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            raise self._fault(f"gave a column {column.name!r} that is not of {column.type}") from None
        if len(array) != rows:
            raise self._fault(f"gave {len(array)} values of {column.name!r} for {rows} rows")
        if array.null_count and not column.nullable:
            raise self._fault(f"gave a null for {column.name!r}, which may have none")
        return array

    def _changed(self, crops: Any, before: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if not self._stage.changes_vectors:
            raise self._fault("changes crops and does not declare that it changes vectors")
        if not isinstance(crops, np.ndarray) or (crops.shape, crops.dtype) != (before.shape, before.dtype):
            raise self._fault("gave crops of another shape or type")
        return crops

    def _reasons(self, result: StageResult, rows: int) -> Sequence[str | None]:
        reasons = [None] * rows if result.reasons is None else list(result.reasons)
        if len(reasons) != rows:
            raise self._fault(f"gave {len(reasons)} reasons for {rows} faces")
        for reason in {each for each in reasons if each is not None} - set(self._stage.reasons):
            raise self._fault(f"leaves faces out for {reason!r}, which it does not declare")
        return reasons

    def _held(self, result: StageResult, rows: int) -> Sequence[Held | None]:
        held = [None] * rows if result.held is None else list(result.held)
        if len(held) != rows:
            raise self._fault(f"says of {len(held)} faces whether they are held back, for {rows} faces")
        if any(each is not None and not _is_held(each) for each in held):
            raise self._fault("holds faces back by what is no Held of words and numbers")
        given = {each.reason for each in held if each is not None}
        if given and not self._stage.holds:
            raise self._fault("holds faces back and does not declare that it holds any")
        for reason in given - set(self._stage.reasons):
            raise self._fault(f"holds faces back for {reason!r}, which it does not declare")
        return held

    def _fault(self, what: str) -> ConfigError:
        return ConfigError(f"the stage {self._stage.name!r} {what}", _REMEDY)


def _made(stage: type[FaceStage], config: Config, cards: Mapping[str, Card]) -> FaceStage:
    models = {name: load_crop_model(card, config.resources.locate) for name, card in cards.items()}
    settings = stage.section.model_validate(config.stages[stage.name])
    try:
        return stage(settings, models)
    except (FrpipeError, MemoryError):
        raise
    except Exception as error:
        raise ConfigError(
            f"the stage {stage.name!r} cannot be made: {type(error).__name__}", _REMEDY
        ) from error


def _wanted_of(stage: FaceStage) -> Mapping[str, Enlarged]:
    """The enlarged crops that a stage asks for, by its names. Raises ConfigError."""
    if type(stage).enlarged.__func__ is FaceStage.enlarged.__func__:  # type: ignore[attr-defined]
        return {}
    try:
        cards = {name: model.card for name, model in stage.models.items()}
        wanted = dict(stage.enlarged(stage.settings, cards))
    except FrpipeError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the stage {stage.name!r} cannot say which enlarged crops it wants: {type(error).__name__}",
            _REMEDY,
        ) from error
    if not all(isinstance(name, str) and isinstance(kind, Enlarged) for name, kind in wanted.items()):
        raise ConfigError(f"the stage {stage.name!r} wants crops that are no Enlarged", _REMEDY)
    return wanted


def _of_stage(
    stage: FaceStage, wanted: Mapping[str, Enlarged], part_batch: PartBatch
) -> dict[str, NDArray[np.uint8]]:
    """The enlarged crops of a part, by the names that a stage gave them."""
    if any(kind not in part_batch.enlarged for kind in wanted.values()):
        raise ConfigError(
            f"the stage {stage.name!r} wants enlarged crops, and none were cut",
            "give `StageChain.enlarged` to what finds the faces (frpipe.stages.locate.locator_of)",
        )
    return {name: part_batch.enlarged[kind] for name, kind in wanted.items()}


def _view(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make a slice of pixels read-only, and return it."""
    pixels.flags.writeable = False
    return pixels


def _is_held(each: Any) -> bool:
    """Whether a stage has given all that it must say of a face that it holds."""
    numbers = (int, float, np.integer, np.floating)
    return (
        isinstance(each, Held)
        and isinstance(each.reason, str)
        and isinstance(each.measure, str)
        and isinstance(each.value, numbers)
        and isinstance(each.limit, numbers)
    )


def _spans(owners: NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Split faces into runs of whole photos, each of `most` faces at least, but for the last."""
    start = 0
    while start < len(owners):
        end = min(start + most, len(owners))
        stop = int(np.searchsorted(owners, owners[end - 1], "right"))
        yield start, stop
        start = stop


# Of a photo that is in no manifest.
_ANY_PLAN = pa.table(
    {name: pa.array(["-"], pa.string()) for name in ("image_id", "image_uri", "subject_id", "location")}
)
