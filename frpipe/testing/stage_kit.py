"""Tests that any further stage must pass.

Subclass `StageKit` in a test module; pytest collects the subclass.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from frpipe.core.config import iter_settings
from frpipe.io.output.held import divided
from frpipe.models.crop_model import CropModel
from frpipe.stages.chain import StageChain
from frpipe.stages.locate import Located
from frpipe.stages.part_batch import PartBatch
from frpipe.stages.stage import FaceBatch, FaceStage, StageResult, declared_fault
from frpipe.stages.tabulate import tabulate
from frpipe.testing.faces import located_faces, plan_of
from frpipe.vision.enlarge import Enlarged

_NUMBERS = (pa.types.is_integer, pa.types.is_floating)


class StageKit:
    """The kit of a stage.

    Override `stage`, and where they are needed `given`, `loosened`, `models` and `crops`. loosened: of a
    stage with gates, other values of some of them.
    """

    stage: type[FaceStage]
    given: Mapping[str, Any] = {}
    loosened: Mapping[str, Any] = {}
    tolerance = 1e-4  # of a number of one crop in two batches
    most_s_per_face = 1.0

    @pytest.fixture(scope="class")
    @classmethod
    def models(cls) -> Mapping[str, CropModel]:
        """The models that the stage names, loaded."""
        return {}

    @pytest.fixture(scope="class")
    @classmethod
    def crops(cls) -> NDArray[np.uint8]:
        """Crops, (7 or more, 112, 112, 3) uint8 RGB, from dark to bright, smooth and noisy."""
        ramp = np.linspace(5, 250, 9)[:, None, None, None]
        noise = (
            np.random.default_rng(0).normal(0, 1, (9, 112, 112, 3))
            * np.linspace(0, 40, 9)[:, None, None, None]
        )
        pixels: NDArray[np.uint8] = np.clip(ramp + noise, 0, 255).astype(np.uint8)
        return pixels

    def make(self, models: Mapping[str, CropModel]) -> FaceStage:
        """Make the stage with the settings `given`."""
        return self.stage(self.stage.section.model_validate(dict(self.given)), models)

    def test_what_it_declares_is_right(self) -> None:
        assert declared_fault(self.stage, self.stage.name) == ""

    def test_settings_have_defaults_and_are_described(self) -> None:
        self.stage.section()
        for name, _, description in iter_settings(self.stage.section):
            assert description, name

    def test_a_part_keeps_its_rows_and_gets_the_columns(
        self, models: Mapping[str, CropModel], crops: NDArray[np.uint8]
    ) -> None:
        chain = StageChain([self.make(models)])
        before = _part(crops, chain.enlarged)
        after = chain(before)
        assert after.images.num_rows == before.images.num_rows
        assert after.images["image_id"].equals(before.images["image_id"])
        written, held = divided(after.faces)
        assert sum(after.images["faces"].to_pylist()) == written.num_rows
        assert after.faces.num_rows == len(after.crops)
        assert (held is not None) == self.stage.holds
        if held is not None:
            assert sum(filter(None, after.images["faces_held"].to_pylist())) == held.num_rows
            assert set(held["held_reason"].to_pylist()) <= set(self.stage.reasons)
        for table, columns in (
            (after.faces, self.stage.face_columns),
            (after.images, self.stage.timed_columns()),
        ):
            for column in columns:
                field = table.schema.field(column.name)
                assert (field.type, field.nullable) == (column.type, column.nullable)
        ended = zip(after.images["status"].to_pylist(), after.images["reason"].to_pylist(), strict=True)
        assert all(reason in self.stage.reasons for status, reason in ended if status == "rejected")

    def test_a_part_without_a_face_gets_the_columns_too(self, models: Mapping[str, CropModel]) -> None:
        after = StageChain([self.make(models)])(
            tabulate(0, plan_of(2), [Located(), Located()], [1, 1], "all")
        )
        names = {column.name for column in self.stage.face_columns}
        assert after.faces.num_rows == 0 and names <= set(after.faces.column_names)
        assert all(after.images[column.name].null_count == 2 for column in self.stage.timed_columns())

    @pytest.mark.parametrize("most", [1, 2, 5])
    def test_company_does_not_matter(
        self, models: Mapping[str, CropModel], crops: NDArray[np.uint8], most: int
    ) -> None:
        stage = self.make(models)
        part = _part(crops, StageChain([stage]).enlarged)
        whole, cut = (StageChain([stage], rows)(part) for rows in (10_000, most))
        for table in ("images", "faces"):
            self._same(getattr(whole, table), getattr(cut, table))
        assert np.array_equal(whole.crops, cut.crops)

    def test_the_same_twice(self, models: Mapping[str, CropModel], crops: NDArray[np.uint8]) -> None:
        chains = [StageChain([self.make(models)]) for _ in range(2)]
        first, second = (chain(_part(crops, chain.enlarged)) for chain in chains)
        assert first.faces.equals(second.faces)

    def test_numbers_are_finite(self, models: Mapping[str, CropModel], crops: NDArray[np.uint8]) -> None:
        flat = np.stack([np.full_like(crops[0], value) for value in (0, 255)])
        stage = self.make(models)
        result = stage.process(_batch(np.concatenate([crops, flat]), stage))
        for column in (*self.stage.face_columns, *self.stage.image_columns):
            values = pa.array({**result.faces, **result.images}[column.name], column.type).drop_null()
            if any(is_number(column.type) for is_number in _NUMBERS):
                assert np.isfinite(values.to_numpy(zero_copy_only=False)).all(), column.name

    def test_crops_are_left_as_they_are(
        self, models: Mapping[str, CropModel], crops: NDArray[np.uint8]
    ) -> None:
        """A stage that changes crops says so, and gives its own."""
        stage = self.make(models)
        batch = _batch(crops, stage)
        result = stage.process(batch)
        assert isinstance(result, StageResult)
        assert np.array_equal(batch.crops, crops)
        assert result.crops is None or self.stage.changes_vectors

    def test_gates_change_no_value(self, models: Mapping[str, CropModel], crops: NDArray[np.uint8]) -> None:
        """A replay may change them, beside faces whose values were found with others."""
        assert {*self.loosened} <= {*self.stage.gates}
        stage = self.make(models)
        other = self.stage(self.stage.section.model_validate({**self.given, **self.loosened}), models)
        one, two = (each.process(_batch(crops, each)) for each in (stage, other))
        for columns, pair in (
            (self.stage.face_columns, (one.faces, two.faces)),
            (self.stage.image_columns, (one.images, two.images)),
        ):
            schema = pa.schema([column.field for column in columns])
            self._same(*(pa.table({name: each[name] for name in schema.names}, schema) for each in pair))

    @pytest.mark.parametrize("back", [False, True])
    def test_gates_that_change_find_the_faces_that_they_judge_otherwise(
        self, models: Mapping[str, CropModel], crops: NDArray[np.uint8], back: bool
    ) -> None:
        """By the columns that the stage has written, or not at all: then a replay does all photos again."""
        before, after = (
            self.stage(self.stage.section.model_validate(dict(values)), models)
            for values in ({**self.given}, {**self.given, **self.loosened})[:: -1 if back else 1]
        )
        old, new = (each.process(_batch(crops, each)) for each in (before, after))
        rows = {"row": np.arange(len(crops))}
        schema = pa.schema([("row", pa.int64()), *(column.field for column in self.stage.face_columns)])
        one, two = (
            pa.table({n: {**rows, **each.faces}[n] for n in schema.names}, schema) for each in (old, new)
        )
        accepted = np.array([not any(given) for given in _verdicts(old, len(crops))], bool)
        cards = {name: model.card for name, model in models.items()}
        found = self.stage.judged_otherwise(after.settings, cards, one.filter(pa.array(accepted)))
        if found is None:
            return
        verdicts = np.array([any(given) for given in _verdicts(new, len(crops))], bool)
        differs = np.array([a != b for a, b in zip(one.to_pylist(), two.to_pylist(), strict=True)], bool)
        assert np.array_equal(found, (verdicts | differs)[accepted])

    def test_a_face_takes_no_longer_than_it_may(
        self, models: Mapping[str, CropModel], crops: NDArray[np.uint8]
    ) -> None:
        """A worker that gets nothing done for `resources.stall_timeout_s` is ended."""
        stage = self.make(models)
        batch = _batch(crops, stage)
        start = time.process_time()
        stage.process(batch)
        assert (time.process_time() - start) / len(crops) < self.most_s_per_face

    def _same(self, one: pa.Table, other: pa.Table) -> None:
        assert one.schema.equals(other.schema)
        for field in (each for each in one.schema if not each.name.endswith("_ms")):
            if pa.types.is_floating(field.type):
                a, b = (table[field.name].to_numpy() for table in (one, other))
                np.testing.assert_allclose(a, b, rtol=self.tolerance, atol=self.tolerance, err_msg=field.name)
            else:
                assert one[field.name].equals(other[field.name]), field.name


def _verdicts(result: StageResult, count: int) -> list[tuple[Any, Any]]:
    """Why each face is left out, and why it is held back."""
    nothing = [None] * count
    return list(zip(result.reasons or nothing, result.held or nothing, strict=True))


def _part(crops: NDArray[np.uint8], enlarged: Sequence[Enlarged] = ()) -> PartBatch:
    """Make a part: photos of two faces, of none, of one each, in turns."""
    outcomes, at, turn = [], 0, 0
    while at < len(crops):
        count = min((2, 0, 1)[turn % 3], len(crops) - at)
        outcomes.append(located_faces(crops[at : at + count], enlarged))
        at, turn = at + count, turn + 1
    return tabulate(0, plan_of(len(outcomes)), outcomes, [1] * len(outcomes), "all")


def _batch(crops: NDArray[np.uint8], stage: FaceStage) -> FaceBatch:
    wanted = stage.enlarged(stage.settings, {name: model.card for name, model in stage.models.items()})
    outcomes = [located_faces(crop[None], wanted.values()) for crop in crops]
    part = tabulate(0, plan_of(len(crops)), outcomes, [1] * len(crops), "all")
    for pixels in (part.crops, *part.enlarged.values()):
        pixels.flags.writeable = False
    enlarged = {name: part.enlarged[kind] for name, kind in wanted.items()}
    return FaceBatch(part.crops, part.faces, part.images, enlarged)
