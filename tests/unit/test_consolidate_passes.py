"""A consolidation in passes gives the gallery that one at once gives, whatever the passes and workers are."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from album_runs import Shot, enrolled, face
from gallery_rows import spec

from frpipe.cli.jobs.consolidate import main
from frpipe.core.errors import FrpipeError, GalleryError
from frpipe.gallery import lifecycle
from frpipe.gallery.catalog import LogEntry
from frpipe.gallery.external_sort import SPARE_BYTES, ExternalSort, bounds_of
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.packed import hashes
from frpipe.gallery.schema import EMBEDDING, FACE_ID, SUBJECT_ID, vector_array
from frpipe.gallery.snapshot import Snapshot
from frpipe.io.output.features import Features
from frpipe.jobs.consolidate import passes as passes_module
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.consolidate.result import Consolidated
from frpipe.jobs.consolidate.room import PassPlan, Room, default_limit
from frpipe.jobs.consolidate.survey import Survey
from frpipe.jobs.face_gate import GATED, FaceGate
from frpipe.runtime.allocation import Node
from frpipe.runtime.runtime import Runtime
from frpipe.testing.executors import InThisProcess

PEOPLE = 20
LITTLE = 3000
"""Bytes: less than a quarter of what the faces of `album` take."""


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of the same album: of the second some photos are others, and one has no face any more."""
    root = tmp_path_factory.mktemp("album")
    shots = {
        f"{person}/{photo}.jpg": Shot(
            f"person-{person}", [face(person), face(1000 + photo)][: 1 + (person + photo) % 2]
        )
        for person in range(PEOPLE)
        for photo in range(1 + person % 4)
    }
    shots["stranger.jpg"] = Shot(None, [face(77)])
    enrolled(root / "first", shots)
    for name in ("4/0.jpg", "9/0.jpg", "13/1.jpg"):
        shots[name] = replace(shots[name], faces=[face(500)])
    shots["8/0.jpg"] = Shot.empty("person-8")
    shots["10/0.jpg"] = replace(shots["10/0.jpg"], subject="person-11")
    enrolled(root / "second", shots, day=2)
    return root


def _gallery(home: Path, name: str) -> str:
    return Gallery.create(str(home / name), spec(rows_per_shard=6)).uri


def _shards(uri: str) -> list[list[dict[str, Any]]]:
    """All rows, shard by shard, in the order of the version."""
    snapshot: Snapshot = Gallery.open(uri).snapshot()
    return [snapshot.table_of(ref, vectors=True).to_pylist() for ref in snapshot.version.shards]


def _entry(uri: str) -> LogEntry:
    return Gallery.open(uri).log()[-1]


def _told(done: Consolidated) -> dict[str, Any]:
    return {name: value for name, value in done.as_dict().items() if name not in {"gallery", "plan"}}


def _both(home: Path, album: Path, ways: dict[str, Any], **how: Any) -> tuple[Consolidated, Consolidated]:
    """Put both runs into a gallery at once, and into another in passes: the same, and so said."""
    found = []
    uris = [_gallery(home, name) for name in ("at-once", "passes")]
    for run in ("first", "second"):
        found = [
            Consolidation(str(album / run), uri, threshold=0.4, **how, **way).run()
            for uri, way in zip(uris, ({}, ways), strict=True)
        ]
        assert _told(found[0]) == _told(found[1])
        assert _shards(uris[0]) == _shards(uris[1])
        assert _entry(uris[0]).counts == _entry(uris[1]).counts
    assert len(_shards(uris[0])) > 3
    return found[0], found[1]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"policy": "append"},
        {"policy": "replace", "same_photos": True},
        {"policy": "append", "templates": "mean"},
        {"policy": "append", "templates": "medoid", "subject_face": "agreeing"},
        {"policy": "append", "subject_face": "agreeing"},
    ],
    ids=lambda how: " ".join(map(str, how.values())) or "skip",
)
def test_passes_give_the_shards_of_one(tmp_path: Path, album: Path, how: dict[str, Any]) -> None:
    _, done = _both(tmp_path, album, {"scratch_bytes": LITTLE}, **how)
    assert done.plan is not None
    assert done.plan.passes > 2
    assert done.plan.scratch_bytes <= done.plan.limit_bytes or done.plan.passes > 3


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_shards_of_one(tmp_path: Path, album: Path, workers: int) -> None:
    there = {"runtime": InThisProcess(choice="local"), "workers": workers}
    _both(tmp_path, album, there, policy="append", subject_face="agreeing")


def test_forked_workers_give_the_shards_of_one(tmp_path: Path, album: Path) -> None:
    there = {"runtime": Runtime(choice="local"), "scratch_bytes": LITTLE}
    _, done = _both(tmp_path, album, there, policy="append")
    assert done.plan is not None
    assert done.plan.passes > 1


