"""Nights with faces beyond limits: kept out by the gate or held back, told on the page, brought in later."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from frozen import Frozen, copied
from staged_runs import HERE, config, replayed, table

from frpipe.core.errors import ConfigError, OutputError
from frpipe.core.face_gates import FaceGates
from frpipe.core.night_config import NightConfig
from frpipe.gallery.gallery import Gallery
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.erase.everywhere import EraseEverywhere
from frpipe.jobs.face_gate import FaceGate
from frpipe.jobs.nightly.job import Night
from frpipe.jobs.nightly.kept_out import GATED
from frpipe.jobs.nightly.plan import night_plan
from frpipe.testing.kills import Killed, at_change, die

DATE, NEXT = "2026-03-01", "2026-03-02"
OFF = {name: {"enabled": False} for name in ("dedup", "identify")}
NAMED = ("faces", "value", "limit", "measure", "face_id", "subject_id")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    """The photos and models of the fixtures."""
    with copied(tmp_path_factory.mktemp("kept-out") / "frozen") as found:
        yield found


def _config(root: Path, home: Frozen, *settings: str, **sections: Any) -> NightConfig:
    places = {"runs": root / "nights", "gallery": root / "people", "photos": home / "album"}
    found = NightConfig.model_validate({**{k: str(v) for k, v in places.items()}, **OFF, **sections})
    return found.model_copy(update={"settings": config(*settings)})


def _gated(root: Path, home: Frozen, limit: float, *settings: str) -> NightConfig:
    gates = {"gates": {"max_yaw_deg": limit}}
    # Its heartbeat would be one more change of a folder.
    lease = {"expires_s": 6000}
    return _config(root, home, *(settings or ("quality={}",)), consolidate=gates, lease=lease)


def _steps(root: Path, date: str = DATE) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "nights" / date / "night.json").read_text())["steps"]
    return found


def _yaws(root: Path) -> dict[str, float]:
    faces = table(root / "nights" / DATE / "enroll", "faces")
    return dict(zip(faces["face_id"].to_pylist(), np.abs(faces["pose_yaw_deg"].to_numpy()), strict=True))


def _content(gallery: Path) -> list[tuple[str, str, bytes]]:
    rows = [row for each in Gallery.open(str(gallery)).snapshot().tables() for row in each.to_pylist()]
    return sorted((r["subject_id"], r["face_id"], np.array(r["embedding"], "f4").tobytes()) for r in rows)


def _faces(gallery: Path) -> set[str]:
    return {face for _, face, _ in _content(gallery)}


@pytest.fixture(scope="module")
def free(home: Frozen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night without a gate, whose faces are measured."""
    root = tmp_path_factory.mktemp("free")
    Night(_config(root, home, "quality={}"), DATE, HERE).run()
    return root


@pytest.fixture(scope="module")
def limit(free: Path) -> float:
    """The yaw that half of the faces in the gallery stay within."""
    yaws = _yaws(free)
    return float(np.median([yaws[face] for face in _faces(free / "people")]))


