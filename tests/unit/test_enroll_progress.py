"""What a run says of itself while it works: published photos, and those in hand."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from ray.exceptions import RpcError

from frpipe.jobs import progress as module
from frpipe.jobs.enroll import job
from frpipe.jobs.nightly.lease import LeaseError
from frpipe.jobs.progress import PhotoProgress
from frpipe.runtime import ray_executor
from frpipe.runtime.host import ALONE
from frpipe.stages import workers
from frpipe.stages.part_batch import PartBatch
from frpipe.stages.workers import Headway, told


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between lines."""
    monkeypatch.setattr(module, "_EVERY_S", 0.0)
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    monkeypatch.setattr(workers, "_EVERY_S", 0.0)


def _receipt(part: int, ok: int, no_face: int = 0) -> dict[str, int]:
    return {"part": part, "ok": ok, "no_face": no_face, "rejected": 0, "faces": ok}


def test_that_no_photo_is_in_hand_yet_is_said_once() -> None:
    said: list[str] = []
    progress = PhotoProgress(100, said.append)
    progress.look()
    progress.look()
    assert [line.split("  ")[0] for line in said] == ["0 of 100 photos"]


def test_photos_in_hand_are_said_before_a_part_is_done() -> None:
    said: list[str] = []
    hand: dict[int, Mapping[str, int]] = {}
    progress = PhotoProgress(100, said.append)
    progress.watch(lambda: hand)
    progress.look()
    said.clear()
    hand[0] = {"ok": 6, "rejected": 1, "faces": 8, "located": 20}
    hand[3] = {"located": 5}
    progress.look()
    progress.look()
    assert len(said) == 1
    assert said[0].startswith("7 of 100 photos  ")
    assert "ok 6  no_face 0  rejected 1  faces 8" in said[0]
    assert said[0].endswith(" left  18 more located")
    assert progress.done == 0


def test_a_published_part_counts_once_whatever_was_said_of_it() -> None:
    said: list[str] = []
    progress = PhotoProgress(20, said.append)
    progress.watch(lambda: {0: {"ok": 9}, 1: {"ok": 4}})
    progress.look()
    progress.add(_receipt(0, 7, 3))
    progress.look()
    assert [line.split(" photos")[0] for line in said] == ["13 of 20", "14 of 20"]
    progress.add(_receipt(1, 10))
    assert said[-1].startswith("20 of 20 photos")
    assert "located" not in said[-1]
    assert progress.done == 20


def test_a_part_that_is_begun_again_takes_its_photos_back() -> None:
    said: list[str] = []
    hand = {0: {"ok": 9}}
    progress = PhotoProgress(20, said.append)
    progress.watch(lambda: hand)
    progress.look()
    hand[0] = {"ok": 1}
    progress.look()
    assert [line.split(" photos")[0] for line in said] == ["9 of 20", "1 of 20"]


def test_lines_come_by_themselves_while_it_is_under_way() -> None:
    heard = threading.Event()
    with PhotoProgress(20, lambda _: heard.set()) as progress:
        progress.watch(lambda: {0: {"ok": 9}})
        assert heard.wait(30)
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_who_may_not_go_on_learns_it_with_the_next_part() -> None:
    """A night whose lease is lost raises where it says something."""
    tried = threading.Event()

    def refuse(_: str) -> None:
        tried.set()
        raise LeaseError("another night is under way", "let it end")

    with PhotoProgress(20, refuse) as progress:
        progress.watch(lambda: {0: {"ok": 9}})
        assert tried.wait(30)
        progress._watcher.join()
        with pytest.raises(LeaseError):
            progress.add(_receipt(0, 7))


def test_before_any_photo_is_done_it_says_how_many_are_located_and_no_time() -> None:
    said: list[str] = []
    progress = PhotoProgress(20, said.append)
    progress.watch(lambda: {0: {"located": 3}})
    progress.look()
    assert said[0].startswith("0 of 20 photos")
    assert said[0].endswith("faces 0  3 more located")


def test_a_part_is_told_of_while_it_is_located_and_its_outcomes_are_as_they_were() -> None:
    heard: list[tuple[int, dict[str, int]]] = []
    told_ = told(5, ["a", "b"], lambda part, counts: heard.append((part, dict(counts))))
    assert list(told_) == ["a", "b"]
    assert heard == [(5, {"located": 1}), (5, {"located": 2}), (5, {"located": 2})]


def test_a_photo_has_ended_with_its_last_face_and_those_before_it() -> None:
    images = pa.table({"status": ["no_face", "ok", "rejected", "ok", "no_face"]})
    part_batch = PartBatch(7, images, pa.table({"row": [1, 1, 3]}), np.zeros(0, np.uint8))
    heard: list[dict[str, int]] = []
    way = Headway(part_batch, lambda _, counts: heard.append(dict(counts)))
    for faces in (1, 2, 3):
        way(faces)
    assert heard == [
        {"no_face": 1, "located": 5, "faces": 1},
        {"no_face": 1, "ok": 1, "rejected": 1, "located": 5, "faces": 2},
        {"no_face": 2, "ok": 2, "rejected": 1, "located": 5, "faces": 3},
    ]


def test_a_worker_has_opencv_work_in_one_thread() -> None:
    spec: Any = SimpleNamespace(
        models_of=lambda _: (), output="/none", claim="", recipe=SimpleNamespace(metadata=dict)
    )
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        job._Maker("publish", spec, {})(ALONE)
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("error", [RpcError("late"), RuntimeError("no cluster")])
def test_a_cluster_that_does_not_answer_has_nothing_in_hand(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise error

    for name in ("put", "get", "list", "del"):
        monkeypatch.setattr(ray_executor.internal_kv, f"_internal_kv_{name}", lost)
    hand = ray_executor.InHand()
    hand.report(0, {"ok": 1})
    assert hand.read() == {}
    hand.forget(0)
    hand.clear()
