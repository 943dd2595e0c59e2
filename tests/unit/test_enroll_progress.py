"""What a run says of itself while it works: published photos, and those in hand."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import cv2
import pytest
from ray.exceptions import GetTimeoutError, RayActorError

from frpipe.core.reasons import Status
from frpipe.flows.enroll import progress as module
from frpipe.flows.enroll.progress import Progress
from frpipe.stages import bridge, headway, in_hand
from frpipe.stages.headway import told
from frpipe.stages.host import ALONE
from frpipe.stages.locate import Located


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between lines."""
    monkeypatch.setattr(module, "_EVERY_S", 0.0)
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    monkeypatch.setattr(headway, "_EVERY_S", 0.0)


def _receipt(part: int, ok: int, no_face: int = 0) -> dict[str, int]:
    return {"part": part, "ok": ok, "no_face": no_face, "rejected": 0, "faces": ok}


def test_photos_in_hand_are_said_before_a_part_is_done() -> None:
    said: list[str] = []
    hand: dict[int, Mapping[str, int]] = {}
    progress = Progress(100, said.append)
    progress.watch(lambda: hand)
    progress.look()
    assert said == []
    hand[0] = {"ok": 6, "rejected": 1, "faces": 8}
    hand[3] = {"no_face": 2}
    progress.look()
    progress.look()
    assert len(said) == 1
    assert said[0].startswith("9 of 100 photos  ")
    assert "ok 6  no_face 2  rejected 1  faces 8" in said[0]
    assert said[0].endswith(" left  9 in hand")
    assert progress.done == 0


def test_a_published_part_counts_once_whatever_was_said_of_it() -> None:
    said: list[str] = []
    progress = Progress(20, said.append)
    progress.watch(lambda: {0: {"ok": 9}, 1: {"ok": 4}})
    progress.look()
    progress.add(_receipt(0, 7, 3))
    progress.look()
    assert [line.split(" photos")[0] for line in said] == ["13 of 20", "14 of 20"]
    progress.add(_receipt(1, 10))
    assert said[-1].startswith("20 of 20 photos")
    assert "hand" not in said[-1]
    assert progress.done == 20


def test_a_part_that_is_begun_again_takes_its_photos_back() -> None:
    said: list[str] = []
    hand = {0: {"ok": 9}}
    progress = Progress(20, said.append)
    progress.watch(lambda: hand)
    progress.look()
    hand[0] = {"ok": 1}
    progress.look()
    assert [line.split(" photos")[0] for line in said] == ["9 of 20", "1 of 20"]


def test_lines_come_by_themselves_while_it_is_under_way() -> None:
    heard = threading.Event()
    with Progress(20, lambda _: heard.set()) as progress:
        progress.watch(lambda: {0: {"ok": 9}})
        assert heard.wait(30)
    assert "progress" not in {thread.name for thread in threading.enumerate()}


def test_a_part_is_told_of_while_it_is_located_and_its_outcomes_are_as_they_were() -> None:
    outcomes = [Located(), Located(status=Status.OK), Located(status=Status.OK)]
    heard: list[tuple[int, dict[str, int]]] = []
    assert list(told(5, outcomes, lambda part, counts: heard.append((part, dict(counts))))) == outcomes
    assert [(part, sum(counts.values())) for part, counts in heard] == [(5, 1), (5, 2), (5, 3), (5, 3)]
    assert heard[-1][1] == {"ok": 2, "no_face": 1, "faces": 0}


def test_a_worker_has_opencv_work_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    class Publisher(bridge.Publish):
        worker = staticmethod(lambda _spec, _host: lambda table: table)

    class Spec:
        models = ()

    before = cv2.getNumThreads()
    monkeypatch.setattr(bridge, "_host", lambda _: ALONE)
    try:
        cv2.setNumThreads(2)
        Publisher(Spec(), {}, None)
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("error", [GetTimeoutError("late"), RayActorError()])
def test_a_board_that_is_late_or_lost_is_an_empty_one(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Call:
        def remote(self, *_: object) -> None:
            if isinstance(error, RayActorError):
                raise error

    class Board:
        note = read = Call()

    def get(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(in_hand.ray, "get", get)
    hand = in_hand.InHand.__new__(in_hand.InHand)
    hand._board = Board()
    hand.report(0, {"ok": 1})
    assert hand.read() == {}
