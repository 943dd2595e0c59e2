"""A file that another process makes while it is read is there or not there, and never damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import read_json


def _made_after(calls: int, method: str, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Let a rival make the file when `method` has answered `calls` times."""
    bare, left = getattr(Folder, method), [calls]

    def answered(self: Folder, name: str) -> object:
        try:
            return bare(self, name)
        finally:
            left[0] -= 1
            if not left[0]:
                path.write_text('{"made": "by a rival"}')

    monkeypatch.setattr(Folder, method, answered)


def test_a_file_made_between_a_read_and_the_question_for_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _made_after(1, "read", monkeypatch, tmp_path / "a.json")
    assert read_json(Folder.at(str(tmp_path)), "a.json") == {"made": "by a rival"}


def test_a_file_made_after_the_question_for_it_was_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _made_after(1, "exists", monkeypatch, tmp_path / "a.json")
    with pytest.raises(FileNotFoundError):
        read_json(Folder.at(str(tmp_path)), "a.json")
    assert read_json(Folder.at(str(tmp_path)), "a.json") == {"made": "by a rival"}
