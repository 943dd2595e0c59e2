"""Nights join the small shards that nights leave, and it is no part of a night's identity."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gallery_rows import content, ids, people, spec

from frpipe.core.night_config import NightConfig
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.jobs.nightly.faces import join_shards


def _night(folder: Path, most: int | None) -> tuple[Any, list[str]]:
    settings = {"photos": "p", "runs": "r", "gallery": str(folder)}
    config = NightConfig.model_validate({**settings, "consolidate": {"merge_shards_over": most}})
    said: list[str] = []
    return SimpleNamespace(config=config, say=said.append), said


def test_a_night_joins_from_one_more_on_than_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    gallery = Gallery.create(str(tmp_path / "g"), spec(rows_per_shard=1000))
    for night in range(9):
        work, said = _night(tmp_path / "g", 8)
        join_shards(work)
        assert not said
        lifecycle.enroll(gallery, [people(ids(2, 2 * night), seed=night)])
    before = content(gallery.snapshot())
    join_shards(_night(tmp_path / "g", None)[0])
    assert gallery.snapshot().number == 9
    join_shards(work)
    assert gallery.snapshot().number == 10 and len(said) == 1
    assert len(gallery.snapshot().version.shards) <= 8
    assert content(gallery.snapshot()) == content(gallery.snapshot(9)) == before


def test_where_there_is_no_gallery_yet_nothing_is_joined(tmp_path: Path) -> None:
    join_shards(_night(tmp_path / "none", 8)[0])


def test_how_shards_are_kept_is_no_part_of_a_nights_identity(tmp_path: Path) -> None:
    settings = {"photos": "p", "runs": "r", "gallery": str(tmp_path / "g")}
    one, other = (
        NightConfig.model_validate({**settings, "consolidate": how}).identity()
        for how in ({}, {"merge_shards_over": None, "forms": True})
    )
    assert one == other