def test_what_is_told_of_faces_is_the_same(tmp_path: Path, album: Path) -> None:
    def told(name: str, **ways: Any) -> list[pa.Table]:
        tables: list[pa.Table] = []
        uri = _gallery(tmp_path, name)
        job = Consolidation(
            str(album / "second"), uri, subject_face="agreeing", differences_to=tables.append, **ways
        )
        dry = job.dry_run()
        before = pa.concat_tables(tables).sort_by("face_id") if tables else None
        tables.clear()
        done = job.run()
        assert dry.agreement == done.agreement
        return [before, *(pa.concat_tables(tables).sort_by("face_id") for _ in tables[:1])]

    assert told("once") == told("passes", scratch_bytes=LITTLE)


def test_parts_of_faces_that_are_all_kept_out_are_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def marked(_: FaceGate, templates: pa.Table, __: pa.Table) -> pa.Table:
        reason = json.dumps(["pose_yaw_deg", 60.0, 40.0])
        why = [reason if "3" <= name[0] < "8" else None for name in templates[FACE_ID].to_pylist()]
        return templates.append_column(GATED, pa.array(why, pa.string()))

    monkeypatch.setattr(FaceGate, "check", lambda *_: None)
    monkeypatch.setattr(FaceGate, "marked", marked)
    # A part is of three photos: the second one has nobody whom the gate lets in, the third has some.
    out = enrolled(tmp_path / "run", {f"{n}.jpg": Shot(f"p{n}", [face(n)]) for n in range(10)})
    gate, tables = FaceGate({"max_yaw_deg": 40.0}), list[pa.Table]()
    once = Consolidation(out, _gallery(tmp_path, "once"), gate=gate).run()
    job = Consolidation(out, _gallery(tmp_path, "passes"), gate=gate, scratch_bytes=1, gated_to=tables.append)
    done = job.run()
    assert _told(done) == _told(once)
    assert sum(table.num_rows for table in tables) == 5 == done.left_out["gate"]


