"""A gallery that is compacted while a night is under way does not keep the night from ending."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gallery_rows import ids, people, spec

from frpipe.core.night_config import NightConfig
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly import searches
from frpipe.jobs.nightly.history import Past
from frpipe.jobs.nightly.journal import NightJournal
from frpipe.jobs.nightly.lease import lease
from frpipe.jobs.nightly.work import DEDUP, Work
from frpipe.runtime.runtime import Runtime

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
        journal = NightJournal(runs.child(DATE), {"night": None, "gallery_version": 1}, held, record)
        config = NightConfig(runs=runs.uri, gallery=str(tmp_path / "G"), photos="p")
        yield Work(config, journal, [], None, Runtime(), SAID.append)


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


class TestUnfinishedNights:
    """Photos of a night that never finished come again with the next: they are not to find themselves."""

    @staticmethod
    def _consolidated(work: Work, run_id: str, first: int) -> int:
        gallery = Gallery.open(work.config.gallery)
        note = f'consolidate {{"run": "{run_id}", "faces": "one", "templates": "all"}}'
        return lifecycle.enroll(gallery, [people(ids(3, first))], note=note).version

    @staticmethod
    def _tonight(
        work: Work, monkeypatch: pytest.MonkeyPatch, past: dict[str, tuple[bool, str]]
    ) -> tuple[Work, list[int | None]]:
        """Tonight, which began with the gallery as it is. past: whether a night has finished, and its run."""
        runs = {date: run_id for date, (_, run_id) in past.items()}

        def opened(uri: str) -> Any:
            return SimpleNamespace(run_id=runs[Path(uri).parent.name])

        monkeypatch.setattr(searches.FeatureRun, "open", opened)
        folder = Folder.at(work.config.runs)
        steps: dict[str, Any] = {"enroll": {"rows": 1}}
        nights = [Past(d, folder.child(d), {}, {}, done, steps) for d, (done, _) in past.items()]
        finished = [night for night in nights if night.complete]
        head = Gallery.open(work.config.gallery).catalog.head().number
        journal = dataclasses.replace(work.journal, base={"night": None, "gallery_version": head})
        tonight = dataclasses.replace(
            work, journal=journal, past=nights, last=finished[-1] if finished else None
        )
        searched: list[int | None] = []

        def search(_: Work, probes: Folder, name: str, version: int | None) -> dict[str, Any]:
            searched.append(version)
            return {}

        monkeypatch.setattr(searches, "_search", search)
        return tonight, searched

    def test_the_gallery_is_searched_as_before_the_first_of_them(
        self, work: Work, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._consolidated(work, "old", 20)
        assert self._consolidated(work, "first", 30) == 3
        self._consolidated(work, "second", 40)
        past = {"2026-11-21": (True, "old"), "2026-11-22": (False, "first"), "2026-11-23": (False, "second")}
        tonight, searched = self._tonight(work, monkeypatch, past)
        searches.identify(tonight)
        self._consolidated(work, "tonight", 50)
        searches.identify(tonight)
        assert searched == [2, 2]
        assert SAID[0].startswith("searched as before the unfinished night")

    def test_not_where_somebody_was_deleted_or_enrolled_since(
        self, work: Work, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._consolidated(work, "first", 30)
        lifecycle.delete(Gallery.open(work.config.gallery), ["p0003"])
        tonight, searched = self._tonight(work, monkeypatch, {"2026-11-23": (False, "first")})
        searches.identify(tonight)
        assert searched == [3]
        assert SAID[0].startswith("warning: photos of an unfinished night have reached the gallery")

    @pytest.mark.parametrize("past", [{}, {"2026-11-23": (False, "never")}, {"2026-11-23": (True, "first")}])
    def test_else_as_tonight_began(
        self, work: Work, monkeypatch: pytest.MonkeyPatch, past: dict[str, tuple[bool, str]]
    ) -> None:
        self._consolidated(work, "first", 30)
        tonight, searched = self._tonight(work, monkeypatch, past)
        searches.identify(tonight)
        assert (searched, SAID) == ([2], [])
