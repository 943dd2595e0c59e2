"""A night that is asked for again: a finished one answers without work, and needs no night before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from frpipe.core.errors import ConfigError, ManifestError, OutputError, StorageError
from frpipe.core.night_config import NightConfig
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly import job as night_flow
from frpipe.jobs.nightly.gates import GateError
from frpipe.jobs.nightly.history import enter
from frpipe.jobs.nightly.job import Night
from frpipe.jobs.nightly.journal import NIGHT, NightJournal, encoded
from frpipe.jobs.nightly.lease import LEASES, Holder, LeaseError, lease
from frpipe.jobs.nightly.plan import night_plan
from frpipe.jobs.nightly.work import Work

DATE = "2026-11-24"
STEPS = {
    "scan": {
        "new": 1,
        "changed": 0,
        "vanished": 2,
        "known_before": 9,
        "listed": 8,
        "people_without_photos": 0,
    }
}


def _config(root: Path, **sections: Any) -> NightConfig:
    off = {name: {"enabled": False} for name in ("dedup", "identify", "drift")}
    places = {name: str(root / name) for name in ("runs", "gallery", "photos")}
    return NightConfig.model_validate({**places, **off, **sections})


def _begun(root: Path, base: str | None, *, complete: bool) -> Folder:
    runs, config = Folder.at(str(root / "runs")), _config(root)
    enter(runs, DATE)
    identity = {"job": "night", "date": DATE, **config.identity()}
    run.claim(runs.child(DATE), identity, {"base": {"night": base, "gallery_version": None}})
    report = {"night": DATE, "last_night": base, "held_back": False, "steps": STEPS, "last_steps": {}}
    report |= {"reasons": [], "throughput": [], "gates": [], "lists": {}, "output": "", "cost": {}}
    report["cost"] = {"nodes": 1, "spent_s": 1.0}
    if complete:
        run.seal(runs.child(DATE), [], report, "")
    return runs


def test_a_finished_night_is_judged_anew_though_the_night_before_is_gone(tmp_path: Path) -> None:
    _begun(tmp_path, "2026-11-20", complete=True)
    said: list[str] = []
    report, bad = Night(_config(tmp_path), DATE, say=said.append).run()
    assert bad is None
    assert report["steps"] == STEPS
    assert said == ["this night is complete already: nothing to do"]
    _, bad = Night(_config(tmp_path, gates={"max_vanished": 1, "max_vanished_ratio": 0.1}), DATE).run()
    assert isinstance(bad, GateError)
    # The gate came after the faces were in the gallery.
    assert "reached the gallery" not in bad.message


def test_an_unfinished_night_does_not_go_on_without_what_it_was_begun_on(tmp_path: Path) -> None:
    _begun(tmp_path, "2026-11-20", complete=False).child(DATE).write(NIGHT, encoded({"steps": {}}))
    with pytest.raises(OutputError, match="2026-11-20"):
        Night(_config(tmp_path), DATE).run()


def test_nights_only_go_forward(tmp_path: Path) -> None:
    _begun(tmp_path, None, complete=True)
    with pytest.raises(ConfigError, match="has finished"):
        Night(_config(tmp_path), "2026-11-23").run()


def test_a_first_night_without_photos_may_be_begun_with_another_setting(tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()
    wrong = _config(tmp_path)
    for once_more in (lambda: Night(wrong, DATE).run(), lambda: night_plan(wrong, DATE)):
        with pytest.raises(ManifestError, match="no photos"):
            once_more()
    (tmp_path / "album/1.jpg").write_bytes(b"photo")
    off = {name: {"enabled": False} for name in ("enroll", "consolidate")}
    mended = _config(tmp_path, photos=str(tmp_path / "album"), **off)
    assert "1 new" in night_plan(mended, DATE).text()
    report, bad = Night(mended, DATE).run()
    assert (report["steps"]["scan"]["new"], bad) == (1, None)
    with pytest.raises(OutputError, match="other settings"):
        night_plan(wrong, DATE)


def test_an_album_that_is_empty_by_now_is_a_night_with_nothing_to_do(tmp_path: Path) -> None:
    photo = tmp_path / "photos/1.jpg"
    photo.parent.mkdir()
    photo.write_bytes(b"photo")
    off = {name: {"enabled": False} for name in ("enroll", "consolidate")}
    config = _config(tmp_path, **off, gates={"max_vanished_ratio": None})
    Night(config, DATE).run()
    photo.unlink()
    for date in ("2026-11-25", "2026-11-26"):
        report, bad = Night(config, date).run()
        assert (report["steps"]["scan"]["listed"], bad) == (0, None)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    Folder.at(str(tmp_path / "runs" / DATE)).write("holiday.jpg", b"mine")
    with pytest.raises(OutputError, match="other files"):
        Night(_config(tmp_path), DATE).run()
    assert [path.name for path in (tmp_path / "runs" / DATE).iterdir()] == ["holiday.jpg"]


def test_a_night_that_loses_its_lease_in_a_step_records_nothing_and_goes_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, begun = Folder.at(str(tmp_path / "runs")), []

    def frozen(_: Work) -> dict[str, Any]:
        begun.append("scan")
        runs.child(LEASES).write("000000099.json", Holder.me(DATE).encoded())
        return {"listed": 1}

    def next_step(_: Work) -> dict[str, Any]:
        begun.append("enroll")
        return {}

    monkeypatch.setattr(night_flow, "STEPS", (("scan", frozen), ("enroll", next_step)))
    with pytest.raises(LeaseError, match="taken over"):
        Night(_config(tmp_path), DATE).run()
    assert begun == ["scan"]
    assert {entry.name for entry in runs.child(DATE).list()} == {run.RUN}


def test_a_step_that_failed_is_done_by_the_next_launch_and_the_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def step(name: str) -> tuple[str, Callable[[Work], dict[str, Any]]]:
        def do(_: Work) -> dict[str, Any]:
            done.append(name)
            if name == "enroll" and done.count(name) == 1:
                raise StorageError("no answer", "wait")
            return STEPS["scan"] if name == "scan" else {"not_done": "nothing"}

        return name, do

    monkeypatch.setattr(night_flow, "STEPS", tuple(map(step, ("scan", "enroll", "consolidate"))))
    with pytest.raises(StorageError):
        Night(_config(tmp_path), DATE).run()
    report, bad = Night(_config(tmp_path), DATE).run()
    assert (done, bad) == (["scan", "enroll", "enroll", "consolidate"], None)
    assert report["night"] == DATE


def test_the_time_of_a_launch_that_died_counts_to_its_last_heartbeat(tmp_path: Path) -> None:
    folder = Folder.at(str(tmp_path / DATE))
    run.claim(folder, {"job": "night", "date": DATE}, {"base": {}})
    folder.write(NIGHT, encoded({"steps": {}, "spent_s": 100.0, "saved": "2026-11-24T01:00:00+00:00"}))
    dead = replace(Holder.me(DATE), since="2026-11-24T00:50:00+00:00", beat="2026-11-24T01:00:30+00:00")
    with lease(Folder.at(str(tmp_path)), DATE, 60) as held:
        held.before = dead
        journal = NightJournal.claim(folder, DATE, {}, {}, held)
        assert journal.record["spent_s"] == pytest.approx(130)
        # It began, and wrote nothing: the hours between the launches cost nothing.
        held.before = replace(dead, since="2026-11-24T09:00:00+00:00", beat="2026-11-24T09:00:10+00:00")
        assert NightJournal.claim(folder, DATE, {}, {}, held).record["spent_s"] == pytest.approx(110)
        held.before = replace(dead, night="2026-11-23")
        assert NightJournal.claim(folder, DATE, {}, {}, held).record["spent_s"] == 100


def test_a_plan_names_the_nights_that_would_go(tmp_path: Path) -> None:
    runs = _begun(tmp_path, None, complete=True)
    for date in ("2026-11-25", "2026-11-26"):
        enter(runs, date)
        run.claim(runs.child(date), {"job": "night", "date": date}, {"base": {"night": None}})
        run.seal(runs.child(date), [], {}, "")
    off = {name: {"enabled": False} for name in ("scan", "enroll", "consolidate")}
    text = night_plan(_config(tmp_path, retention={"nights": 1}, **off), "2026-11-27").text()
    assert "removed      2026-11-24, 2026-11-25, 2026-11-26, by retention" in text
    assert text.count("switched off") == 6
