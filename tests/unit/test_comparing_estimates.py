"""What comparing takes, with other numbers of workers, and how much of a gallery is read."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from frpipe.jobs.estimate import Comparing
from frpipe.jobs.node_cache import NodeCache
from frpipe.jobs.progress import Progress
from frpipe.matching.choice import Choice

MB = 1 << 20


@dataclass(frozen=True)
class Blocks:
    gallery: str | None
    sizes: tuple[int, ...]


def test_time_goes_by_turns_and_memory_by_workers() -> None:
    work = Comparing(10**9, 512, lambda _: 10, 750.0, lambda workers: workers)
    found = work.estimate(3, Choice("int8", "", ns=2.0))
    assert (found.seconds, found.memory_mb, found.read_bytes) == (pytest.approx(1.3), 1000.0, 3)
    assert [scale.workers for scale in found.scales] == [1, 8, 64]
    assert [scale.seconds for scale in found.scales] == pytest.approx([2.5, 0.9, 0.7])
    assert [scale.memory_mb for scale in found.scales] == [1000, 8000, 10_000]
    assert found.as_dict()["scales"][1]["workers"] == 8
    assert found.lines()[2].split() == [
        "8",
        "workers:",
        "about",
        "0:00,",
        "8.0",
        "GB",
        "of",
        "memory,",
        "0.0",
        "MB",
        "read",
    ]
    unknown = work.estimate(3, Choice("cuda", ""))
    assert unknown.seconds is None and "not known" in unknown.lines()[1]


def test_a_gallery_is_read_once_where_a_node_keeps_it() -> None:
    size, cache = 100 * MB, NodeCache(200)
    assert cache.read_by_units("s3://b/g", size, 50, 8, 0) == size
    assert cache.read_by_units("/disk/g", size, 50, 8, 0) == size
    assert NodeCache(0).read_by_units("s3://b/g", size, 50, 8, 0) == 50 * size
    assert NodeCache(0).read_by_units("s3://b/g", size, 50, 8, size) == 8 * size
    assert NodeCache(60).read_by_units("s3://b/g", size, 50, 8, 0) == 60 * MB + 50 * 40 * MB
    blocks = Blocks("s3://b/g", (MB,) * 100)
    assert cache.read_by_pairs(blocks, 5050, 8, MB) == size
    some = NodeCache(20).read_by_pairs(blocks, 5050, 8, MB)
    assert size < some < NodeCache(0).read_by_pairs(blocks, 5050, 8, MB) == 5058 * MB


def test_pairs_of_blocks_are_done_in_squares_that_fit() -> None:
    pairs = [(i, j) for i in range(9) for j in range(i, 9)]
    units = dict(enumerate(pairs))
    blocks = Blocks("s3://b/g", (MB,) * 9)
    assert [*NodeCache(9).ordered(units, blocks).values()] == pairs
    assert [*NodeCache(0).ordered(units, blocks).values()] == pairs
    assert [*NodeCache(1).ordered(units, Blocks("/disk/g", (MB,) * 9)).values()] == pairs
    some = NodeCache(6).ordered(units, blocks)
    assert sorted(some.items()) == sorted(units.items())
    assert _fetched([*some.values()], 6) < _fetched(pairs, 6)


def _fetched(pairs: list[tuple[int, int]], room: int) -> int:
    """Blocks that come in, where what was used longest ago goes."""
    held: list[int] = []
    count = 0
    for block in (block for pair in pairs for block in pair):
        count += block not in held
        held = [*(other for other in held if other != block), block][-room:]
    return count


def test_the_time_left_goes_by_work_and_not_by_units(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = iter([0.0, 10.0, 20.0]), list[str]()
    monkeypatch.setattr("frpipe.jobs.progress.time.monotonic", lambda: next(clock))
    progress = Progress(3, "units", said.append, work=100)
    progress.add(1, {"pairs": 4}, work=80)
    progress.add(1, work=10)
    assert said == [
        "1 of 3 units  0/s  0:02 left  pairs 4",
        "2 of 3 units  0/s  0:02 left  pairs 4",
    ]
