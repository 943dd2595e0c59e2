"""Who is erased is found in whatever Unicode form a run holds their ids."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import erase_runs
import pyarrow as pa
import pytest

from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.output.features import Features
from frpipe.jobs.erase.job import Erase
from frpipe.jobs.erase.proof import ErasureError

NFC = "김지수"
NFD = unicodedata.normalize("NFD", NFC)
TABLE = pa.table({"subject_id": [NFD, NFC, "ann", None], "image_id": ["1", "2", f"{NFD}.jpg", "4"]})


@pytest.mark.parametrize("form", [NFC, NFD])
def test_both_forms_are_one_person(form: str) -> None:
    wanted = ErasedIds.of("k", [form], [f"{form}.jpg"])
    assert wanted.mask(TABLE).tolist() == [True, True, True, False]
    assert wanted.among(TABLE) == wanted


def test_a_digest_that_was_recorded_of_another_form_still_finds_its_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as old:
        old.setattr("frpipe.io.erasure.erased_ids.canonical_text", lambda text: text)
        # As a receipt holds them: the text is not told.
        recorded = ErasedIds("k", ErasedIds.of("k", [NFD], []).subjects)
    assert recorded.mask(TABLE).tolist() == [True, False, False, False]
    assert len(recorded.among(TABLE)) == 1


def _named(monkeypatch: pytest.MonkeyPatch, name: Callable[[int], str]) -> None:
    monkeypatch.setattr(erase_runs, "subject_id", name)


def test_a_run_that_holds_both_forms_loses_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as old:
        for module in ("admission", "survey"):
            old.setattr(f"frpipe.io.manifest.{module}.canonical_column", lambda column: column)
        _named(old, lambda row: {0: NFD, 7: NFC}.get(row, f"person-{row}"))
        out = erase_runs.finished_run(tmp_path)
    done = Erase(out.uri, frozenset({NFC}), frozenset()).run()
    assert (done.images, len(done.absent)) == (2, 0)
    left = {each for images, _ in Features(out).tables() for each in images["subject_id"].to_pylist()}
    assert not left & {NFC, NFD}


def test_another_file_that_names_the_other_form_fails_the_proof(tmp_path: Path) -> None:
    long = "이름이긴사람"
    out = erase_runs.finished_run(tmp_path)
    (tmp_path / "out/notes.txt").write_text(unicodedata.normalize("NFD", long))
    with pytest.raises(ErasureError):
        Erase(out.uri, frozenset({long}), frozenset()).run()