def test_no_pass_puts_aside_more_than_its_share(
    tmp_path: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside: list[int] = []
    taken = ExternalSort.take

    def take(spill: ExternalSort, tables: Iterator[pa.Table]) -> None:
        taken(spill, tables)
        aside.append(spill.rows)

    monkeypatch.setattr(ExternalSort, "take", take)
    Consolidation(str(album / "first"), _gallery(tmp_path, "once")).run()
    (all_rows,) = aside
    aside.clear()
    Consolidation(str(album / "first"), _gallery(tmp_path, "passes"), scratch_bytes=LITTLE).run()
    assert sum(aside) == all_rows
    assert max(aside) < all_rows / 2


def test_a_run_that_begins_with_photos_of_nobody_keeps_to_the_limit_too(tmp_path: Path) -> None:
    shots = {f"{n:02d}.jpg": Shot(f"p{n}" if n >= 3 else None, [face(n)]) for n in range(20)}
    run, uri = enrolled(tmp_path / "run", shots), _gallery(tmp_path, "g")
    # A little more than the vectors alone.
    done = Consolidation(run, uri, scratch_bytes=len(shots) * 4 * len(face(0)) + 10).run()
    assert done.plan is not None
    assert done.plan.passes > 1


def test_a_pass_reads_the_vectors_of_parts_that_have_its_people_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Photos lie person by person, so that a part of three has one or two people.
    shots = {f"{p:02d}/{n}.jpg": Shot(f"p{p}", [face(p)]) for p in range(12) for n in range(3)}
    out = enrolled(tmp_path / "run", shots)
    whole: Counter[int] = Counter()
    faces = Features.faces

    def counting(self: Features, part: int, columns: Any = None) -> pa.Table:
        if columns is None:
            whole[part] += 1
        return faces(self, part, columns)

    monkeypatch.setattr(Features, "faces", counting)
    done = Consolidation(out, _gallery(tmp_path, "g"), scratch_bytes=LITTLE // 2).run()
    assert done.plan is not None
    assert done.plan.passes >= 3
    # One person a part: once each, and the first once more for the names of the columns.
    assert max(whole.values()) <= 3
    assert sum(whole.values()) <= len(shots) // 3 + 2


def test_what_breaks_off_in_a_pass_leaves_nothing_and_is_done_whole_the_next_time(
    tmp_path: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, expected = _gallery(tmp_path, "g"), _gallery(tmp_path, "at-once")
    enroll_pass, calls = passes_module.enroll_pass, list[int]()

    def broken(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return enroll_pass(*given)

    job = Consolidation(str(album / "first"), uri, scratch_bytes=LITTLE)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(passes_module, "enroll_pass", broken)
        job.run()
    assert Gallery.open(uri).snapshot().number == 0
    assert not list(Path(uri).rglob("*.h5"))
    job.run()
    Consolidation(str(album / "first"), expected).run()
    assert _shards(uri) == _shards(expected)
    assert job.run().version == 1


def test_a_worker_that_is_killed_is_replaced_and_its_pass_done_again(
    tmp_path: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, enroll_pass = tmp_path / "killed", passes_module.enroll_pass

    def killed(*given: Any) -> Any:
        done = enroll_pass(*given)
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    monkeypatch.setattr(passes_module, "enroll_pass", killed)
    uri, expected = _gallery(tmp_path, "g"), _gallery(tmp_path, "at-once")
    Consolidation(str(album / "first"), uri, runtime=Runtime(choice="local"), workers=2).run()
    assert mark.exists()
    Consolidation(str(album / "first"), expected).run()
    assert _shards(uri) == _shards(expected)


def test_who_writes_meanwhile_loses_nothing(
    tmp_path: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, enroll_pass, calls = _gallery(tmp_path, "g"), passes_module.enroll_pass, list[int]()
    Consolidation(str(album / "first"), uri).run()
    expected = _gallery(tmp_path, "expected")
    Consolidation(str(album / "first"), expected).run()
    others = ["person-3", "person-5"]

    def racing(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            lifecycle.delete(Gallery.open(uri), others)
        return enroll_pass(*given)

    monkeypatch.setattr(passes_module, "enroll_pass", racing)
    lifecycle.delete(Gallery.open(expected), others)
    job = Consolidation(str(album / "second"), uri, "append", scratch_bytes=LITTLE)
    done = job.run()
    whole = Consolidation(str(album / "second"), expected, "append").run()
    assert (done.added, done.replaced, done.version) == (whole.added, whole.replaced, 3)
    assert _shards(uri) == _shards(expected)
    named = {ref.name for ref in Gallery.open(uri).snapshot().version.shards}
    named |= {ref.name for ref in Gallery.open(uri).snapshot(1).version.shards}
    assert {f"shards/{file.name}" for file in Path(uri).rglob("*.h5")} == named


def test_a_compaction_while_a_pass_opens_its_version_is_no_error(
    tmp_path: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, snapshot, purged = _gallery(tmp_path, "g"), Gallery.snapshot, list[int]()
    Consolidation(str(album / "first"), uri).run()
    lifecycle.delete(Gallery.open(uri), ["person-3"])

    def late(gallery: Gallery, version: int | None = None, commit: str | None = None) -> Snapshot:
        if version is not None and not purged:
            purged.append(version)
            lifecycle.compact(Gallery.open(uri))
        return snapshot(gallery, version, commit)

    monkeypatch.setattr(Gallery, "snapshot", late)
    done = Consolidation(str(album / "first"), uri, "append", scratch_bytes=LITTLE).run()
    assert purged == [2]
    assert done.version == 3
    assert done.added == 0


@pytest.mark.parametrize("ways", [{}, {"runtime": InThisProcess(choice="local")}], ids=["here", "spread"])
def test_a_refusal_leaves_no_shard(tmp_path: Path, album: Path, ways: dict[str, Any]) -> None:
    uri = _gallery(tmp_path, "g")
    job = Consolidation(str(album / "second"), uri, strict=True, threshold=0.9, scratch_bytes=LITTLE, **ways)
    with pytest.raises(GalleryError, match="do not fit"):
        job.run()
    assert not list(Path(uri).rglob("*.h5"))


def test_a_run_that_changes_between_passes_is_refused(
    tmp_path: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = _gallery(tmp_path, "g")
    people = Consolidation.templates_of_people

    def fewer(*given: Any) -> Iterator[pa.Table]:
        return (table.slice(1) for table in people(*given))

    monkeypatch.setattr(Consolidation, "templates_of_people", fewer)
    with pytest.raises(FrpipeError, match="announced"):
        Consolidation(str(album / "first"), uri, scratch_bytes=LITTLE).run()
    assert Gallery.open(uri).snapshot().number == 0
    assert not list(Path(uri).rglob("*.h5"))


def test_a_dry_run_says_passes_disk_and_memory(
    tmp_path: Path, album: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = _gallery(tmp_path, "g")
    asked = ["--features", str(album / "first"), "--gallery", uri, "--dry-run"]
    assert main([*asked, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert (plan["passes"], plan["workers"]) == (1, 1)
    assert 0 < plan["scratch_bytes"] < plan["limit_bytes"]
    assert main([*asked, "--scratch-gb", "0.000003"]) == 0
    told = capsys.readouterr().out
    assert "GB of memory" in told
    assert "one after the other" in told
    assert Gallery.open(uri).snapshot().number == 0


def test_a_limit_that_is_not_kept_to_is_said() -> None:
    kept = PassPlan(4, 1, 2_000_000, 2_500_000, 2 * 10**9)
    assert "2.0 MB of temporary files (at most 2.5 MB on a machine)" in kept.line()
    assert "(more than the limit, 1.0 MB: a shard, or" in replace(kept, limit_bytes=10**6).line()


@pytest.mark.parametrize("bucket_rows", [4, 100], ids=["buckets-in-a-bin", "bins-in-a-bucket"])
@pytest.mark.parametrize("share", [0.16, 0.3])
def test_no_pass_has_more_than_is_said_where_one_person_has_many_faces(
    bucket_rows: int, share: float
) -> None:
    """Cuts fall beside the person, or the plan counts all of their faces on both sides."""
    rows, mine = 20_000, int(20_000 * share)
    for name in (f"heavy{number}" for number in range(6)):
        names = [*(f"s{number}" for number in range(rows - mine)), *[name] * mine]
        table = {SUBJECT_ID: names, EMBEDDING: vector_array(np.zeros((rows, 1), np.float32))}
        survey = Survey(8, 4, grouped=False)
        survey.take(0, pa.table(table))
        limit, each = survey.bytes // 5, survey.bytes / rows
        ranges, largest = survey.ranges(rows, bucket_rows, limit)
        edges = [bounds_of(first, rows // bucket_rows)[0] for first, _ in ranges]
        taken = np.searchsorted(np.array(edges, np.uint64), hashes(pa.array(names)), "right")
        assert np.bincount(taken).max() * each <= largest + 1
        assert largest <= limit or share > 0.2
        assert len(ranges) <= 10


def test_ranges_keep_to_the_limit_and_leave_out_nobody() -> None:
    rng = np.random.default_rng(4)
    survey = Survey(8, 4, grouped=False)
    for part in range(40):
        names = [f"s{number}" for number in rng.integers(0, 3000, 200)]
        rows = {SUBJECT_ID: names, EMBEDDING: vector_array(np.zeros((200, 1), np.float32))}
        survey.take(part, pa.table(rows))
    for share in (1, 3, 16, 1000):
        most = survey.bytes // share + 1
        ranges, largest = survey.ranges(survey.rows, 100, most)
        assert [start for start, _ in ranges] == [0, *(end for _, end in ranges[:-1])]
        assert ranges[-1][1] == survey.rows // 100
        assert len(ranges) <= 1.5 * share or len(ranges) == 80
        assert largest <= most or len(ranges) == 80
    assert len(survey.ranges(survey.rows, 100, survey.bytes, 7)[0]) == 7
    parts = {
        part for low in range(0, 1 << 64, 1 << 60) for part in survey.range_of(low, low + (1 << 60)).parts
    }
    assert parts == {*range(40)}


def test_a_small_disk_is_sorted_on_in_passes_that_leave_it_what_a_sort_must(
    tmp_path: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SPARE_BYTES + LITTLE
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    done = Consolidation(str(album / "first"), _gallery(tmp_path, "g")).run()
    assert done.plan is not None
    assert done.plan.passes > 2
    assert default_limit() == LITTLE
    free = SPARE_BYTES // 2
    assert default_limit() == 0


@pytest.mark.parametrize(
    ("cpus", "together"), [([16], 8), ([0, 16], 8), ([2, 16], 6), ([4, 4], 4), ([16, 16, 16], 3)]
)
def test_workers_of_one_machine_share_its_limit(cpus: list[int], together: int) -> None:
    # The head of a cluster often has no CPU for workers.
    room = Room.spread(1000, 8, [Node(float(each)) for each in cpus], None)
    assert room is not None
    assert (room.workers, room.pass_bytes) == (8, 1000 // together)


@pytest.mark.parametrize(
    ("cpus", "workers"), [([2], 2), ([2, 0, 1], 3), ([1], None), ([0], None), ([], None)]
)
def test_there_are_no_more_workers_than_machines_have_cpus(cpus: list[int], workers: int | None) -> None:
    room = Room.spread(1000, 64, [Node(float(each)) for each in cpus], None)
    assert (room.workers if room is not None else None) == workers


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="it is not known how many files are open")
def test_a_sort_of_many_runs_keeps_few_files_open() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    rows = pa.table(
        {
            SUBJECT_ID: [f"s{n}" for n in range(20_000)],
            EMBEDDING: vector_array(np.ones((20_000, 8), np.float32)),
        }
    )
    here = len([*Path("/proc/self/fd").iterdir()])
    resource.setrlimit(resource.RLIMIT_NOFILE, (here + 40, hard))
    try:
        with ExternalSort(8, "<f4", 200) as spill:
            spill.take([rows])
            found = [spill.bucket(number).texts.num_rows for number in range(spill.buckets)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sum(found) == 20_000
