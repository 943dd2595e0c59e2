"""All pairs of labelled templates: numbers that hold the exact ones, and files that no accident changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from cluster import Cluster
from dedup_runs import DIM, make_gallery, templates_of, unit_vectors
from enrollment import ROOT

from frpipe.core.errors import ConfigError
from frpipe.evaluation.evaluation import Evaluation
from frpipe.gallery.schema import vector_array
from frpipe.io.output import run
from frpipe.io.output.parts import check_part, write_part
from frpipe.io.storage.folder import Folder
from frpipe.jobs.evaluate.all_pairs.evaluation import CROSS_COHORT
from frpipe.jobs.evaluate.all_pairs.job import AllPairs
from frpipe.metrics.operating import AtTarget, EqualError
from frpipe.metrics.scores import Scores
from frpipe.metrics.verification import at_threshold, auc_exact, eer, tar_at_fmr
from frpipe.runtime.runtime import Runtime
from frpipe.testing.executors import InThisProcess

THRESHOLD, TARGET = 0.35, 0.01
PEOPLE, PART = 60, 16
SPEED = {"score": 0.9, "eye_distance_px": 30.0, "sharpness": 50.0}
HASHES = {f"frpipe.{name}_hash": name[0] * 64 for name in ("embedder", "preprocessing", "detector")}


@dataclass(frozen=True)
class Faces:
    """The subjects' faces: who, where they live, and their vectors."""

    subject: list[str]
    city: list[str | None]
    vectors: np.ndarray

    def scores(self, city: str | None = None) -> Scores:
        """Of all pairs, in float64; city: of those who both live there."""
        wide = self.vectors.astype(np.float64)
        mated: list[float] = []
        nonmated: list[float] = []
        for i, j in combinations(range(len(wide)), 2):
            if city in {None, self.city[i]} and city in {None, self.city[j]}:
                (mated if self.subject[i] == self.subject[j] else nonmated).append(float(wide[i] @ wide[j]))
        return Scores.of(mated, nonmated)


