"""Finished files that are moved into a folder instead of copied."""

from __future__ import annotations

import stat
from pathlib import Path

from s3server import S3, s3  # noqa: F401

from frpipe.io.storage.folder import Folder


def test_a_draft_is_hidden_until_it_is_adopted(tmp_path: Path) -> None:
    folder = Folder.at(str(tmp_path / "out"))
    draft = folder.draft("a/b.bin")
    assert draft is not None
    draft.write_bytes(b"content")
    assert folder.list() == []
    inode = draft.stat().st_ino
    folder.adopt("a/b.bin", draft)
    placed = tmp_path / "out/a/b.bin"
    assert (placed.read_bytes(), placed.stat().st_ino) == (b"content", inode)
    assert stat.S_IMODE(placed.stat().st_mode) == 0o600
    assert [path.name for path in placed.parent.iterdir()] == ["b.bin"]


def test_a_draft_of_a_killed_writer_is_swept(tmp_path: Path) -> None:
    folder = Folder.at(str(tmp_path / "out"))
    draft = folder.draft("b.bin")
    assert draft is not None
    assert folder.sweep(3600) == 0
    assert folder.sweep(0) == 1
    assert not draft.exists()


def test_an_object_store_has_no_drafts_but_adopts(s3: S3, tmp_path: Path) -> None:  # noqa: F811
    folder = Folder.at(s3.uri)
    assert folder.draft("b.bin") is None
    source = tmp_path / "source"
    source.write_bytes(b"content")
    folder.adopt("b.bin", source)
    assert folder.read("b.bin") == b"content"
    assert not source.exists()
