"""A gallery that is compacted while a night is under way does not keep the night from ending."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gallery_rows import ids, people, spec

from frpipe.core.night_config import NightConfig
from frpipe.flows.night import searches
from frpipe.flows.night.journal import Journal
from frpipe.flows.night.lease import lease
from frpipe.flows.night.work import DEDUP, Work
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.io import run
from frpipe.io.folder import Folder

DATE = "2026-11-24"
SAID: list[str] = []


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    """A night that began at version 1 of a gallery, and has enrolled."""
    SAID.clear()
    lifecycle.enroll(Gallery.create(str(tmp_path / "G"), spec()), [people(ids(9))])
    runs = Folder.at(str(tmp_path / "nights"))
    record: dict[str, Any] = {"steps": {"enroll": {"rows": 1}}, "pins": {}, "spent_s": 0.0}
    with lease(runs, DATE, 60) as held:
        journal = Journal(runs.child(DATE), {"night": None, "gallery_version": 1}, held, record)
        config = NightConfig(runs=runs.uri, gallery=str(tmp_path / "G"), photos="p")
        yield Work(config, journal, [], None, None, SAID.append, lambda: None)


def _compact(work: Work) -> int:
    gallery = Gallery.open(work.config.gallery)
    lifecycle.delete(gallery, ["p0003"])
    lifecycle.compact(gallery)
    return gallery.catalog.head().number


def test_duplicates_are_of_the_newest_version_until_their_search_has_begun(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[int] = []

    def failed(_: Work, out: Folder, version: int, since: object) -> dict[str, Any]:
        searched.append(version)
        raise KeyboardInterrupt

    monkeypatch.setattr(searches, "_duplicates", failed)

    def launched() -> int:
        with pytest.raises(KeyboardInterrupt):
            searches.dedup(work)
        return searched[-1]

    assert launched() == 1
    newest = _compact(work)
    assert launched() == newest > 1
    run.claim(work.folder.child(DEDUP), {"source": {"version": newest}, "since": None}, {})
    lifecycle.enroll(Gallery.open(work.config.gallery), [people(ids(3, 20))])
    assert launched() == newest


def test_a_gallery_as_it_was_before_tonight_that_is_gone_is_not_searched(work: Work) -> None:
    _compact(work)
    assert "not_done" in searches.identify(work)
    assert SAID == ["warning: version 1 of the gallery was compacted meanwhile: it is not searched"]
