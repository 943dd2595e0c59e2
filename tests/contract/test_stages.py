"""The kit for further stages, on the example package and on a stage with a model; and what is refused."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import installed
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from pydantic import Field

from frpipe.core.config import Section, load_config
from frpipe.core.errors import ConfigError, ModelError
from frpipe.core.held import is_held_instead
from frpipe.core.schema import Column, staged_fields
from frpipe.io.output.held import divided
from frpipe.io.output.parts import to_parquet
from frpipe.models.card import Card
from frpipe.models.crop_model import CropModel
from frpipe.models.detectors.faces import Faces
from frpipe.models.session import open_session
from frpipe.stages.chain import StageChain
from frpipe.stages.locate import Located
from frpipe.stages.part_batch import PartBatch
from frpipe.stages.stage import Enlarged, FaceBatch, FaceStage, Held, StageResult, stage_class, stage_classes
from frpipe.stages.tabulate import tabulate
from frpipe.testing.faces import located_faces, plan_of
from frpipe.testing.stage_kit import StageKit
from frpipe.testing.tiny import tiny_embedder

sys.path.append(str(installed.EXAMPLE))

from frpipe_example.brightness import Brightness
from frpipe_example.dim import Dim
from frpipe_example.face_processing import FaceProcessing


class QualitySettings(Section):
    """Settings of `likeness`."""

    model: str = Field("tiny_quality", description="a card of role quality")


class Quality(FaceStage):
    """A stage with a model: a score for each face."""

    name = "quality"
    version = 3
    section = QualitySettings
    roles: ClassVar = {"model": "quality"}
    face_columns = (Column("quality", pa.float32(), "the score of the model"),)

    def process(self, batch: FaceBatch) -> StageResult:
        return StageResult({"quality": self.models["model"].run(batch.crops)[0][:, 0]})


class Lighten(FaceStage):
    """A stage that changes crops, and leaves none out."""

    name = "lighten"
    version = 1
    changes_vectors = True

    def process(self, batch: FaceBatch) -> StageResult:
        return StageResult(crops=np.maximum(batch.crops, 40))


class Surroundings(FaceStage):
    """A stage that looks at crops of the photo beside the aligned ones."""

    name = "surroundings"
    version = 1
    face_columns = (Column("around", pa.float32(), "mean grey about the face"),)

    @classmethod
    def enlarged(cls, settings: Any, cards: Mapping[str, Card]) -> Mapping[str, Enlarged]:
        return {"wide": Enlarged(2.7, 80, "shift"), "square": Enlarged(1.5, 64, "reflect")}

    def process(self, batch: FaceBatch) -> StageResult:
        assert batch.enlarged["wide"].shape == (len(batch.crops), 80, 80, 3)
        assert not batch.enlarged["square"].flags.writeable
        return StageResult({"around": batch.enlarged["square"].mean(axis=(1, 2, 3))})


class TestSurroundings(StageKit):
    stage = Surroundings


class TestFaceProcessing(StageKit):
    stage = FaceProcessing
    given: ClassVar = {"clip": 8}


def quality_card(path: Path) -> Card:
    """A tiny network of role quality, written to `path`."""
    card = tiny_embedder(path, dim=1)
    facts = {"name": "tiny_quality", "role": "quality", "embedder": None}
    return Card.model_validate({**card.model_dump(), **facts})


class TestBrightness(StageKit):
    stage = Brightness
    given: ClassVar = {"least": 90}


class TestDim(StageKit):
    stage = Dim
    given: ClassVar = {"least": 90}
    loosened: ClassVar = {"least": 10}


class TestLighten(StageKit):
    stage = Lighten


class TestQuality(StageKit):
    stage = Quality

    @pytest.fixture(scope="class")
    @classmethod
    def models(cls, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, CropModel]:
        path = tmp_path_factory.mktemp("models") / "quality.onnx"
        return {"model": CropModel(quality_card(path), open_session(path, "cpu"), 4)}


def _part(*photos: int) -> PartBatch:
    """Photos with so many faces each, every crop of another grey."""
    crops = iter(np.arange(1, 1 + sum(photos), dtype=np.uint8))
    outcomes = []
    for count in photos:
        greys = [next(crops) for _ in range(count)]
        faces = [np.full((112, 112, 3), grey, np.uint8) for grey in greys]
        outcomes.append(located_faces(np.stack(faces) if faces else np.zeros((0, 112, 112, 3), np.uint8)))
    return tabulate(0, plan_of(len(photos)), outcomes, [1] * len(photos), "all")


def _stage(process: Callable[[FaceBatch], Any], **declared: Any) -> FaceStage:
    names = {"name": "some", "version": 1, "reasons": {"odd": "it is odd", "high": "it is high"}}
    kind = type("Some", (FaceStage,), {**names, **declared, "process": lambda _, batch: process(batch)})
    return kind(Section(), {})


def _grey(batch: FaceBatch) -> NDArray[np.uint8]:
    return batch.crops[:, 0, 0, 0]


def test_crops_are_not_copied_while_every_face_stays() -> None:
    part = _part(2, 0, 1)
    seen: list[NDArray[np.uint8]] = []

    def look(batch: FaceBatch) -> StageResult:
        seen.append(batch.crops)
        with pytest.raises(ValueError, match="read-only"):
            batch.crops[0] = 0
        return StageResult()

    after = StageChain([_stage(look)], batch_faces=1)(part)
    assert after.crops is part.crops and part.crops.flags.writeable
    assert len(seen) == 2 and all(np.shares_memory(crops, part.crops) for crops in seen)


def test_all_faces_of_a_photo_are_in_one_batch_and_photos_without_one_in_none() -> None:
    seen: list[tuple[list[str], list[int]]] = []

    def look(batch: FaceBatch) -> StageResult:
        seen.append((batch.images["image_id"].to_pylist(), batch.faces["row"].to_pylist()))
        return StageResult()

    StageChain([_stage(look)], batch_faces=2)(_part(1, 0, 3, 1, 2))
    assert seen == [(["photo-0", "photo-2"], [0, 1, 1, 1]), (["photo-3", "photo-4"], [0, 1, 1])]


def test_faces_left_out_by_several_stages_are_told_by_the_first_reason() -> None:
    odd = _stage(lambda b: StageResult(reasons=["odd" if grey % 2 else None for grey in _grey(b)]))
    high = _stage(
        lambda b: StageResult(reasons=["high" if grey > 4 else None for grey in _grey(b)]), name="z"
    )
    # Greys by photo: 1 2 | 3 | - | 4 5 6 | 8 would be next.
    after = StageChain([odd, high])(_part(2, 1, 0, 3))
    rows = after.images.select(["status", "reason", "detail", "faces"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("ok", None, "1 of 2 faces left out: 1 odd", 1),
        ("rejected", "odd", "1 of 1 faces", 0),
        ("no_face", None, None, 0),
        ("ok", None, "2 of 3 faces left out: 1 odd, 1 high", 1),
    ]
    assert after.crops[:, 0, 0, 0].tolist() == [2, 4]
    assert after.faces["face_index"].to_pylist() == [1, 0] and after.faces["row"].to_pylist() == [0, 3]


def test_the_first_stage_to_hold_a_face_is_named_and_one_that_is_left_out_is_not_held() -> None:
    def holding(name: str, reason: str, least: int) -> FaceStage:
        return _stage(
            lambda b: StageResult(
                held=[Held(reason, "grey", grey, least) if grey < least else None for grey in _grey(b)]
            ),
            name=name,
            holds=True,
        )

    out = _stage(lambda b: StageResult(reasons=["odd" if g == 2 else None for g in _grey(b)]), name="z")
    # Greys by photo: 1 2 3 | 4 | - | 5.
    after = StageChain([holding("a", "odd", 4), holding("b", "high", 5), out])(_part(3, 1, 0, 1))
    written, held = divided(after.faces)
    assert held is not None and written["row"].to_pylist() == [3] and held["row"].to_pylist() == [0, 0, 1]
    assert held["held_reason"].to_pylist() == ["odd", "odd", "high"]
    assert held["held_value"].to_pylist() == [1, 3, 4] and held["held_limit"].to_pylist() == [4, 4, 5]
    rows = after.images.select(["status", "reason", "detail", "faces", "faces_held"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("rejected", "odd", "3 of 3 faces, 2 held back", 0, 2),
        ("rejected", "high", "1 of 1 faces, 1 held back", 0, 1),
        ("no_face", None, None, 0, None),
        ("ok", None, None, 1, 0),
    ]
    assert after.crops[:, 0, 0, 0].tolist() == [1, 3, 4, 5]


@pytest.mark.parametrize(
    ("held", "instead"), [([1], "largest"), ([2], "centre-largest"), ([1, 2], "both"), ([3], None)]
)
def test_a_photo_whose_own_face_is_held_says_so(held: list[int], instead: str | None) -> None:
    """A large one at the edge, one in the middle, a bystander."""
    one = located_faces(np.stack([np.full((112, 112, 3), grey, np.uint8) for grey in (1, 2, 3)]))
    boxes = [[0, 0, 150, 150], [270, 190, 370, 290], [600, 440, 640, 480]]
    one.faces = Faces(np.array(boxes, np.float32), one.faces.scores, one.faces.points)
    part = tabulate(0, plan_of(1), [one], [1], "all")
    gate = _stage(
        lambda b: StageResult(held=[Held("odd", "grey", g, 0) if g in held else None for g in _grey(b)]),
        holds=True,
    )
    images = StageChain([gate])(part).images
    assert images["held_instead"].to_pylist() == [instead]
    for policy in ("largest", "centre-largest"):
        assert is_held_instead(images, policy).tolist() == [instead in (policy, "both")]
    assert not is_held_instead(part.images, "largest").any()


@pytest.mark.parametrize(
    ("held", "word"),
    [
        ([None], "1 faces"),
        ([None, "odd"], "no Held"),
        ([Held("odd", "grey", None, 1), None], "no Held"),  # type: ignore[arg-type]
        ([Held("strange", "grey", 0, 1), None], "strange"),
    ],
)
def test_what_is_held_otherwise_than_declared_is_one_clear_error(held: Any, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        StageChain([_stage(lambda _: StageResult(held=held), holds=True)])(_part(2))
    one = [Held("odd", "grey", 0, 1), None]
    with pytest.raises(ConfigError, match="does not declare"):
        StageChain([_stage(lambda _: StageResult(held=one))])(_part(2))


def test_a_later_stage_sees_the_columns_of_an_earlier_one_and_the_crops_that_it_changed() -> None:
    column = (Column("grey", pa.int32(), "grey"),)
    first = _stage(
        lambda b: StageResult({"grey": _grey(b)}, crops=b.crops + 1),
        face_columns=column,
        changes_vectors=True,
    )
    seen: list[Any] = []

    def look(batch: FaceBatch) -> StageResult:
        seen.append((batch.faces["grey"].to_pylist(), _grey(batch).tolist()))
        return StageResult()

    after = StageChain([first, _stage(look, name="z")])(_part(1, 1))
    assert seen == [([1, 2], [2, 3])] and after.crops[:, 0, 0, 0].tolist() == [2, 3]


def test_a_single_photo_ends_as_it_would_in_a_run() -> None:
    odd = _stage(lambda b: StageResult(reasons=["odd" if grey % 2 else None for grey in _grey(b)]))
    crops = np.stack([np.full((112, 112, 3), grey, np.uint8) for grey in (1, 2, 4)])
    some, none, nobody = located_faces(crops), located_faces(crops[:1]), Located()
    for located in (some, none, nobody):
        StageChain([odd]).apply(located)
    assert (some.status, len(some.faces), some.detail) == ("ok", 2, "1 of 3 faces left out: 1 odd")
    assert [crop[0, 0, 0] for crop in some.crops] == [2, 4] and len(some.sharpness) == 2
    assert len(some.candidates) == 2 and len(some.eye_distance_px) == 2
    assert (none.status, none.reason, len(none.faces), none.crops) == ("rejected", "odd", 0, [])
    assert nobody.status == "no_face"


def test_enlarged_crops_follow_their_faces_and_end_with_the_stages() -> None:
    twin = type("Twin", (Surroundings,), {"name": "twin", "face_columns": ()})
    seen: list[float] = []

    def look(self: FaceStage, batch: FaceBatch) -> StageResult:
        seen.extend(batch.enlarged["square"].mean(axis=(1, 2, 3)))
        return StageResult()

    twin.process = look  # type: ignore[method-assign]
    chain = StageChain([Surroundings(Section(), {}), twin(Section(), {})], batch_faces=1)
    assert len(chain.enlarged) == 2
    greys = [np.full((count, 112, 112, 3), grey, np.uint8) for grey, count in ((10, 2), (0, 0), (30, 1))]
    part = tabulate(0, plan_of(3), [located_faces(each, chain.enlarged) for each in greys], [1] * 3, "all")
    after = chain(part)
    assert after.faces["around"].to_pylist() == seen == [10, 10, 30]
    assert not after.enlarged and not PartBatch.unpack(part.pack()).enlarged
    photo = located_faces(greys[0], chain.enlarged)
    chain.apply(photo)
    assert len(photo.crops) == 2 and photo.enlarged == {}


@pytest.mark.parametrize("wanted", [{"x": (2.7, 80, "shift")}, 3])
def test_a_stage_that_wants_what_is_no_crop_is_refused(wanted: Any) -> None:
    kind = type("Odd", (Surroundings,), {"enlarged": classmethod(lambda cls, settings, cards: wanted)})
    with pytest.raises(ConfigError, match=r"'surroundings'.*crops"):
        StageChain([kind(Section(), {})])


def test_enlarged_crops_that_were_not_cut_are_one_clear_error() -> None:
    with pytest.raises(ConfigError, match="none were cut"):
        StageChain([Surroundings(Section(), {})])(_part(1))


@pytest.mark.parametrize(
    ("result", "word"),
    [
        (None, "StageResult"),
        (StageResult({"other": [1, 2]}), "other"),
        (StageResult({}), "level"),
        (StageResult({"level": [1]}), "1 values"),
        (StageResult({"level": [1, None]}), "null"),
        (StageResult({"level": ["a", "b"]}), "not of float"),
        (StageResult({"level": [1, 2]}, reasons=["odd"]), "1 reasons"),
        (StageResult({"level": [1, 2]}, reasons=["strange", None]), "strange"),
        (StageResult({"level": [1, 2]}, crops=np.zeros((2, 112, 112, 3), np.uint8)), "changes crops"),
    ],
)
def test_a_result_that_is_not_as_declared_is_one_clear_error(result: Any, word: str) -> None:
    stage = _stage(lambda _: result, face_columns=(Column("level", pa.float32(), "a level"),))
    with pytest.raises(ConfigError, match=word) as caught:
        StageChain([stage])(_part(2))
    assert "'some'" in caught.value.message and "docs/stages.md" in caught.value.remedy


def test_a_stage_that_fails_says_where_and_not_what_it_saw() -> None:
    def fail(batch: FaceBatch) -> StageResult:
        raise KeyError(batch.images["image_id"][0].as_py())

    with pytest.raises(ConfigError, match=r"KeyError \(test_stages\.py:\d+\)") as caught:
        StageChain([_stage(fail)])(_part(1))
    assert "photo-0" not in str(caught.value)


@pytest.mark.parametrize(
    ("declared", "word"),
    [
        ({"name": "other"}, "calls itself"),
        ({"version": "1"}, "version"),
        ({"section": dict}, "section"),
        ({"face_columns": (Column("score", pa.float32(), "x"),)}, "column of frpipe"),
        ({"face_columns": (Column("level", pa.float32(), ""),)}, "not described"),
        ({"image_columns": (Column("level", pa.float32(), "x"),)}, "nullable"),
        ({"reasons": {"corrupt": "x"}}, "reason of frpipe"),
        ({"reasons": {"too dark": "x"}}, "identifier"),
        ({"roles": {"model": "quality"}}, "no setting"),
        ({"face_columns": (Column("held_value", pa.float32(), "x"),)}, "column of frpipe"),
        ({"holds": True, "reasons": {}}, "no reason"),
        ({"gates": ("most",)}, "no setting"),
    ],
)
def test_a_stage_that_declares_what_it_may_not_is_refused(
    declared: dict[str, Any], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type("Wrong", (Brightness,), {"name": "wrong", **declared})
    monkeypatch.setattr(sys.modules[__name__], "Wrong", kind, raising=False)
    point = {"frpipe.stages": {"wrong": f"{__name__}:Wrong"}}
    with installed.registered(tmp_path, point), pytest.raises(ConfigError, match=word):
        stage_class("wrong")


def test_stages_that_cannot_be_had_together_or_at_all_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys.modules[__name__], "Twin", type("Twin", (Brightness,), {"name": "twin"}), raising=False
    )
    here = {"brightness": f"{__name__}:Brightness", "twin": f"{__name__}:Twin", "no": "no_such_module:X"}
    with installed.registered(tmp_path, {"frpipe.stages": {**here, "text": f"{__name__}:__doc__"}}):
        with pytest.raises(ConfigError, match="both have 'brightness'"):
            stage_classes(["brightness", "twin"])
        with pytest.raises(ConfigError, match="cannot be imported"):
            stage_class("no")
        with pytest.raises(ConfigError, match="no FaceStage"):
            stage_class("text")
        with pytest.raises(ConfigError, match="no FaceStage"):
            load_config(None, ["stages.text={}"])


def test_crops_of_another_size_than_the_model_takes_are_refused(tmp_path: Path) -> None:
    card = quality_card(tmp_path / "q.onnx")
    small = card.model_copy(update={"input": card.input.model_copy(update={"size": (96, 96)})})
    model = CropModel(small, open_session(tmp_path / "q.onnx", "cpu"), 4)
    with pytest.raises(ModelError, match="takes crops of 96 x 96, and these are 112 x 112"):
        model.run(np.zeros((2, 112, 112, 3), np.uint8))


def test_a_fixed_batch_is_full_and_gives_the_same(tmp_path: Path) -> None:
    card = quality_card(tmp_path / "q.onnx")
    crops = np.random.default_rng(1).integers(0, 256, (5, 112, 112, 3), np.uint8)
    session = open_session(tmp_path / "q.onnx", "cpu")
    one, full = (CropModel(card, session, rows, rows == 4).run(crops)[0] for rows in (1, 4))
    assert one.shape == full.shape == (5, 1)
    np.testing.assert_allclose(one, full, rtol=1e-4, atol=1e-5)


class Leaning(Brightness):
    """A stage that breaks what the kit tests: it measures against the batch, and writes to the crops."""

    name = "leaning"

    def process(self, batch: FaceBatch) -> StageResult:
        values = batch.crops.mean(axis=(1, 2, 3)) - batch.crops.mean()
        return StageResult({"brightness": values}, {"brightest_face": np.full(len(batch.images), np.nan)})


class Moving(Dim):
    """A stage that breaks what the kit tests of gates."""

    name = "moving"

    def process(self, batch: FaceBatch) -> StageResult:
        return StageResult({"grey": np.full(len(batch.crops), self.settings.least, np.float32)})


def test_the_kit_finds_a_gate_out_that_changes_a_value() -> None:
    class Kit(StageKit):
        stage = Moving
        loosened: ClassVar = {"least": 10}

    with pytest.raises(AssertionError):
        Kit().test_gates_change_no_value({}, _part(*[1] * 9).crops)


@pytest.mark.parametrize(
    "promise", ["test_company_does_not_matter", "test_numbers_are_finite", "test_what_it_declares_is_right"]
)
def test_the_kit_finds_a_stage_out(promise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kit(StageKit):
        stage = Leaning

    monkeypatch.setattr(Leaning, "reasons", {"corrupt": "x"})
    arguments = {"models": {}, "crops": _part(*[1] * 9).crops, "most": 2}
    test = getattr(Kit(), promise)
    wanted = {name: arguments[name] for name in inspect.signature(test).parameters}
    with pytest.raises(AssertionError):
        test(**wanted)


def test_lists_of_a_stage_come_back_as_they_were_declared(tmp_path: Path) -> None:
    kinds = [pa.list_(pa.float32(), 3), pa.list_(pa.list_(pa.field("item", pa.int8(), False))), pa.string()]
    fields = [Column(f"c{i}", kind, "x", True).field_of("some") for i, kind in enumerate(kinds)]
    table = pa.Table.from_arrays([pa.nulls(2, kind) for kind in kinds], schema=pa.schema(fields))
    (tmp_path / "part").write_bytes(to_parquet(table, {}))
    found = staged_fields(pq.read_schema(tmp_path / "part"))
    assert pa.schema(found).equals(table.schema, check_metadata=True)
