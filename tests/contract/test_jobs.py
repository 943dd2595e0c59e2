"""The kit for bulk jobs, on every job of frpipe and on that of the example package."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import frozen
import installed
import pytest
from frozen import THRESHOLD, Frozen

from frpipe.core.config import load_config
from frpipe.core.errors import OutputError
from frpipe.io.output import run
from frpipe.jobs.check.job import Check
from frpipe.jobs.contract import Say, carry_out
from frpipe.jobs.dedup.job import Dedup, DedupExecution
from frpipe.jobs.enroll.job import Enrollment
from frpipe.jobs.evaluate import output
from frpipe.jobs.evaluate.all_pairs.job import AllPairs
from frpipe.jobs.evaluate.job import Asked, IdentificationMetrics, VerificationMetrics
from frpipe.jobs.evaluate.pair_results import PairColumns
from frpipe.jobs.features import stored_settings
from frpipe.jobs.identify.job import Identifying, SearchExecution
from frpipe.jobs.rejects import Choice
from frpipe.jobs.replay.job import Replay
from frpipe.jobs.verify import job as verify
from frpipe.jobs.verify.job import PairVerification
from frpipe.runtime.runtime import Runtime
from frpipe.stages import workers
from frpipe.testing.executors import InThisProcess
from frpipe.testing.job_kit import Done, JobKit, Make
from frpipe.testing.kills import Killed, at_change

sys.path.append(str(installed.EXAMPLE))

from frpipe_faces_per_subject.job import FacesPerSubject

ELSEWHERE = THRESHOLD - 0.1
JobKit.most_signals = int(os.environ.get("SIGNALS_A_JOB", JobKit.most_signals))


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    """Eleven photos and what came of them; units are small, and nothing is drawn, which takes seconds."""
    with (
        frozen.copied(tmp_path_factory.mktemp("frozen") / "copy") as found,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(output, "figures", lambda _: [])
        patch.setattr(verify, "UNIT_PAIRS", 2)
        patch.setattr(os, "fsync", lambda _: None)
        yield found


@pytest.fixture(scope="class")
def nobody_is_suspected() -> Iterator[None]:
    """No photo costs a worker here: to try photos one by one takes a part that is done again minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "find_poison", _suspected)
        yield


@pytest.mark.usefixtures("nobody_is_suspected")
class TestEnroll(JobKit):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, home: Frozen) -> Make:
        return cls.asked(home)

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, home: Frozen) -> Make:
        return cls.asked(home, "detect.policy=largest")

    @staticmethod
    def asked(home: Frozen, *settings: str) -> Make:
        config = load_config(None, [*frozen.settings(), *settings])
        return lambda out, runtime, say: Enrollment(str(home / "photos.csv"), out, config, runtime, say)

    @pytest.mark.parametrize(
        ("name", "change"), [("flip", "embed.flip=true"), ("scaled", "decode.scaled=false")]
    )
    def test_another_recipe_is_another_run(self, home: Frozen, whole: Done, name: str, change: str) -> None:
        other = self.asked(home, change)
        with pytest.raises(OutputError, match=rf"other settings: recipe.*{name}"):
            carry_out(other(whole.folder.uri, InThisProcess(), print))

    def test_another_manifest_is_another_run(self, home: Frozen, whole: Done) -> None:
        job = Enrollment(str(home / "probes.csv"), whole.folder.uri, load_config(None, frozen.settings()))
        with pytest.raises(OutputError, match="other settings: manifest"):
            carry_out(job)


@pytest.mark.usefixtures("nobody_is_suspected")
class TestReplay(JobKit):
    @pytest.fixture(scope="class")
    @classmethod
    def source(cls, home: Frozen, tmp_path_factory: pytest.TempPathFactory) -> str:
        """A run of this copy's photos: those of the frozen run are wanted where it was made."""
        out = str(tmp_path_factory.mktemp("source") / "out")
        config = load_config(None, frozen.settings())
        carry_out(Enrollment(str(home / "photos.csv"), out, config, InThisProcess()))
        return out

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, source: str) -> Make:
        return cls.asked(source)

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, source: str) -> Make:
        return cls.asked(source, "decode.max_pixels=1000000")

    @staticmethod
    def asked(source: str, *settings: str) -> Make:
        config = load_config(None, [*stored_settings(source), *settings])
        return lambda out, runtime, say: Replay(source, Choice.again(), out, config, runtime, say)


class TestIdentify(JobKit):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, home: Frozen) -> Make:
        return cls.asked(home, THRESHOLD)

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, home: Frozen) -> Make:
        return cls.asked(home, ELSEWHERE)

    @staticmethod
    def asked(home: Frozen, threshold: float) -> Make:
        how = SearchExecution(probe_rows=1)
        probes, gallery = str(home / "enroll-finished"), str(home / "gallery-plain")
        return lambda out, runtime, say: Identifying(
            probes, gallery, out, threshold=threshold, execution=how, runtime=runtime, say=say
        )


class TestVerify(JobKit):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, home: Frozen) -> Make:
        return cls.asked(home, THRESHOLD)

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, home: Frozen) -> Make:
        return cls.asked(home, ELSEWHERE)

    @staticmethod
    def asked(home: Frozen, threshold: float) -> Make:
        pairs, features = str(home / "pairs.csv"), str(home / "enroll-finished")
        return lambda out, _, say: PairVerification(pairs, features, out, threshold=threshold, say=say)