@pytest.fixture(scope="module")
def gated(home: Frozen, limit: float, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A night with a gate that half of the faces do not pass."""
    root = tmp_path_factory.mktemp("gated")
    Night(_gated(root, home, limit), DATE, HERE).run()
    return root


def test_faces_beyond_the_limit_stay_out_and_the_night_tells(free: Path, gated: Path, limit: float) -> None:
    yaws, before = _yaws(free), _faces(free / "people")
    out = {face for face in before if yaws[face] > limit}
    assert out and _faces(gated / "people") == before - out
    done, folder = _steps(gated)["consolidate"], gated / "nights" / DATE
    worst = pytest.approx(max(yaws[face] for face in out))
    assert done["gated"] == {
        "limits": {"max_yaw_deg": limit},
        "faces": len(out),
        "measures": [
            {"measure": "pose_yaw_deg", "limit": limit, "faces": len(out), "worst": worst, "unassessed": 0}
        ],
    }
    assert done["left_out"]["gate"] == len(out)
    assert done["used"] + sum(done["left_out"].values()) == done["faces"]
    assert {row["face_id"] for row in pq.read_table(folder / GATED).to_pylist()} == out
    assert "gated" not in _steps(free)["consolidate"]
    assert not (free / "nights" / DATE / GATED).exists()


def test_the_page_shows_them_by_measure_and_by_id(free: Path, gated: Path, limit: float) -> None:
    html, text = ((gated / "nights" / DATE / name).read_text() for name in ("report.html", "report.md"))
    count = _steps(gated)["consolidate"]["gated"]["faces"]
    words = re.sub(r"<[^>]+>", " ", html)
    for said in (
        "kept out by the gate",
        "pose_yaw_deg",
        f"{limit:g}",
        "--policy append",
        f"{count} faces kept out",
    ):
        assert said in words, said
    assert f"kept out   {count} faces by the gate of the gallery (pose_yaw_deg {count})" in text
    lists = json.loads((gated / "nights" / DATE / "report.json").read_text())["lists"]
    assert len(lists["gated_face"]) == count and all("pose_yaw_deg" in each for each in lists["gated_face"])
    assert "kept out" not in (free / "nights" / DATE / "report.html").read_text()


def test_with_other_limits_the_next_consolidation_brings_them_in(
    free: Path, gated: Path, tmp_path: Path
) -> None:
    shutil.copytree(gated / "people", tmp_path / "people")
    enrolled = str(gated / "nights" / DATE / "enroll")
    Consolidation(enrolled, str(tmp_path / "people"), "append", gate=FaceGate({"max_yaw_deg": 180.0})).run()
    assert _content(tmp_path / "people") == _content(free / "people")


@pytest.mark.slow
def test_a_night_that_is_killed_in_its_gate_ends_as_one_that_was_not(
    home: Frozen, gated: Path, limit: float, tmp_path: Path
) -> None:
    night, half = Night(_gated(tmp_path / "place", home, limit), DATE, HERE), tmp_path / "half"
    with at_change(None, die) as changes:
        night.run()
    shutil.rmtree(tmp_path / "place")
    with pytest.raises(Killed), at_change(changes[0] - 15, die):
        night.run()
    assert "consolidate" not in _steps(tmp_path / "place") and "enroll" in _steps(tmp_path / "place")
    shutil.rmtree(
        tmp_path / "place/nights/_lease"
    )  # of a process that lives: one would wait for it to expire
    (tmp_path / "place").rename(half)
    shutil.copytree(half, tmp_path / "place")
    with at_change(None, die) as changes:
        night.run()
    for moment in range(1, changes[0] + 1):
        shutil.rmtree(tmp_path / "place")
        shutil.copytree(half, tmp_path / "place")
        with pytest.raises(Killed), at_change(moment, die):
            night.run()
        shutil.rmtree(tmp_path / "place/nights/_lease", ignore_errors=True)
        night.run()
        assert _content(tmp_path / "place/people") == _content(gated / "people"), moment
        told, clean = (_steps(root)["consolidate"] for root in (tmp_path / "place", gated))
        for name in ("gated", "left_out", "used", "templates", "faces", "added"):
            assert told[name] == clean[name], (moment, name)
        there, were = (pq.read_table(root / "nights" / DATE / GATED) for root in (tmp_path / "place", gated))
        assert there.equals(were), moment


def test_held_faces_are_on_the_page_and_a_replay_brings_them_in(
    home: Frozen, free: Path, limit: float, tmp_path: Path
) -> None:
    held = ("quality.policy=reject", f"quality.max_yaw_deg={limit}")
    Night(_config(tmp_path, home, *held), DATE, HERE).run()
    folder = tmp_path / "nights" / DATE
    back, enroll = table(folder / "enroll", "held").to_pylist(), _steps(tmp_path)["enroll"]
    (row,) = enroll["held_measures"]
    assert (row["measure"], row["faces"], row["limit"]) == ("pose_yaw_deg", len(back), pytest.approx(limit))
    assert row["worst"] == max(face["held_value"] for face in back)
    words = re.sub(r"<[^>]+>", " ", (folder / "report.html").read_text())
    for said in ("held back at enroll", "--held", f"{len(back)} faces held back"):
        assert said in words, said
    lists = json.loads((folder / "report.json").read_text())["lists"]
    assert [each.split("#")[0] for each in lists["held_face"]] == [
        face["image_id"] for face in sorted(back, key=lambda face: -face["held_value"])
    ]
    assert len(_faces(tmp_path / "people")) < len(_faces(free / "people"))
    replayed(folder / "enroll", tmp_path / "again", "stages.quality.policy=flag")
    Consolidation(str(tmp_path / "again"), str(tmp_path / "people"), "append").run()
    assert _content(tmp_path / "people") == _content(free / "people")


def test_drift_watches_the_measures_of_all_faces_that_were_found(
    home: Frozen, free: Path, limit: float, tmp_path: Path
) -> None:
    def samples(root: Path) -> dict[str, list[float]]:
        rows = pq.read_table(root / "nights" / DATE / "drift/samples.parquet").to_pylist()
        found: dict[str, list[float]] = {}
        for row in rows:
            found.setdefault(row["measure"], []).append(row["value"])
        return found

    faces, seen = table(free / "nights" / DATE / "enroll", "faces"), samples(free)
    for name in ("quality_score", "pose_yaw_deg"):
        assert seen[name] == sorted(faces[name].to_pylist())
    assert max(seen["quality"]) <= 1 < max(seen["quality_score"])  # two measures, never compared
    assert "pad_score" not in seen
    page = (free / "nights" / DATE / "report.html").read_text()
    assert "Quality score, 0 to 100" in page and "Yaw, degrees" in page
    Night(
        _config(tmp_path / "held", home, "quality.policy=reject", f"quality.max_yaw_deg={limit}"), DATE, HERE
    ).run()
    assert samples(tmp_path / "held")["pose_yaw_deg"] == seen["pose_yaw_deg"]  # the gate cuts nothing off
    Night(_config(tmp_path / "plain", home), DATE, HERE).run()
    assert not {"quality_score", "pose_yaw_deg"} & samples(tmp_path / "plain").keys()


def test_an_erasure_reaches_the_lists_and_the_counts(home: Frozen, limit: float, tmp_path: Path) -> None:
    asked = _gated(tmp_path, home, limit)
    Night(asked, DATE, HERE).run()
    folder = tmp_path / "nights" / DATE
    rows = pq.read_table(folder / GATED).to_pylist()
    who = rows[0]["subject_id"]
    left = [row["face_id"] for row in rows if row["subject_id"] != who]
    EraseEverywhere(asked, frozenset({who}), reason="request", by="desk", copies="keep").run()
    assert [row["face_id"] for row in pq.read_table(folder / GATED).to_pylist()] == left
    assert _steps(tmp_path)["consolidate"]["gated"]["faces"] == len(left)
    report = json.loads((folder / "report.json").read_text())
    assert len(report["lists"].get("gated_face", ())) == len(left)
    assert not any(who in each for each in report["lists"].get("gated_face", ()))
    assert f"{who}/" not in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("stage", "gates"), [("quality", {"preset": "enrolment"}), ("pad", {"min_pad": 0.5})]
)
def test_a_gate_without_its_measures_is_refused_before_the_night(
    home: Frozen, tmp_path: Path, stage: str, gates: dict[str, Any]
) -> None:
    asked = _config(tmp_path, home, consolidate={"gates": gates})
    with pytest.raises(ConfigError, match=f"the stage {stage}") as refused:
        Night(asked, DATE, HERE).run()
    assert f"settings.{stage}.policy: flag" in refused.value.remedy
    with pytest.raises(ConfigError, match=f"the stage {stage}"):
        night_plan(asked, DATE)
    assert not (tmp_path / "nights").exists()


def test_the_plan_names_the_limits_and_a_begun_night_keeps_them(
    home: Frozen, gated: Path, limit: float
) -> None:
    asked = _gated(gated, home, limit)
    assert f"faces must meet: max_yaw_deg {limit:g}" in night_plan(asked, NEXT).text()
    with pytest.raises(OutputError, match="max_yaw_deg"):
        Night(_gated(gated, home, limit + 1), DATE, HERE).run()


def test_nights_without_a_gate_have_the_identity_that_they_had() -> None:
    places = {"runs": "r", "gallery": "g", "photos": "p"}
    plain = NightConfig.model_validate(places).identity()
    assert "gates" not in plain["consolidate"]
    none = NightConfig.model_validate({**places, "consolidate": {"gates": FaceGates().model_dump()}})
    assert none.identity() == plain
