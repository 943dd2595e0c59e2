"""The source of the photos of a night: what their ids belong to, from night to night."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly.history import Past
from frpipe.jobs.nightly.photo_sources import sources_of, sources_tonight


def _nights(root: Path, *identities: dict[str, Any]) -> list[Past]:
    """Finished nights, one after the other; each begins with the one before alone, as others were removed."""
    found: list[Past] = []
    for identity in identities:
        base = sources_tonight(identity, found[-1] if found else None, found[-1:])
        found.append(Past("2026-01-01", Folder.at(str(root)), identity, base, True, {}))
    return found


def _named(source: str, photos: str | None = "/album") -> dict[str, Any]:
    return {"photos": photos, "consolidate": {"source": source}}


def test_the_first_place_of_photos_names_their_source_from_then_on(tmp_path: Path) -> None:
    nights = _nights(tmp_path, {"photos": None}, {"photos": "/album/"}, {"photos": {"manifest": "/t"}})
    assert [night.base["source"] for night in nights] == [None, "/album", "/album"]
    assert sources_of(nights[-1:]) == {"/album": [""]}


def test_a_source_that_is_configured_goes_before_the_place(tmp_path: Path) -> None:
    nights = _nights(tmp_path, _named(""), _named("cam"), _named("cam", "/moved"), _named("", "/moved"))
    assert [night.base["source"] for night in nights] == ["/album", "cam", "cam", "/moved"]
    assert sources_of(nights[-1:]) == {"/album": [""], "cam": ["cam"], "/moved": [""]}


def test_nights_of_an_older_frpipe_and_probes_have_their_sources(tmp_path: Path) -> None:
    identity = {"photos": "/album", "identify": {"probes": "/asked"}}
    older = Past("2026-01-01", Folder.at(str(tmp_path)), identity, {"night": None}, True, {})
    assert sources_of([older]) == {"/album": [""], "/asked": [""]}
    assert sources_tonight({"photos": "/moved"}, older, [older])["source"] == "/album"
