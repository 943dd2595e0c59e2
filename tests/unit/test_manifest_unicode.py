"""Ids in a manifest in several Unicode forms: one person, and never two photos of one id."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frpipe.cli.main import main
from frpipe.core.errors import ManifestError
from frpipe.io.manifest.admission import admitted
from frpipe.io.manifest.manifest import Manifest
from frpipe.io.output.plan import plan, read_part
from frpipe.io.storage.folder import Folder

NFC = "김지수"
NFD = unicodedata.normalize("NFD", NFC)


def _manifest(folder: Path, **columns: list[str]) -> str:
    pq.write_table(pa.table(columns), folder / "m.parquet")
    return str(folder / "m.parquet")


def _rows(uri: str) -> pa.Table:
    return pa.concat_tables(admitted(Manifest.open(uri), ()))


def test_two_forms_of_a_person_are_one_and_a_path_stays_as_written(tmp_path: Path) -> None:
    uri = _manifest(tmp_path, image_uri=[f"{NFD}/1.jpg", f"{NFC}/2.jpg"], subject_id=[NFD, NFC])
    rows = _rows(uri)
    assert rows["subject_id"].to_pylist() == [NFC, NFC]
    assert rows["image_id"].to_pylist() == [f"{NFC}/1.jpg", f"{NFC}/2.jpg"]
    assert rows["image_uri"].to_pylist() == [f"{NFD}/1.jpg", f"{NFC}/2.jpg"]
    assert rows["location"].to_pylist()[0] == f"{tmp_path}/{NFD}/1.jpg"


@pytest.mark.parametrize("name", ["image_id", "image_uri"])
def test_two_forms_of_a_photos_id_are_refused_with_both_rows(tmp_path: Path, name: str) -> None:
    columns = {"image_uri": ["a.jpg", "b.jpg", "c.jpg"]} | {name: [NFC, "x", NFD]}
    with pytest.raises(ManifestError, match=r"1 row with .* another Unicode form.*\(row 3 as 1\)") as caught:
        _rows(_manifest(tmp_path, **columns))
    assert NFC not in str(caught.value)


def test_two_columns_whose_names_look_the_same_are_refused(tmp_path: Path) -> None:
    columns = {"image_uri": ["a.jpg"], "팀": ["x"], unicodedata.normalize("NFD", "팀"): ["y"]}
    with pytest.raises(ManifestError, match="two columns named"):
        Manifest.open(_manifest(tmp_path, **columns))


def test_a_plan_that_was_made_before_goes_on_with_its_own_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, out = _manifest(tmp_path, image_uri=[f"{NFD}.jpg"]), Folder.at(str(tmp_path / "out"))
    with monkeypatch.context() as old:
        for module in ("admission", "survey"):
            old.setattr(f"frpipe.io.manifest.{module}.canonical_column", lambda column: column)
        first = plan(uri, out, 10)
    assert plan(uri, out, 10) == first
    assert read_part(out, 0)["image_id"].to_pylist() == [f"{NFD}.jpg"]


def test_the_check_says_what_is_one_and_what_may_be_meant_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    people = [NFC, NFD, "ann", "Ann", "an n", "bob"]
    uri = _manifest(tmp_path, image_uri=[f"{n}.jpg" for n in range(6)], subject_id=people)
    assert main(["manifest", "check", uri]) == 0
    said = capsys.readouterr().out
    assert f"in several Unicode forms, one person each: {NFD!a} and {NFC!a}" in said
    assert "warning: subject ids that differ only in case" in said
    assert "'Ann' and 'an n' and 'ann'" in said
    plain = _manifest(tmp_path, image_uri=["1.jpg"], subject_id=["bob"])
    assert main(["manifest", "check", plain]) == 0
    assert "Unicode" not in capsys.readouterr().out
