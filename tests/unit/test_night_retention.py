"""Which nights go, which never do, and that they go whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from frpipe.core.night_config import NightConfig
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly.history import enter, nights
from frpipe.jobs.nightly.journal import NIGHT, encoded
from frpipe.jobs.nightly.retention import expired, remove

DAYS = [f"2026-11-{day:02d}" for day in range(10, 20)]
TONIGHT = "2026-11-19"


def _config(**rules: Any) -> NightConfig:
    # A window of one night, so that the rules show.
    return NightConfig(runs="r", gallery="g", photos="p", retention=rules, drift={"nights": 1})


def _night(
    runs: Folder, date: str, *, complete: bool = True, base: str | None = None, **steps: Any
) -> Folder:
    folder = runs.child(date)
    enter(runs, date)
    run.claim(folder, {"job": "night", "date": date}, {"base": {"night": base, "gallery_version": None}})
    folder.write(NIGHT, encoded({"steps": steps}))
    folder.write("enroll/faces/part-000000.parquet", b"vectors")
    if complete:
        run.seal(folder, [], {"steps": {}}, "")
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Folder:
    folder = Folder.at(str(tmp_path / "nights"))
    for date in DAYS:
        _night(folder, date)
    return folder


def _expired(runs: Folder, tonight: str = TONIGHT, **rules: Any) -> list[str]:
    return [night.date for night in expired(nights(runs), tonight, _config(**rules))]


def test_without_a_rule_nothing_goes(runs: Folder) -> None:
    assert _expired(runs) == []


def test_a_night_goes_when_every_rule_says_so(runs: Folder) -> None:
    assert _expired(runs, nights=3) == DAYS[:-3]
    assert _expired(runs, days=4) == DAYS[:-4]
    assert _expired(runs, nights=3, days=5) == DAYS[:-5]
    assert _expired(runs, nights=6, days=2) == DAYS[:-6]


def test_the_newest_finished_night_stays_however_old(tmp_path: Path) -> None:
    runs = Folder.at(str(tmp_path))
    _night(runs, "2026-01-01")
    _night(runs, "2026-01-02")
    for date in DAYS:
        _night(runs, date, complete=False)
    assert _expired(runs, nights=1) == ["2026-01-01", *DAYS[:-1]]


def test_what_the_next_night_compares_with_stays(runs: Folder) -> None:
    did: dict[str, Any] = {"dedup": {"pairs": 0}, "drift": {"measures": {}}}
    _night(runs, "2026-11-01", **did)
    _night(runs, "2026-11-02", dedup={"not_done": "switched off"})
    assert _expired(runs, nights=1) == ["2026-11-02", *DAYS[:-1]]


def test_what_an_unfinished_night_began_with_stays(runs: Folder) -> None:
    _night(runs, "2026-11-20", complete=False, base="2026-11-12")
    assert "2026-11-12" not in _expired(runs, "2026-11-20", nights=1)
    assert "2026-11-13" in _expired(runs, "2026-11-20", nights=1)


def test_a_removed_night_is_gone_whole_and_others_are_as_they_were(runs: Folder, tmp_path: Path) -> None:
    first, second, *_ = nights(runs)
    (tmp_path / "nights" / first.date / ".part.tmp").write_bytes(b"of a killed writer")
    kept = second.folder.list()
    assert remove(runs, first, lambda _: None)
    assert not (tmp_path / "nights" / first.date).exists()
    assert [night.date for night in nights(runs)] == DAYS[1:]
    assert second.folder.list() == kept


def test_a_removal_that_was_cut_short_is_finished_by_the_next(runs: Folder, tmp_path: Path) -> None:
    folder = tmp_path / "nights" / DAYS[0]
    for name in ("_SUCCESS", NIGHT, "files.json"):
        (folder / name).unlink()
    assert _expired(runs, nights=9) == DAYS[:1]
    assert remove(runs, nights(runs)[0], lambda _: None)
    assert not folder.exists()


def test_a_folder_with_somebody_elses_files_is_kept_and_said(runs: Folder) -> None:
    night = nights(runs)[0]
    night.folder.write("notes.txt", b"keep me")
    said: list[str] = []
    assert not remove(runs, night, said.append)
    assert night.folder.exists("notes.txt")
    assert night.folder.exists("enroll/faces/part-000000.parquet")
    assert "1 file of another origin" in said[0]


def test_folders_that_are_no_nights_are_never_looked_at(runs: Folder) -> None:
    runs.write("2026-10-01/photo.jpg", b"not ours")
    enter(runs, "2026-10-01")
    run.claim(runs.child("2026-10-02"), {"job": "dedup"}, {})
    enter(runs, "2026-10-02")
    assert _expired(runs, nights=1) == DAYS[:-1]
