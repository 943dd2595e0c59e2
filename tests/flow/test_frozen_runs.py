"""What the code of schema version 1 and algorithm 1 left behind is finished, done again and gone on from."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import frozen
import pytest
import ray
from cluster import Cluster
from enrollment import job_here
from frozen import NIGHTS, THRESHOLD, Frozen, holds, same_keys

from frpipe.cli.main import script
from frpipe.core.config import load_config
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.dedup.job import Dedup
from frpipe.jobs.features import stored_settings
from frpipe.jobs.identify.job import Identifying
from frpipe.jobs.rejects import Choice
from frpipe.jobs.replay.job import Replay
from frpipe.testing.executors import InThisProcess

# Numbers of the same model on another machine.
NEAR = 1e-3


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    return frozen.expected()


@pytest.fixture(scope="module")
def home(cluster: Cluster) -> Iterator[Frozen]:
    """All frozen files where they were made, and a cluster that knows their models."""
    with frozen.at_home() as found:
        ray.init(
            address=cluster.address,
            runtime_env={"env_vars": found.environment},
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
        try:
            yield found
        finally:
            ray.shutdown()


@pytest.fixture(scope="module")
def finished(home: Frozen) -> str:
    """The half output, finished by the command that it was begun with; what was said."""
    words = ["--manifest", str(home / "photos.csv"), "--output", str(home / "enroll-half")]
    words += [word for setting in frozen.settings() for word in ("--set", setting)]
    before = (home / "enroll-half/images/part-000000.parquet").read_bytes()
    enroll: Callable[[list[str]], int] = script("enroll")
    assert enroll(words) == 0
    assert (home / "enroll-half/images/part-000000.parquet").read_bytes() == before
    return json.dumps(json.loads((home / "enroll-half/report.json").read_text()))


def test_the_same_command_finishes_a_half_output(home: Frozen, finished: str, known: dict[str, Any]) -> None:
    found, wanted = frozen.enrolled(home / "enroll-half"), known["runs"]["enroll-finished"]
    holds(found, wanted, NEAR)
    same_keys(found, wanted)
    report = json.loads(finished)
    assert (report["rows"], report["launch_rows"], report["parts"]) == (11, 7, 3)
    identity = json.loads((home / "enroll-half/run.json").read_text())["identity"]
    assert identity == known["identity"]["enroll-half"]
    assert frozen.metadata(home / "enroll-half") == known["metadata"]


def test_every_row_of_a_finished_output_bears_the_same_hashes(
    home: Frozen, finished: str, known: dict[str, Any]
) -> None:
    """Those of parts that were done before it was cut short, and of parts done since."""
    rows = frozen.enrolled(home / "enroll-half")["faces"].values()
    for name in ("detector_hash", "embedder_hash", "preprocessing_hash"):
        assert {row[name] for row in rows} == {known["metadata"][f"frpipe.{name}"]}


def test_its_rejected_rows_are_done_again(home: Frozen, finished: str, known: dict[str, Any]) -> None:
    """After the half output was finished: the photos are mended for it."""
    source, output = str(home / "enroll-finished"), home / "enroll-finished-replay"
    replay = Replay(source, Choice.of(), str(output), load_config(None, stored_settings(source)))
    assert "again     2 of 11 photos" in replay.dry_run().text()
    assert not output.exists()
    for photo in (home / "mended").iterdir():
        shutil.copy(photo, home / "photos" / photo.name)
    assert replay.run().rejected == 0
    found, wanted = frozen.enrolled(output), known["runs"]["enroll-finished"]
    assert {found["images"][name]["status"] for name in ("r-07", "r-09")} == {"ok"}
    kept = {name: row for name, row in wanted["images"].items() if row["status"] != "rejected"}
    holds(found["images"], kept)
    holds(found["faces"], wanted["faces"])
    assert found["faces"].keys() - wanted["faces"].keys() == {"r-07#0", "r-09#0"}
    assert frozen.metadata(output) == known["metadata"]


def test_new_searches_of_a_frozen_gallery_find_what_the_old_ones_found(
    home: Frozen, known: dict[str, Any]
) -> None:
    plain, probes = str(home / "gallery-plain"), str(home / "enroll-probes")
    secret = str(home / "gallery-encrypted")
    how: dict[str, Any] = {"threshold": THRESHOLD, "runtime": InThisProcess()}
    Identifying(probes, plain, str(home / "identify-again"), version=2, **how).run()
    holds(frozen.identified(home / "identify-again"), known["identify"])
    Identifying(probes, secret, str(home / "identify-secret"), version=1, **how).run()
    found, wanted = frozen.identified(home / "identify-secret"), known["identify"]
    assert {name: row["decision"] for name, row in found.items()} == {
        name: row["decision"] for name, row in wanted.items()
    }


def test_the_duplicates_of_a_gallery_that_has_grown_are_carried_on(
    home: Frozen, known: dict[str, Any]
) -> None:
    shutil.copytree(home / "gallery-plain", home / "grown")
    grown = str(home / "grown")
    assert Consolidation(str(home / "enroll-probes"), grown, policy="append").run().version == 3
    how: dict[str, Any] = {"gallery": grown, "threshold": THRESHOLD, "runtime": InThisProcess()}
    report = Dedup(str(home / "dedup-since"), since=str(home / "dedup"), **how).run()
    Dedup(str(home / "dedup-anew"), **how).run()
    assert report["carried_pairs"] == len(known["dedup"]["pairs"]) == 2
    found = frozen.duplicates(home / "dedup-since")
    holds(found, known["dedup"])
    holds(found, frozen.duplicates(home / "dedup-anew"))


def test_the_night_that_was_cut_short_is_finished_and_the_next_one_goes_on_from_it(
    home: Frozen, known: dict[str, Any]
) -> None:
    part = home / "nights" / NIGHTS[1] / "enroll/images/part-000000.parquet"
    before = part.read_bytes()
    _night(home, NIGHTS[1])
    assert part.read_bytes() == before
    _same_night(home, NIGHTS[1], known)
    home.third_night()
    _night(home, NIGHTS[2])
    _same_night(home, NIGHTS[2], known)
    _same_night(home, NIGHTS[0], known)
    people = frozen.gallery(home / "people.gallery")
    holds(people, known["nights"]["people"], NEAR)
    assert people["templates"].keys() == known["nights"]["people"]["templates"].keys()


def _same_night(home: Frozen, date: str, known: dict[str, Any]) -> None:
    found, wanted = frozen.night(home / "nights" / date), known["nights"][date]
    holds(found, wanted, NEAR, date)
    same_keys(found["enroll"], wanted["enroll"])


def _night(home: Frozen, date: str) -> None:
    done = job_here("nightly", "--config", home / "night.yaml", "--date", date)
    assert done.returncode == 0, done.stderr