@pytest.fixture(scope="module")
def faces() -> Faces:
    rng = np.random.default_rng(0)
    number = np.repeat(np.arange(PEOPLE), rng.integers(1, 5, PEOPLE))
    rng.shuffle(number)
    vectors = unit_vectors(PEOPLE, 0)[number] + 0.2 * rng.standard_normal(
        (len(number), DIM), dtype=np.float32
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    city = ["north" if n < 20 else "south" if n < 50 else None for n in number]
    return Faces([f"p{n:02d}" for n in number], city, vectors.astype(np.float32))


@pytest.fixture(scope="module")
def features(faces: Faces, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of their photos, of ten more that failed, and of five that show nobody known."""
    folder = tmp_path_factory.mktemp("features")
    out, files = Folder.at(str(folder)), []
    run.claim(out, {"manifest": "0" * 64}, {"manifest": "m.csv", "created": "2026-01-01T00:00:00+00:00"})
    strangers = [(None, None, vector) for vector in unit_vectors(5, 9)]
    known = list(zip(faces.subject, faces.city, faces.vectors, strict=True))
    failed = [(f"p{number:02d}", "north", None) for number in range(10)]
    photos = [*known, *strangers, *failed]
    for part, start in enumerate(range(0, len(photos), PART)):
        write_part(out, part, *_tables(photos[start : start + PART], start), HASHES)
        files += check_part(out, part)[:2]
    run.seal(out, files, {"faces": sum(file.rows for file in files if file.name.startswith("faces"))}, "")
    return folder


def _tables(
    photos: list[tuple[str | None, str | None, np.ndarray | None]], start: int
) -> tuple[pa.Table, pa.Table]:
    ids = [f"photo-{start + row}" for row in range(len(photos))]
    subject, city = (pa.array([photo[place] for photo in photos], pa.string()) for place in (0, 1))
    ok = np.array([photo[2] is not None for photo in photos])
    named = pa.table({"image_id": ids, "image_uri": ids, "subject_id": subject, "city": city})
    images = {
        "status": np.where(ok, "ok", "no_face").tolist(),
        "reason": pa.nulls(len(ids), pa.string()),
        **{name: pa.array(np.where(ok, 1, 0), pa.int32()) for name in ("faces", "faces_detected")},
        **{name: pa.repeat(pa.scalar(100, pa.int32()), len(ids)) for name in ("width", "height")},
    }
    chosen, rows = named.filter(pa.array(ok)), int(ok.sum())
    numbers = {**SPEED, "box_x1": 10.0, "box_y1": 10.0, "box_x2": 90.0, "box_y2": 90.0}
    columns = {name: pa.repeat(pa.scalar(value, pa.float32()), rows) for name, value in numbers.items()}
    columns["face_id"] = pa.array([f"{name}#0" for name in chosen["image_id"].to_pylist()], pa.string())
    columns["face_index"] = pa.repeat(pa.scalar(0, pa.int32()), rows)
    columns["is_subject"] = pa.repeat(True, rows)
    vectors = [photo[2] for photo in photos if photo[2] is not None]
    columns["embedding"] = vector_array(np.array(vectors).reshape(-1, DIM))
    faces = _with(chosen, columns)
    return _with(named, images), pa.concat_tables([_bystanders(faces), faces])


def _bystanders(faces: pa.Table) -> pa.Table:
    """A small face at the edge of the first photo, which the files list first."""
    first = faces.slice(0, 1)
    if not first.num_rows:
        return first
    small = {"box_x2": pa.array([15.0], pa.float32()), "box_y2": pa.array([15.0], pa.float32())}
    other = {"face_id": pa.array(["bystander"]), "embedding": vector_array(unit_vectors(1, 3)), **small}
    other["is_subject"] = pa.array([False])
    for name, column in other.items():
        first = first.set_column(first.column_names.index(name), first.schema.field(name), column)
    return first


def _with(table: pa.Table, columns: dict[str, object]) -> pa.Table:
    for name, column in columns.items():
        table = table.append_column(name, column if isinstance(column, pa.Array) else pa.array(column))
    return table


@pytest.fixture(scope="module")
def job(features: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AllPairs:
    return AllPairs(
        str(tmp_path_factory.mktemp("result") / "R"),
        features=str(features),
        by="city",
        thresholds=(THRESHOLD, 0.0),
        targets=(TARGET, 1e-9),
        runtime=Runtime(cluster.address),
        block_rows=40,
    )


@pytest.fixture(scope="module")
def found(job: AllPairs) -> Evaluation:
    return job.run().evaluation


def _content(output: str | Path) -> dict[str, bytes]:
    """All published files of histograms and errors."""
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for sub in ("histograms", "errors")
        for path in (Path(output) / sub).iterdir()
    }


def test_rates_are_counted_and_bounds_hold_the_exact_value(faces: Faces, found: Evaluation) -> None:
    scores = faces.scores()
    for threshold in (THRESHOLD, 0.0):
        exact = at_threshold(scores, threshold)
        for measure, rate in (("FMR", exact.fmr), ("FNMR", exact.fnmr)):
            number = found.number(measure, threshold)
            assert number is not None and number.value is not None
            assert (number.count, number.trials) == (rate.count, rate.trials)
            assert number.low <= number.value <= number.high and number.level == 0.95
    equal, (at, _) = eer(scores), tar_at_fmr(scores, [TARGET, 1e-9])
    assert isinstance(equal, EqualError) and isinstance(at, AtTarget)
    held = {("AUC_exact", None): auc_exact(scores), ("EER", None): equal.value, ("TAR", TARGET): at.tar.value}
    for key, value in held.items():
        number = found.number(*key)
        assert number is not None and number.method == "bounds of binning"
        assert number.low <= value <= number.high < number.low + 0.01
    refused = found.number("TAR", 1e-9)
    assert refused is not None and refused.value is None and "insufficient" in refused.note


def test_everyone_is_accounted_for(faces: Faces, found: Evaluation) -> None:
    rows = len(faces.subject)
    assert found.counts["templates"] == rows
    assert found.counts["mated"] + found.counts["nonmated"] == rows * (rows - 1) // 2
    assert (found.counts["photos"], found.counts["photos_failed"]) == (rows + 10, 10)
    assert found.counts["left_out_no_subject"] == 5
    assert found.counts["left_out_another_face"] >= rows // PART
    fta, far, frr = (found.number(*key) for key in (("FTA",), ("FAR", THRESHOLD), ("FRR", THRESHOLD)))
    assert (fta.count, fta.trials) == (10, rows + 10)
    assert found.counts["mated_lost"] == frr.trials - found.counts["mated"]
    assert far.trials + frr.trials == (rows + 10) * (rows + 9) // 2
    assert far.count == found.number("FMR", THRESHOLD).count
    assert frr.count > found.number("FNMR", THRESHOLD).count


def test_a_cohort_is_both_sides_of_it(faces: Faces, found: Evaluation) -> None:
    own = {
        (number.group, number.measure): number
        for number in found.numbers
        if number.column == "city" and number.at in {THRESHOLD, None}
    }
    assert {group for group, _ in own} == {"north", "south", CROSS_COHORT}
    for city in ("north", "south"):
        exact, number = at_threshold(faces.scores(city), THRESHOLD), own[city, "FMR"]
        assert (number.count, number.trials) == (exact.fmr.count, exact.fmr.trials)
        assert own[city, "AUC_exact"].low <= auc_exact(faces.scores(city)) <= own[city, "AUC_exact"].high
    cities = {city: faces.city.count(city) for city in ("north", "south")}
    assert own[CROSS_COHORT, "FMR"].trials == cities["north"] * cities["south"]
    assert own[CROSS_COHORT, "FNMR"].note == "no trials"


@pytest.mark.slow
def test_neither_blocks_nor_a_kill_change_what_is_counted(
    job: AllPairs, found: Evaluation, cluster: Cluster, tmp_path: Path
) -> None:
    output, words = tmp_path / "R", {"features": job.features, "by": "city", "block_rows": 8}
    own = {"thresholds": list(job.thresholds), "targets": list(job.targets)}
    code = (
        "import json, sys; from frpipe.jobs.evaluate.all_pairs.job import AllPairs; "
        "words = json.loads(sys.argv[1]); "
        "words |= {name: tuple(words[name]) for name in ('thresholds', 'targets')}; AllPairs(**words).run()"
    )
    command = [sys.executable, "-c", code, json.dumps({"output": str(output), **words, **own})]
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "RAY_ADDRESS": cluster.address}, stderr=subprocess.DEVNULL
    ) as driver:
        while driver.poll() is None and not any((output / "histograms").glob("part-*")):
            time.sleep(0.02)
        driver.send_signal(signal.SIGKILL)
    again = replace(job, output=str(output), block_rows=40).run().evaluation
    assert json.loads((output / "run.json").read_text())["block_rows"] == 8
    assert len(_content(output)) > 2 * len(_content(job.output))
    assert again.counts == found.counts
    for one, other in zip(again.numbers, found.numbers, strict=True):
        assert (one.measure, one.group, one.count, one.value) == (
            other.measure,
            other.group,
            other.count,
            pytest.approx(other.value, abs=1e-3),
        )


def test_a_gallery_is_compared_at_its_version(faces: Faces, tmp_path: Path) -> None:
    table = templates_of([f"{name}-{n}" for n, name in enumerate(faces.subject)], faces.vectors)
    table = table.set_column(table.column_names.index("subject_id"), "subject_id", pa.array(faces.subject))
    table = table.append_column("city", pa.array(faces.city, pa.string()))
    make_gallery(tmp_path / "G", [table])
    words = {"gallery": str(tmp_path / "G"), "by": "city", "thresholds": (THRESHOLD,), "block_rows": 60}
    found = AllPairs(str(tmp_path / "R"), runtime=InThisProcess(), **words).run().evaluation
    exact, number = at_threshold(faces.scores(), THRESHOLD), found.number("FMR", THRESHOLD)
    assert number is not None and (number.count, number.trials) == (exact.fmr.count, exact.fmr.trials)
    assert found.provenance["version"] == 1
    assert found.number("FTA") is None and any("no FTA" in line for line in found.warnings)
    with pytest.raises(ConfigError, match="no template has"):
        AllPairs(str(tmp_path / "S"), **{**words, "by": "town"}).run()


def test_what_cannot_be_done_is_refused_before_anything_is_written(
    features: Path, job: AllPairs, tmp_path: Path
) -> None:
    new = replace(job, output=str(tmp_path / "R"))
    with pytest.raises(ConfigError, match="no column"):
        replace(new, by="town").run()
    with pytest.raises(ConfigError, match="either"):
        replace(new, gallery="G").run()
    with pytest.raises(ConfigError, match="similarity"):
        replace(new, thresholds=(1.5,)).run()
    with pytest.raises(ConfigError, match="cohorts"):
        replace(new, by="subject_id").run()
    assert "units" in new.dry_run().text()
    assert not (tmp_path / "R").exists()
