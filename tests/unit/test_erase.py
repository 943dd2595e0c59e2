"""People taken out of a finished run: what goes, what stays as it was, what is said, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from erase_runs import NO_FACE, PARTS, REJECTED, ROWS, TWO_FACES, finished_run, image_id, seal, vector

from frpipe.cli.main import main
from frpipe.core.errors import OutputError
from frpipe.io.erasure.erased_ids import subject_digest
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.output.parts import check_part
from frpipe.io.output.plan import load_plan, read_part
from frpipe.io.storage.folder import Folder
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.erase.job import Erase
from frpipe.jobs.erase.proof import ErasureError
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.rejects import Choice, rejects_of

NOBODY: frozenset[str] = frozenset()
# The person of rows 0 and 7, who are in parts 0 and 3.
PERSON, THEIR_ROWS, THEIR_PARTS = "person-0", (0, 7), (0, 3)


@pytest.fixture
def out(tmp_path: Path) -> Folder:
    return finished_run(tmp_path)


def test_rows_go_from_every_table_and_other_parts_stay_the_same_bytes(out: Folder) -> None:
    before, schemas = _bytes(out), _schemas(out)
    done = _erase(out, PERSON)
    assert (done.images, done.faces, done.parts, done.of_parts) == (2, 2, 2, PARTS)
    after = _bytes(out)
    changed = {f"{sub}/part-{p:06d}.parquet" for sub in ("images", "faces", "_plan") for p in THEIR_PARTS}
    assert {name for name in before if name.startswith(("images/", "faces/", "_plan/part"))} >= changed
    same = {name for name in before if name.endswith(".parquet")} - changed
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert _schemas(out) == schemas
    stay = [image_id(row) for row in range(ROWS) if row not in THEIR_ROWS]
    tables = list(Features(out).tables())
    assert [each for images, _ in tables for each in images["image_id"].to_pylist()] == stay
    assert [each for part in range(PARTS) for each in read_part(out, part)["image_id"].to_pylist()] == stay
    faces = pa.concat_tables(faces for _, faces in tables)
    assert faces["embedding"].to_pylist() == [
        vector(row, face).tolist()
        for row in range(ROWS)
        if row not in (*THEIR_ROWS, REJECTED, NO_FACE)
        for face in range(2 if row == TWO_FACES else 1)
    ]
    for data in after.values():
        assert PERSON.encode() not in data.replace(b"person-0\x00", b"")
        assert not any(vector(row).tobytes() in data for row in THEIR_ROWS)


def test_lists_reports_marks_and_readers_agree_afterwards(out: Folder, tmp_path: Path) -> None:
    _erase(out, PERSON, image_id(TWO_FACES), image_id(REJECTED))
    assert not out.exists(run.ERASING)
    report = run.complete(out)
    assert report is not None
    assert (report["rows"], report["erased"]) == (ROWS - 4, 4)
    assert report["rows"] == report["ok"] + report["no_face"] + report["rejected"]
    assert report["rejected"] == 0 and report["reasons"] == {}
    assert "4 photos more were erased" in out.read(run.REPORT_TEXT).decode()
    for part in range(PARTS):
        check_part(out, part)
    for file in json.loads(out.read(run.FILES))["files"]:
        assert hashlib.sha256(out.read(file["name"])).hexdigest() == file["sha256"]
    found = FeatureRun.open(out.uri)
    assert found.faces == report["faces"] == sum(faces.num_rows for _, faces in Features(out).tables())
    counted = rejects_of(out.uri, Choice.of())
    assert (counted.finished, counted.photos, counted.planned) == (True, ROWS - 4, ROWS - 4)
    assert Consolidation(out.uri, str(tmp_path / "gallery")).run().added == report["faces"]
    rows = duckdb.sql(f"SELECT count(*), sum(faces) FROM '{out.uri}/images/*.parquet'").fetchall()
    assert rows == [(ROWS - 4, report["faces"])]


def test_a_part_and_a_run_may_come_out_empty(out: Folder, tmp_path: Path) -> None:
    _erase(out, "person-4", "person-5")
    Consolidation(out.uri, str(tmp_path / "gallery")).run()
    assert [len(images) for images, _ in Features(out).tables()] == [2, 2, 0, 2, 2, 2]
    _erase(out, *(f"person-{row}" for row in range(ROWS)))
    report = run.complete(out)
    assert report is not None and (report["rows"], report["faces"], report["erased"]) == (0, 0, ROWS)
    assert FeatureRun.open(out.uri).faces == 0
    assert rejects_of(out.uri, Choice.of()).photos == 0


def test_the_receipt_holds_counts_and_digests_and_no_id(out: Folder) -> None:
    _erase(out, PERSON)
    _erase(out, image_id(TWO_FACES))
    data = out.read("erased.json")
    first, second = json.loads(data)["erasures"]
    assert (first["images"], first["faces"], first["parts"]) == (2, 2, list(THEIR_PARTS))
    assert (second["images"], second["faces"], second["parts"]) == (1, 2, [TWO_FACES // 2])
    key = run.begun(out)["identity"]["manifest"]
    assert first["subject_digests"] == [subject_digest(key, PERSON)]
    assert len(second["image_digests"]) == 1 and not second["subject_digests"]
    assert b"person" not in data and b"picture" not in data and b"needles" not in data


def test_the_documentation_finds_the_receipt_of_a_person(
    out: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    _erase(out, PERSON)
    page = (Path(__file__).resolve().parents[2] / "docs/erasure.md").read_text()
    (code,) = (block.split("```")[0] for block in page.split("```python\n")[1:])
    when = json.loads(out.read("erased.json"))["erasures"][0]["when"]
    for name, found in ((PERSON, [when]), ("person-1", [])):
        exec(code.replace("out/photos", out.uri).replace("joe-biden", name), {})
        assert capsys.readouterr().out == f"{found}\n"


def test_once_more_is_nothing_and_says_so(out: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["erase", out.uri, "--subject", PERSON]) == 0
    said = capsys.readouterr().out
    assert "2 photos and 2 faces in 2 of 6 parts erased" in said and "ids or the vectors" in said
    before = _bytes(out)
    assert main(["erase", out.uri, "--subject", PERSON]) == 0
    said = capsys.readouterr().out
    assert "nothing to erase, 1 id was erased before" in said and "occur in none" not in said
    assert _bytes(out) == before


def test_an_id_inside_another_is_neither_erased_nor_found(out: Folder) -> None:
    assert _erase(out, "person-1").images == 1
    subjects = [each for images, _ in Features(out).tables() for each in images["subject_id"].to_pylist()]
    assert {"person-10", "person-11"} <= set(subjects) and "person-1" not in subjects


def test_photos_and_people_are_told_apart(out: Folder) -> None:
    assert _erase(out, image_id(2)).images == 1
    done = Erase(out.uri, frozenset({image_id(4)}), frozenset({"person-4"})).run()
    assert (done.images, len(done.absent)) == (0, 2)


def test_several_runs_ids_in_files_and_ids_that_are_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [finished_run(tmp_path / name).uri for name in ("a", "b")]
    (tmp_path / "ids").write_bytes(b"person-2\r\n\nnobody of this name\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{image_id(8)}\n".encode())))
    Erase(runs[0], frozenset(), frozenset({image_id(8)})).run()
    words = ["erase", *runs, "--subjects-from", str(tmp_path / "ids"), "--images-from", "-", "--json"]
    assert main(words) == 12
    said, logged = capsys.readouterr()
    told = json.loads(said)
    assert (told["ids"], told["absent"]) == (3, 1)
    assert [(each["images"], each["earlier"], each["absent"]) for each in told["runs"]] == [
        (1, 1, 1),
        (2, 0, 1),
    ]
    assert not any(name in said + logged for name in ("person-2", "nobody", image_id(8)))
    assert any("gallery delete" in each for each in told["not_reached"])


def test_a_dry_run_counts_and_writes_nothing(out: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    before = _bytes(out)
    assert main(["erase", out.uri, "--subject", PERSON, "--dry-run"]) == 0
    assert "2 photos and 2 faces in 2 of 6 parts would be erased" in capsys.readouterr().out
    assert _bytes(out) == before


@pytest.mark.parametrize("by", ["content", "vector"])
def test_the_same_picture_under_another_id_is_asked_about_first(tmp_path: Path, by: str) -> None:
    twin = {"contents": {10: image_id(0)}} if by == "content" else {"alike": {10: 0}}
    out = finished_run(tmp_path, **twin)
    before = _bytes(out)
    with pytest.raises(OutputError, match="the same as some that would go"):
        _erase(out, PERSON)
    assert _bytes(out) == before
    kept = Erase(out.uri, frozenset({PERSON}), NOBODY, "keep").run()
    assert (kept.images, kept.copies) == (2, 1)
    other = finished_run(tmp_path / "other", **twin)
    assert Erase(other.uri, frozenset({PERSON}), NOBODY, "erase").run().images == 3


def test_what_is_left_in_a_foreign_file_or_another_column_fails_the_proof(out: Folder) -> None:
    out.write("notes.txt", b"ask about picture-0002, please")
    with pytest.raises(ErasureError, match=r"hold .* a file of another origin \(an id"):
        _erase(out, image_id(2))
    with pytest.raises(OutputError, match="being taken out"):
        run.check_claim(out, run.begun(out)["identity"])
    out.write("notes.txt", b"picture-0002-b and my-picture-0002")
    out.write("picture-0002.png", b"")
    with pytest.raises(ErasureError, match="an id in its name"):
        _erase(out, image_id(2))
    out.delete("picture-0002.png")
    assert _erase(out, image_id(2)).searched.others == 1
    out.write("copy.bin", b"..." + vector(4).tobytes())
    with pytest.raises(ErasureError, match="a vector"):
        _erase(out, image_id(4))
    out.delete("copy.bin")
    assert _erase(out, image_id(4)).searched.others == 1
    faces = pa.table({"face_id": pa.array([f"{image_id(4)}#0"]).dictionary_encode()})
    pq.write_table(faces, f"{out.uri}/export.parquet")
    with pytest.raises(ErasureError, match=r"another origin \(an id"):
        _erase(out, image_id(4))
    (Path(out.uri) / "export.parquet").unlink()
    with pytest.raises(ErasureError, match="an id in the column boss") as caught:
        _erase(out, "boss-of-9")
    assert "boss-of-9" not in str(caught.value)


def test_what_is_no_finished_run_is_refused(out: Folder, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="holds no enroll output"):
        _erase(Folder.at(str(tmp_path / "nothing")), PERSON)
    out.delete("_SUCCESS")
    with pytest.raises(OutputError, match="is not finished"):
        _erase(out, PERSON)
    with pytest.raises(OutputError, match="is not finished"):
        Erase(out.uri, frozenset({PERSON}), NOBODY).dry_run()


def test_what_a_run_left_of_its_work_goes_too(out: Folder) -> None:
    out.write("_replay/faces/part-000000.parquet", vector(0).tobytes())
    out.write("_attempts/locate/000000/poison.json", b"[]")
    hidden = Path(out.uri) / "faces/.part-000000.parquet.x.tmp"
    hidden.write_bytes(vector(0).tobytes())
    assert _erase(out, PERSON).searched.others == 0
    left = {path.name for path in Path(out.uri).iterdir()}
    assert left.isdisjoint({"_replay", "_attempts"}) and not hidden.exists()


def test_a_damaged_part_is_taken_away_and_done_anew_without_them(out: Folder) -> None:
    """It breaks while the erasure is under way: whoever cannot read a part cannot vouch for it."""
    moment = Folder.write

    def breaks(folder: Folder, name: str, data: bytes) -> None:
        moment(folder, name, data)
        if name == "_plan/plan.json":
            moment(folder, "faces/part-000003.parquet", b"PAR1")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "write", breaks)
        with pytest.raises(OutputError, match="1 part of it is damaged or gone"):
            _erase(out, PERSON)
    assert not out.exists("faces/part-000003.parquet") and not out.exists("images/part-000003.parquet")
    assert load_plan(out).rows_of(3) == 1 and run.complete(out) is None
    run.check_claim(out, run.begun(out)["identity"])


def test_ids_must_be_given(out: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["erase", out.uri]) == 2
    assert main(["erase", out.uri, "--subjects-from", "-", "--images-from", "-"]) == 2
    assert "->" in capsys.readouterr().err
    seal(out)


def _erase(out: Folder, *ids: str):  # type: ignore[no-untyped-def]
    people = frozenset(each for each in ids if not each.startswith("picture"))
    return Erase(out.uri, people, frozenset(ids) - people).run()


def _bytes(out: Folder) -> dict[str, bytes]:
    return {name: out.read(name) for name in out.walk()}


def _schemas(out: Folder) -> dict[str, tuple[pa.Schema, dict[bytes, bytes]]]:
    found = {}
    for name in (name for name in out.walk() if name.endswith(".parquet")):
        file = pq.ParquetFile(pa.BufferReader(out.read(name)))
        metadata = {
            k: v for k, v in file.metadata.metadata.items() if k.startswith(b"frpipe.") and b"faces" not in k
        }
        found[name] = (file.schema_arrow.remove_metadata(), metadata, file.schema.to_arrow_schema().names)
    return found


def test_hidden_files_are_searched(out: Folder) -> None:
    for name, data in (
        (".nfs0001", vector(0).tobytes()),
        (".ipynb_checkpoints/x.txt", b"row of picture-0000."),
    ):
        hidden = Path(out.uri) / name
        hidden.parent.mkdir(exist_ok=True)
        hidden.write_bytes(data)
        with pytest.raises(ErasureError, match="a hidden file of another origin"):
            _erase(out, PERSON, image_id(0))
        hidden.unlink()
    (Path(out.uri) / ".note").write_bytes(b"nobody")
    done = _erase(out, PERSON, image_id(0))
    assert (done.searched.others, done.searched.hidden) == (1, 1)


def test_linked_folders_are_not_searched_and_the_proof_says_so(
    out: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/copy.bin").write_bytes(vector(0).tobytes())
    (Path(out.uri) / "linked").symlink_to(tmp_path / "elsewhere")
    assert main(["erase", out.uri, "--subject", PERSON]) == 0
    said = capsys.readouterr().out
    assert "NOT searched" in said
    assert "linked" in said
    done = _erase(out, PERSON)
    assert done.searched.unread == ("linked",)
    (Path(out.uri) / image_id(0)).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ErasureError, match="an id in its name"):
        _erase(out, PERSON, image_id(0))
