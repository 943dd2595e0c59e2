"""`frpipe check` finds every byte that is not as it was written, deletes nothing, and its remedy works."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from erase_runs import METADATA, finished_run, image_id, seal
from part_work import PartsOf

from frpipe.cli.main import main
from frpipe.core.config import Config
from frpipe.core.errors import FileDamaged, OutputError, StorageError
from frpipe.io.output import plan as partition
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.output.part_writer import PartWriter
from frpipe.io.output.parts import write_part
from frpipe.io.output.plan import load_plan, read_part
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.check.job import DAMAGED, GONE, STRANGE, Check, CheckedRun, FileProblem, again
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.contract import until_whole
from frpipe.jobs.erase.job import Erase
from frpipe.jobs.verify.job import PairVerification
from frpipe.runtime.local import LocalExecutor

FACES, IMAGES = "faces/part-000003.parquet", "images/part-000003.parquet"


@pytest.fixture
def out(tmp_path: Path) -> Folder:
    return finished_run(tmp_path)


@pytest.fixture
def verified(out: Folder, tmp_path: Path) -> PairVerification:
    """Pairs of the run, compared."""
    pairs = "".join(f"{image_id(row)},{image_id(row + 1)}\n" for row in range(9))
    (tmp_path / "pairs.csv").write_text("a,b\n" + pairs)
    job = PairVerification(str(tmp_path / "pairs.csv"), out.uri, str(tmp_path / "verified"), threshold=0.5)
    job.run()
    return job


def test_what_is_whole_is_said_to_be(out: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    before = _files(out)
    assert main(["check", out.uri]) == 0
    assert "enroll, finished" in (said := capsys.readouterr().out) and "all as written" in said
    assert main(["check", out.uri, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["whole"], told["runs"][0]["problems"], told["runs"][0]["job"]) == (True, [], "enroll")
    assert _files(out) == before


@pytest.mark.parametrize("name", [FACES, IMAGES])
def test_every_flipped_byte_is_found_though_sizes_agree(name: str, out: Folder) -> None:
    data = out.read(name)
    for place in range(0, len(data), max(1, len(data) // 12)):
        _flip(out, name, place)
        assert run.complete(out) is not None
        assert _only(out).problems == (FileProblem(name, DAMAGED),)
        out.write(name, data)
    assert _only(out).whole


def test_readers_refuse_what_was_changed_and_name_the_check(out: Folder, tmp_path: Path) -> None:
    _flip(out, FACES)
    before = _files(out)
    with pytest.raises(FileDamaged, match=FACES) as caught:
        Consolidation(out.uri, str(tmp_path / "gallery")).run()
    assert "frpipe check" in caught.value.remedy
    assert _files(out) == before


@pytest.mark.parametrize("name", [FACES, IMAGES])
@pytest.mark.parametrize("how", [DAMAGED, GONE])
def test_the_remedy_of_an_enroll_run_works(
    name: str, how: str, out: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    tables, before = Features(out).part(3), _files(out)
    _flip(out, name) if how == DAMAGED else out.delete(name)
    after = _files(out)
    assert main(["check", out.uri]) == 6
    said = capsys.readouterr().out
    assert (
        f"{name} {how}" in said and f"frpipe check {out.uri} --mend" in said and "frpipe run enroll" in said
    )
    assert _files(out) == after
    assert main(["check", out.uri, "--mend"]) == 6
    assert "taken back; now run: frpipe run enroll" in capsys.readouterr().out
    assert run.complete(out) is None and not out.exists(FACES) and not out.exists(IMAGES)
    done: list[int] = []

    def work(parts: Sequence[int]) -> int:
        done.extend(parts)
        for part in parts:
            write_part(out, part, *tables, METADATA)
        return len(parts)

    until_whole(PartsOf(load_plan(out), work), out, LocalExecutor(), lambda _: None)
    seal(out)
    assert done == [3]
    assert main(["check", out.uri]) == 0
    assert sorted(_files(out)) == sorted(before)


@pytest.mark.parametrize("name", ["pairs/part-000000.parquet", "files.json", "report.json"])
def test_the_remedy_of_a_result_works(
    name: str, verified: PairVerification, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Folder.at(verified.output)
    before = _files(out)
    data = out.read(name)
    out.write(name, data[:-9] + b"\0" * 9)
    assert main(["check", verified.output]) == 6
    assert f"{name} is damaged" in (said := capsys.readouterr().out) and "frpipe run verify" in said
    assert main(["check", verified.output, "--mend"]) == 6
    verified.run()
    assert main(["check", verified.output]) == 0
    assert _files(out) == before


def test_files_that_a_plain_glob_would_read_too_are_found_and_left(out: Folder) -> None:
    stray = "faces/part-000099.parquet"
    out.write(stray, out.read(FACES))
    out.write("notes.txt", b"beside the run's folders nobody is misled")
    (found,) = Check(out.uri, mend=True).run()
    assert found.problems == (FileProblem(stray, STRANGE, mendable=False),)
    assert out.exists(stray) and out.exists(run.SUCCESS)


def test_the_plan_is_checked_too(out: Folder) -> None:
    out.write("_plan/part-000002.parquet", b"PAR1")
    out.delete("_plan/part-000004.parquet")
    (found,) = Check(out.uri, mend=True).run()
    assert [(each.file, each.what, each.mendable) for each in found.problems] == [
        ("_plan/part-000002.parquet", DAMAGED, False),
        ("_plan/part-000004.parquet", GONE, False),
    ]
    assert out.exists(run.SUCCESS)
    out.write("_plan/part-000000.parquet", b"PAR1")
    assert _only(out).problems == (FileProblem("_plan/part-000000.parquet", DAMAGED, mendable=False),)


def test_no_plan_is_read_with_other_rows_than_were_written(tmp_path: Path) -> None:
    folder, name = Folder.at(str(tmp_path)), "_plan/part-000000.parquet"
    columns = ("image_id", "image_uri", "location", "subject_id")
    rows = pa.table({each: [f"person-{number % 7}" for number in range(200)] for each in columns})
    with PartWriter(folder.child("_plan")) as writer:
        writer.write("part-000000.parquet", rows)
    data = folder.read(name)
    for place in range(0, len(data), 3):
        _flip(folder, name, place)
        with suppress(OutputError):
            assert read_part(folder, 0).equals(rows), place
        folder.write(name, data)


def test_an_unfinished_run_is_checked_by_its_own_marks(out: Folder) -> None:
    run.reopen(out)
    assert (_only(out).whole, _only(out).problems) == (False, ())
    _flip(out, FACES)
    assert _only(out).problems == (FileProblem(FACES, DAMAGED),)
    (found,) = Check(out.uri, mend=True).run()
    assert found.mended and not out.exists(IMAGES)


def test_an_unfinished_result_is_checked_by_the_checksums_of_its_pages(tmp_path: Path) -> None:
    out = Folder.at(str(tmp_path / "r"))
    run.claim(out, {"job": "dedup"}, {})
    units = Units(out, "pairs")
    for unit in range(3):
        units.publish(unit, pa.table({"a": list(range(1000))}), {})
    assert _only(out).problems == ()
    out.write("pairs/part-000001.parquet", out.read("pairs/part-000001.parquet")[:-1])
    assert _only(out).problems == (FileProblem("pairs/part-000001.parquet", DAMAGED),)
    Check(out.uri, mend=True).run()
    assert units.done() == {0, 2}


def test_every_run_below_a_folder_is_checked(out: Folder, verified: PairVerification, tmp_path: Path) -> None:
    _flip(out, FACES)
    found = Check(str(tmp_path)).run()
    assert [(each.run, each.job, each.whole) for each in found] == [
        (out.uri, "enroll", False),
        (verified.output, "verify", True),
    ]


def test_nothing_is_taken_back_beside_an_erasure(out: Folder) -> None:
    Erase(out.uri, frozenset({"person-4"}), frozenset()).run()
    assert _only(out).whole
    _flip(out, FACES)
    out.write(run.ERASING, b'{"erasures": []}')
    with pytest.raises(OutputError, match="being taken out"):
        Check(out.uri, mend=True).run()
    assert out.exists(FACES) and out.exists(run.SUCCESS)


def test_a_read_that_fails_is_no_verdict(out: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: Folder, __: str) -> bytes:
        raise StorageError("no answer", "wait")

    before = _files(out)
    monkeypatch.setattr(Folder, "read", failing)
    assert main(["check", out.uri, "--mend"]) == 7
    monkeypatch.undo()
    assert _files(out) == before


@pytest.mark.parametrize("place", ["nothing", "gallery"])
def test_where_there_is_no_output(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / place).mkdir()
    assert main(["check", str(tmp_path / place)]) == 6
    assert "gallery verify" in capsys.readouterr().err


def test_the_command_that_does_it_again_names_the_settings(out: Folder) -> None:
    config = Config.model_validate({"detect": {"policy": "largest"}}).model_dump(mode="json")
    facts = run.begun(out)
    out.write(run.RUN, json.dumps({**facts, "manifest": "my photos.csv", "config": config}).encode())
    words = shlex.split(again(out, "enroll"))
    assert words[:7] == ["frpipe", "run", "enroll", "--manifest", "my photos.csv", "--output", out.uri]
    assert words[7:] == ["--set", 'detect.policy="largest"']


def _only(out: Folder) -> CheckedRun:
    (found,) = Check(out.uri).run()
    return found


def _flip(out: Folder, name: str, place: int | None = None) -> None:
    data = bytearray(out.read(name))
    data[len(data) // 2 if place is None else place] ^= 1
    out.write(name, bytes(data))


def _files(out: Folder) -> dict[str, bytes]:
    return {entry.name: out.read(entry.name) for entry in out.list()}


def test_nothing_is_taken_back_where_the_plan_is_damaged_as_nothing_could_be_done_anew(out: Folder) -> None:
    out.write("_plan/part-000001.parquet", b"PAR1")
    _flip(out, FACES)
    before = _files(out)
    (found,) = Check(out.uri, mend=True).run()
    assert {problem.file for problem in found.problems} == {"_plan/part-000001.parquet", FACES}
    assert not found.mended and not found.mendable
    assert _files(out) == before and run.complete(out) is not None


@pytest.mark.parametrize("name", ["files.json", "report.json"])
def test_a_finished_night_is_never_reopened(name: str, tmp_path: Path) -> None:
    night = Folder.at(str(tmp_path))
    run.claim(night, {"job": "night", "date": "2026-03-01"}, {})
    run.seal(night, [], {"steps": {}}, "")
    night.write(name, b"{")
    (found,) = Check(night.uri, mend=True).run()
    assert [problem.file for problem in found.problems] == [name]
    assert not found.mended and night.exists(run.SUCCESS)


def test_a_plan_that_is_not_understood_is_not_called_damaged(
    out: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = partition.as_table

    def not_understood(data: bytes) -> pa.Table:
        if len(read(data)):
            raise pa.ArrowNotImplementedError("a codec of later")
        return read(data)

    monkeypatch.setattr(partition, "as_table", not_understood)
    with pytest.raises(OutputError, match="this version") as caught:
        Check(out.uri).run()
    assert not isinstance(caught.value, FileDamaged)
