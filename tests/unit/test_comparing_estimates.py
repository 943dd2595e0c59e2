"""What comparing takes, with other numbers of workers, and how much of a gallery is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pytest

from frpipe.jobs.block_memory import BlockMemory
from frpipe.jobs.estimate import Comparing
from frpipe.jobs.identify.memory import SearchMemory
from frpipe.jobs.node_cache import NodeCache
from frpipe.jobs.progress import Progress
from frpipe.matching.choice import Choice

MB = 1 << 20


@dataclass(frozen=True)
class Blocks:
    gallery: str | None
    sizes: tuple[int, ...]


def test_time_goes_by_turns_and_memory_by_workers() -> None:
    work = Comparing(10**9, 512, lambda _: 10, lambda _: 750.0, lambda workers: workers)
    found = work.estimate(3, Choice("int8", "", ns=2.0))
    assert (found.seconds, found.memory_mb, found.read_bytes) == (pytest.approx(1.3), 1000.0, 3)
    assert [scale.workers for scale in found.scales] == [1, 8, 64]
    assert [scale.seconds for scale in found.scales] == pytest.approx([2.5, 0.9, 0.7])
    job = found.scales[0].memory_mb - 1000
    assert 200 < job < 350
    assert [scale.memory_mb - job for scale in found.scales] == [1000, 8000, 10_000]
    assert found.as_dict()["scales"][1]["workers"] == 8
    assert found.lines()[2].split() == [
        "8",
        "workers:",
        "about",
        "0:01,",
        "8.3",
        "GB",
        "of",
        "memory,",
        "0.0",
        "MB",
        "read",
    ]
    unknown = work.estimate(3, Choice("cuda", ""))
    assert unknown.seconds is None and "not known" in unknown.lines()[1]


# Peaks of whole jobs by `benchmarks/estimates.py` on two cores, in MB, all processes together: what was
# measured without the pages of shards that workers map, and what these are at most.
MEASURED: dict[str, list[tuple[int, float, float]]] = {
    "identify, 10,000 probes in 100,000": [(1, 478, 18), (2, 588, 35), (4, 803, 70), (8, 1148, 141)],
    "identify, 1,000 probes in 4,000": [(1, 294, 1), (8, 490, 9)],
    "dedup of 60,000": [(1, 319, 67), (4, 460, 126), (8, 664, 126)],
    "dedup of 4,000": [(1, 261, 2), (8, 346, 9)],
}
LARGE = SearchMemory(4096, 512, 10, (17_600_000,) * 13, 51_300_000, copied=False, stored=False, hold=1 << 30)
SMALL = SearchMemory(1000, 512, 10, (1_100_000,) * 8, 0, copied=False, stored=False, hold=1 << 30)
BLOCKS = BlockMemory(16_384, 33_600_000, 2_000_000, 8_400_000, 129_000_000)
SMALL_BLOCKS = BlockMemory(500, 1_024_000, 60_000, 0, 8_700_000)


def _searching(memory: SearchMemory, rows: int, units: int) -> Comparing:
    """As a search of three units, or one, shares the shards out among workers."""
    shards = len(memory.shards)

    def slices(workers: int) -> int:
        return -(-shards // -(-shards // -(-workers // units)))

    def held(workers: int) -> float:
        cut, tickets = slices(workers), units * slices(workers)
        return memory.held_mb(min(1.0, tickets / min(workers, tickets) / cut), rows // cut)

    tickets = partial(_product, units, slices)
    return Comparing(rows, 512, tickets, held, lambda _: 0, mapped_mb=memory.mapped_mb, forked=True)


def _product(units: int, slices: Callable[[int], int], workers: int) -> int:
    return units * slices(workers)


def _pairing(memory: BlockMemory, units: int) -> Comparing:
    return Comparing(
        10**9,
        512,
        lambda _: units,
        memory.held_mb,
        lambda _: 0,
        mapped_mb=memory.mapped_mb,
        forked=True,
    )


JOBS = {
    "identify, 10,000 probes in 100,000": _searching(LARGE, 100_000, 3),
    "identify, 1,000 probes in 4,000": _searching(SMALL, 4000, 1),
    "dedup of 60,000": _pairing(BLOCKS, 10),
    "dedup of 4,000": _pairing(SMALL_BLOCKS, 36),
}


@pytest.mark.parametrize("name", MEASURED)
def test_memory_of_forked_workers_is_what_was_measured_and_never_less(name: str) -> None:
    for workers, seen, mapped in MEASURED[name]:
        found = JOBS[name].scale(workers, None).memory_mb
        assert 0.98 * seen <= found <= 1.3 * (seen + mapped), (workers, found)


def test_workers_of_their_own_processes_share_no_pages() -> None:
    forked = JOBS["dedup of 60,000"]
    apart = replace(forked, forked=False)
    assert apart.scale(8, None).memory_mb > forked.scale(8, None).memory_mb + 8 * 200


def test_decrypted_shards_are_in_each_workers_memory() -> None:
    mapped, copied = LARGE, replace(LARGE, copied=True)
    assert copied.held_mb(1.0, 100_000) > mapped.held_mb(1.0, 100_000) + 228
    assert copied.mapped_mb(8) == 0 < mapped.mapped_mb(8) <= 229
    stored = replace(LARGE, stored=True)
    assert stored.held_mb(1.0, 100_000) == pytest.approx(mapped.held_mb(1.0, 100_000) - 51.3)
    assert stored.mapped_mb(8) == pytest.approx(mapped.mapped_mb(8) + 51.3)


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