class DedupKit(JobKit):
    """Override `source`."""

    most_kills = 4

    @pytest.fixture(scope="class")
    @classmethod
    def source(cls, home: Frozen) -> dict[str, Any]:
        """What is searched."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, source: dict[str, Any]) -> Make:
        return cls.asked(source, THRESHOLD)

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, source: dict[str, Any]) -> Make:
        return cls.asked(source, ELSEWHERE)

    @staticmethod
    def asked(source: dict[str, Any], threshold: float) -> Make:
        how = DedupExecution(block_rows=3)
        return lambda out, runtime, say: Dedup(
            out, threshold=threshold, execution=how, runtime=runtime, say=say, **source
        )


class TestDedupOfAGallery(DedupKit):
    @pytest.fixture(scope="class")
    @classmethod
    def source(cls, home: Frozen) -> dict[str, Any]:
        return {"gallery": str(home / "gallery-plain")}


class TestDedupOfFeatures(DedupKit):
    @pytest.fixture(scope="class")
    @classmethod
    def source(cls, home: Frozen) -> dict[str, Any]:
        return {"features": str(home / "enroll-finished")}


class TestDedupSinceAnotherNight(DedupKit):
    @pytest.fixture(scope="class")
    @classmethod
    def source(cls, home: Frozen) -> dict[str, Any]:
        gallery, before = str(home / "gallery-encrypted"), str(home / "before")
        Dedup(before, gallery=gallery, version=1, threshold=THRESHOLD, runtime=InThisProcess()).run()
        return {"gallery": gallery, "since": before}

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, source: dict[str, Any]) -> Make:
        return cls.asked({"gallery": source["gallery"]}, THRESHOLD)


class TestAllPairs(JobKit):
    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, home: Frozen) -> Make:
        return cls.asked(home, THRESHOLD)

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, home: Frozen) -> Make:
        return cls.asked(home, ELSEWHERE)

    @staticmethod
    def asked(home: Frozen, threshold: float) -> Make:
        features = str(home / "enroll-finished")
        return lambda out, runtime, say: AllPairs(
            out, features=features, thresholds=(threshold,), block_rows=4, runtime=runtime, say=say
        )

    def test_of_two_first_launches_the_second_takes_the_blocks_of_the_first(
        self, make: Make, whole: Done, tmp_path: Path
    ) -> None:
        rival: Any = make(str(tmp_path / "out"), InThisProcess(), lambda _: None)
        other = replace(rival, block_rows=3)
        plan, place = other.plan(rival.place()), rival.place()
        first = rival.plan(place)
        facts = run.claim(place, first.identity, first.facts())
        plan.claimed(place, facts)
        assert plan.units == first.units and plan.source.block_rows == 4
        assert carry_out(other).as_dict()["numbers"] == whole.result.as_dict()["numbers"]

    def test_other_targets_are_reported_anew_from_the_same_units(
        self, make: Make, whole: Done, tmp_path: Path
    ) -> None:
        """Killed at any change of that, too, the output is whole or not marked as complete."""

        def asked(out: Path, *targets: float) -> Any:
            job: Any = make(str(out), InThisProcess(), said.append)
            return replace(job, targets=targets)

        said: list[str] = []
        fresh = carry_out(asked(tmp_path / "fresh", 0.1)).as_dict()
        with at_change(None) as changes:
            carry_out(asked(Path(shutil.copytree(whole.folder.uri, tmp_path / "count")), 0.1))
        assert any("written anew" in line for line in said)
        for moment in range(1, changes[0] + 1, 3):
            out = Path(shutil.copytree(whole.folder.uri, tmp_path / str(moment)))
            units = {path: path.stat().st_mtime_ns for path in out.glob("*/part-*.parquet")}
            with at_change(moment), pytest.raises(Killed):
                carry_out(asked(out, 0.1))
            if (out / "_SUCCESS").exists():
                assert Check(str(out)).run()[0].whole
            found = carry_out(asked(out, 0.1)).as_dict()
            assert found["numbers"] == fresh["numbers"]
            assert json.loads((out / "report.json").read_text())["numbers"] == fresh["numbers"]
            assert {path: path.stat().st_mtime_ns for path in units} == units
            assert Check(str(out)).run()[0].whole


class TestVerificationMetrics(JobKit):
    most_kills = 3

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, home: Frozen) -> Make:
        result, pairs = str(home / "verified"), home / "mated.csv"
        pairs.write_text("a,b,mated\nr-01,r-02,true\nr-03,r-05,true\nr-01,r-03,false\nr-06,r-08,false\n")
        PairVerification(str(pairs), str(home / "enroll-finished"), result, threshold=THRESHOLD).run()
        return lambda out, _, say: VerificationMetrics(Asked([result], out), PairColumns(), say=say)

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, make: Make) -> Make:
        return _titled(make)


class TestIdentificationMetrics(JobKit):
    most_kills = 3

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, home: Frozen) -> Make:
        result = str(home / "identified")
        probes, gallery = str(home / "enroll-probes"), str(home / "gallery-plain")
        Identifying(probes, gallery, result, threshold=THRESHOLD, runtime=InThisProcess()).run()
        return lambda out, _, say: IdentificationMetrics(Asked([result], out), say=say)

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, make: Make) -> Make:
        return _titled(make)


class TestFacesPerSubject(JobKit):
    """A job that is no part of frpipe."""

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, home: Frozen) -> Make:
        return lambda out, runtime, say: FacesPerSubject(str(home / "enroll-finished"), out, runtime, say)

    @pytest.fixture(scope="class")
    @classmethod
    def other(cls, home: Frozen) -> Make:
        return lambda out, runtime, say: FacesPerSubject(str(home / "enroll-probes"), out, runtime, say)


def _suspected(*_: object) -> Any:
    raise AssertionError("photos are tried one by one, and no worker has died")


def _titled(make: Make) -> Make:
    """The same evaluation with a title of its own."""

    def made(out: str, runtime: Runtime, say: Say) -> Any:
        job: Any = make(out, runtime, say)
        return replace(job, asked=replace(job.asked, title="another"))

    return made
