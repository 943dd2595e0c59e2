"""What is rejected: counted, shown, written as a manifest, and too much of it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pytest
from album_runs import Shot, enrolled, face

from frpipe.cli.main import main
from frpipe.core.config import RunConfig, load_config
from frpipe.core.errors import ConfigError, ManifestError
from frpipe.core.reasons import STAGE_OF, Reason
from frpipe.core.report import PhotoCounts, Report
from frpipe.core.schema import IMAGE_COLUMNS, face_schema, image_schema
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.output.parts import check_part, write_part
from frpipe.io.output.plan import plan
from frpipe.io.storage.folder import Folder
from frpipe.jobs.rejects import Choice, too_many_rejected, write_rejects
from frpipe.jobs.sheet import _tiles

ENDS = [
    ("ok", None),
    ("rejected", "truncated"),
    ("rejected", "not_found"),
    ("no_face", None),
    ("rejected", "truncated"),
]
EXTRA = pa.schema([pa.field("department", pa.string())])


@pytest.fixture
def out(tmp_path: Path) -> Folder:
    """A finished run of five photos in three parts."""
    folder = tmp_path / "out"
    _half(folder, tmp_path, 3)
    out = Folder.at(str(folder))
    files = [file for part in range(3) for file in check_part(out, part)[:2]]
    run.seal(out, files, {"rows": 5}, "")
    return out


def test_the_table_counts_and_shows_some_of_each(out: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rejects", out.uri, "--limit", "1"]) == 0
    said = capsys.readouterr().out
    assert "5 photos, 3 of them rejected" in said
    assert ["truncated", "decode", "2", "40.00%"] in [line.split() for line in said.splitlines()]
    assert "p1" in said and "p4" not in said and "p3" not in said


def test_a_limit_that_is_no_number_is_said_to_be_none(
    out: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["rejects", out.uri, "--limit", "few"])
    assert "--limit: it is a whole number from 0 up" in capsys.readouterr().err


def test_json_holds_every_number_and_photos_without_a_face_if_asked(
    out: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rejects", out.uri, "--no-face", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["finished"] and (found["photos"], found["rejected"]) == (5, 3)
    assert {each["reason"]: each["photos"] for each in found["reasons"]} == {
        "truncated": 2,
        "not_found": 1,
        "no_face": 1,
    }
    samples = {s["image_id"] for each in found["reasons"] for s in each["samples"]}
    assert samples == {"p1", "p2", "p3", "p4"}


def test_the_manifest_is_exactly_the_chosen_rows_and_can_be_used_elsewhere(
    out: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "elsewhere" / "again.csv"
    assert main(["rejects", out.uri, "--reason", "truncated", "--manifest", str(target)]) == 0
    rows = pc.read_csv(target).to_pylist()
    assert [(row["image_id"], row["image_uri"]) for row in rows] == [
        (name, str(tmp_path / f"{name}.jpg")) for name in ("p1", "p4")
    ]
    assert rows[0]["department"] == "d1"
    assert main(["manifest", "check", str(target)]) == 0


def test_a_manifest_without_rows_is_refused(out: Folder, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="hung_worker"):
        write_rejects(out.uri, Choice.of(["hung_worker"]), str(tmp_path / "again.csv"))
    assert not (tmp_path / "again.csv").exists()


def test_a_run_under_way_is_counted_as_far_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _half(tmp_path / "half", tmp_path, 1)
    assert main(["rejects", str(tmp_path / "half")]) == 0
    assert "not finished: 2 of 5 photos" in capsys.readouterr().out


def test_photos_that_have_lost_their_persons_face_are_told_of_and_not_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bystander = [face(1)]
    shots = {
        "own.jpg": Shot("anna", bystander),
        "dark.jpg": Shot("anna", bystander, left_out="too_dark"),
        "drawn.jpg": Shot("bela", bystander, left_out="not_a_photograph"),
        "drawn-2.jpg": Shot("bela", bystander, left_out="not_a_photograph"),
        "lost.jpg": Shot.rejected("cora"),
    }
    out = enrolled(tmp_path / "out", shots)
    assert main(["rejects", out]) == 0
    said = capsys.readouterr().out
    assert "5 photos, 1 of them rejected" in said
    assert (
        "3 photos are not rejected, but without the face of their person (not_a_photograph 2, too_dark 1)"
        in said
    )
    assert "dark.jpg" not in said
    assert main(["rejects", out, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["subjects_left_out"] == {"not_a_photograph": 2, "too_dark": 1}
    assert (found["rejected"], [each["reason"] for each in found["reasons"]]) == (1, ["corrupt"])
    assert run.complete(Folder.at(out))["subjects_left_out"] == 3  # type: ignore[index]
    assert [tile.note for tile in _tiles(Features.at(out))][:3] == [
        "ok 1 face",
        "ok 1 face without its person: too_dark",
        "ok 1 face without its person: not_a_photograph",
    ]


def test_an_output_that_does_not_say_whose_face_was_left_out_is_counted_as_before(
    out: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rejects", out.uri, "--json"]) == 0
    assert "subjects_left_out" not in json.loads(capsys.readouterr().out)


def test_a_run_without_rejects_says_so(out: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rejects", out.uri, "--reason", "corrupt"]) == 0
    assert "none for corrupt" in capsys.readouterr().out


def test_a_folder_without_a_run_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rejects", str(tmp_path)]) == 6
    assert "no enroll output" in capsys.readouterr().err


def test_a_reason_that_is_none_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        Choice.of(["truncate"])
    assert "truncated" in caught.value.remedy


def test_every_reason_has_a_stage() -> None:
    assert set(STAGE_OF) == set(Reason)


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        ({"max_reject_ratio": 0.59}, "max_reject_ratio is 59.00%"),
        ({"max_reject_ratio_by_reason": {"not_found": 0.1}}, "not_found"),
    ],
)
def test_a_share_above_its_limit_is_an_error_that_names_the_most_frequent(
    limits: dict[str, object], word: str
) -> None:
    error = too_many_rejected(_report(), RunConfig.model_validate(limits))
    assert error is not None and error.exit_code == 14
    assert word in error.message and "truncated 2" in error.message
    assert "frpipe rejects OUT" in error.remedy


def test_a_share_at_its_limit_passes_and_without_limits_everything_does() -> None:
    limits = RunConfig.model_validate({"max_reject_ratio": 0.6, "max_reject_ratio_by_reason": {"empty": 0}})
    assert too_many_rejected(_report(), limits) is None
    assert too_many_rejected(_report(), RunConfig()) is None


def test_limits_are_no_part_of_the_recipe_and_know_the_reasons() -> None:
    config = load_config(None, ["run.max_reject_ratio_by_reason.truncated=0.1"])
    assert config.recipe() == load_config().recipe()
    assert {config: 1}[config.model_copy()] == 1
    with pytest.raises(ConfigError, match="truncate"):
        load_config(None, ["run.max_reject_ratio_by_reason.truncate=0.1"])


def _half(folder: Path, photos: Path, parts: int) -> None:
    """A run of five photos of which some parts are published."""
    lines = (f"p{i},p{i}.jpg,d{i}" for i in range(5))
    manifest = photos / "m.csv"
    manifest.write_text("\n".join(("image_id,image_uri,department", *lines)) + "\n")
    out = Folder.at(str(folder))
    plan(str(manifest), out, 2)
    for part in range(parts):
        rows = range(2 * part, min(2 * part + 2, 5))
        faces = face_schema(4, EXTRA).empty_table()
        write_part(out, part, pa.Table.from_pylist([_row(i) for i in rows], image_schema(EXTRA)), faces, {})


def _row(index: int) -> dict[str, object]:
    status, reason = ENDS[index]
    row: dict[str, object] = dict.fromkeys(column.name for column in IMAGE_COLUMNS)
    return row | {
        "image_id": f"p{index}",
        "image_uri": f"p{index}.jpg",
        "status": status,
        "reason": reason,
        "attempts": 1,
        "faces": 0,
        "department": f"d{index}",
    }


def _report() -> Report:
    tally = PhotoCounts()
    tally.add(pa.Table.from_pylist([_row(i) for i in range(5)], image_schema(EXTRA)))
    facts = dict.fromkeys(("parts", "launch_rows", "wall_s", "rows_per_s"), 0)
    return Report.of(tally, pools=[], models={}, output="OUT", **facts)
