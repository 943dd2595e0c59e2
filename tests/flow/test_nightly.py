"""Nights, one ended on a real cluster: what is new each night, kills, two at the same time, and gates."""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from enrollment import ROOT
from nights import Place, told
from real_photos import people_with

from frpipe.core.errors import ConfigError, OutputError
from frpipe.core.night_config import NightConfig
from frpipe.gallery import lifecycle
from frpipe.jobs.nightly.gates import GateError
from frpipe.jobs.nightly.plan import night_plan

FIRST, SECOND, THIRD = "2026-11-24", "2026-11-25", "2026-11-26"
_AMID, _BETWEEN = "step 2 of 7, enroll", "step 4 of 7, dedup"


@pytest.fixture(scope="module")
def people(real_photos: Path) -> list[list[Path]]:
    return people_with(3, real_photos)


@pytest.fixture(scope="module")
def first(people: list[list[Path]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, dict[str, Any]]:
    """Six people of one photo, and a file that is none."""
    place = Place(tmp_path_factory.mktemp("nights"))
    for photos in people[:6]:
        place.add(photos[:1])
    (place.album / people[0][0].parent.name / "broken.jpg").write_bytes(b"no photo")
    report, bad = place.run(FIRST, retention={"nights": 9})
    assert bad is None
    return place, report


@pytest.fixture(scope="module")
def second(
    people: list[list[Path]], first: tuple[Place, dict[str, Any]]
) -> tuple[Place, dict[str, Any], Exception | None]:
    """Two new people, three new photos of old ones, a photo under a second name, one gone and one changed."""
    place, _ = first
    for photos in people[6:8]:
        place.add(photos[:2])
    for photos in people[:3]:
        place.add(photos[1:2])
    place.add(people[3][:1], person="zz-double")
    shutil.rmtree(place.album / people[5][0].parent.name)
    shutil.copy2(people[4][2], place.album / people[4][0].parent.name / people[4][0].name)
    return place, *place.run(SECOND, gates={"max_new_duplicates": 0})


Second = tuple[Place, dict[str, Any], Exception | None]


def test_the_first_night_takes_all_and_compares_with_nothing(first: tuple[Place, dict[str, Any]]) -> None:
    place, report = first
    steps = report["steps"]
    assert steps["scan"]["new"] == 7
    assert (steps["enroll"]["ok"], steps["enroll"]["reasons"]) == (6, {"unknown_format": 1})
    assert steps["differences"]["people"]["person_new"] == 6
    assert steps["differences"]["clusters"] is None
    assert "not_done" in steps["identify"]
    assert {each["verdict"] for each in steps["drift"]["measures"].values()} == {"insufficient data"}
    assert (place.night(FIRST) / "_SUCCESS").exists()
    assert "Night of 2026-11-24" in (place.night(FIRST) / "report.html").read_text()
    assert (place.night(FIRST) / "report.html").stat().st_mode & 0o077 == 0


def test_the_second_night_does_what_is_new_and_reports_the_difference(second: Second) -> None:
    _, report, _ = second
    steps = report["steps"]
    scan = {name: steps["scan"][name] for name in ("new", "changed", "vanished", "people_without_photos")}
    assert scan == {"new": 8, "changed": 1, "vanished": 1, "people_without_photos": 1}
    assert steps["enroll"]["rows"] == 9
    assert steps["consolidate"]["added"] + steps["consolidate"]["replaced"] == 9
    assert steps["differences"]["people"] == {"person_new": 3, "person_gone": 0}
    assert steps["differences"]["gallery"]["people"] == 9
    assert steps["dedup"]["since"] == FIRST
    assert steps["dedup"]["fresh_templates"] == 9
    assert steps["differences"]["clusters"] == {"cluster_new": 1, "cluster_grown": 0, "cluster_gone": 0}
    assert report["lists"]["person_new"][-1] == "zz-double"
    assert len(report["lists"]["photo_vanished"]) == len(report["lists"]["person_without_photos"]) == 1
    assert report["reasons"] == [{"reason": "unknown_format", "tonight": 0, "last": 1}]


def test_photos_are_searched_in_the_gallery_as_it_was_before_them(
    second: Second, people: list[list[Path]]
) -> None:
    place, report, _ = second
    found = report["steps"]["identify"]["gallery"]
    assert (found["gallery_version"], found["subjects"]) == (1, 6)
    known = sum(
        f"{people[n][1].parent.name}/{people[n][1].name}" in str(place.content(SECOND)) for n in range(3)
    )
    assert known == 3
    # Of people who were there: three second photos, the double, and one whose photo changed.
    assert 3 <= found["identified"] <= 5
    measures = report["steps"]["drift"]["measures"]
    assert sorted(measures) == [
        "detection_score",
        "mated_similarity",
        "no_face",
        "quality",
        "rank1_similarity_gallery",
        "rejected",
    ]
    mated = measures["mated_similarity"]["tonight"]
    # The changed photo's own old template is no other template of that person.
    assert mated["count"] == 3
    assert 0.3 < mated["median"] < 0.99


def test_a_gate_that_does_not_hold_ends_the_night_with_its_report_and_may_be_asked_anew(
    second: Second,
) -> None:
    place, report, bad = second
    assert isinstance(bad, GateError)
    assert bad.exit_code == 16
    assert [(gate["value"], gate["holds"]) for gate in report["gates"] if "new" in gate["gate"]] == [
        (1, False)
    ]
    assert (place.night(SECOND) / "_SUCCESS").exists()
    again, bad = place.run(SECOND, gates={"max_new_duplicates": 1})
    assert bad is None
    assert again["steps"] == report["steps"]
    assert json.loads((place.night(SECOND) / "report.json").read_text())["gates"] == again["gates"]


def test_the_command_prints_the_report_and_exits_by_the_gates(
    second: Second, capfd: pytest.CaptureFixture[str]
) -> None:
    place, report, _ = second
    words = [*place.words(SECOND), "--json", "--set"]
    assert _job()([*words, "gates.max_new_duplicates=0"]) == 16
    out, err = capfd.readouterr()
    assert json.loads(out)["steps"] == report["steps"]
    assert "error [gate]" in err
    assert "max_new_duplicates 0: 1" in err
    assert _job()([*words, "gates.max_new_duplicates=1"]) == 0
    assert _job()([*words, "gates.max_new_duplicate=1"]) == 2


def test_another_configuration_or_an_older_date_is_refused(second: Second) -> None:
    place, *_ = second
    with pytest.raises(OutputError, match=r"dedup\.threshold"):
        place.run(SECOND, dedup={"threshold": 0.8})
    with pytest.raises(ConfigError, match="has finished"):
        place.run("2026-11-20")


def test_a_plan_says_what_each_step_would_do_and_writes_nothing(second: Second) -> None:
    place, *_ = second
    before = sorted(path for path in place.root.rglob("*"))
    config = NightConfig.model_validate(place.settings(retention={"nights": 1}, identify={"enabled": False}))
    text = night_plan(config, THIRD).text()
    assert "0 new, 0 changed, 0 vanished" in text
    assert f"on the result of {SECOND}" in text
    assert "identify     switched off" in text
    assert sorted(path for path in place.root.rglob("*")) == before


@pytest.fixture(scope="module")
def third(
    second: Second, cluster: Cluster, people: list[list[Path]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Place, Place, list[str]]:
    """The same third night twice: undisturbed, and killed in the middle of a step and between two."""
    place, *_ = second
    for photos in people[8:9]:
        place.add(photos[:2])
    calm = Place(tmp_path_factory.mktemp("calm") / "copy")
    shutil.copytree(place.root, calm.root)
    calm.run(THIRD)
    # On the cluster the step lasts longer than the second launch.
    said = [_killed(place, cluster, _AMID), _killed(place, None, _BETWEEN)]
    report, bad = place.run(THIRD, cluster)
    assert bad is None
    assert report["cost"]["spent_s"] > 0
    return place, calm, said


def _killed(place: Place, cluster: Cluster | None, line: str) -> str:
    """Launch the job and kill it with SIGKILL once it has said this; what it has said."""
    process = place.launch(cluster, THIRD)
    assert process.stdout is not None
    heard = ""
    for each in process.stdout:
        heard += each
        if each.startswith(line):
            break
    else:
        pytest.fail(f"it ended before: {heard}")
    if line == _AMID:
        _refused(place, process.pid)
    process.kill()
    process.communicate()
    return heard


def _refused(place: Place, pid: int) -> None:
    """The same command meanwhile ends at once, says who is at it, and shows no trace."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert _job()(place.words(THIRD)) == 15
    assert f"process {pid}" in said.getvalue()
    assert "Traceback" not in said.getvalue()


def _job() -> Callable[[list[str]], int]:
    main: Callable[[list[str]], int] = runpy.run_path(str(ROOT / "jobs/nightly.py"))["main"]
    return main


def test_a_killed_night_goes_on_to_the_end_of_an_undisturbed_one(
    third: tuple[Place, Place, list[str]],
) -> None:
    place, calm, said = third
    assert "step 3 of 7, consolidate" in said[1]
    assert place.content(THIRD) == calm.content(THIRD)
    assert place.templates() == calm.templates()
    steps, expected = (
        json.loads((each.night(THIRD) / "night.json").read_text())["steps"] for each in (place, calm)
    )
    assert told(steps) == told(expected)
    assert lifecycle.verify(place.gallery) == []


def test_too_many_vanished_photos_keep_a_night_from_the_gallery_until_the_gate_is_opened(
    third: tuple[Place, Place, list[str]],
) -> None:
    _, calm, _ = third
    for folder in sorted(calm.album.iterdir())[:6]:
        shutil.rmtree(folder)
    night, next_night = "2026-11-27", "2026-11-28"
    report, bad = calm.run(night, retention={"nights": 1})
    assert isinstance(bad, GateError)
    assert "nothing of it has reached the gallery" in bad.message
    assert report["held_back"]
    assert not (calm.night(night) / "_SUCCESS").exists()
    assert not (calm.night(night) / "dedup").exists()
    assert calm.night(FIRST).exists()
    assert "kept from the gallery" in (calm.night(night) / "report.html").read_text()
    settings = {"gates": {"max_vanished_ratio": 1}, "drift": {"nights": 1, "least_values": 5}}
    opened, bad = calm.run(next_night, retention={"nights": 1}, **settings)
    assert bad is None
    # The night before has not counted, and all that is left is what the next one compares with.
    assert opened["last_night"] == THIRD
    assert opened["steps"]["scan"]["vanished"] == report["steps"]["scan"]["vanished"]
    assert [each.name for each in sorted((calm.root / "nights").glob("2*"))] == [THIRD, next_night]


def test_a_night_with_nothing_new_is_a_night(third: tuple[Place, Place, list[str]]) -> None:
    place, *_ = third
    report, bad = place.run("2026-11-29", identify={"gallery": {"threshold": 0.42}, "probes": None})
    assert bad is None
    assert report["steps"]["enroll"]["not_done"] == "no new photos"
    assert report["steps"]["dedup"]["pairs_compared"] == 0
    assert (place.night("2026-11-29") / "_SUCCESS").exists()
