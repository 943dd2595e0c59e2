"""A read that fails costs a run and no file, and nobody calls the file damaged (the whole: tests/faults)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from read_faults import KINDS, READERS, Bench, Undisturbed, without_plots

A_FEW = 40


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    with without_plots():
        bench = Bench(tmp_path_factory.mktemp("bench") / "bench")
    return Undisturbed.of(bench, tmp_path_factory.mktemp("undisturbed"))


def test_every_reader_reads_and_ends_well(undisturbed: Undisturbed) -> None:
    assert {reader: told.said for reader, told in undisturbed.told.items() if told.code} == {}
    assert min(map(len, undisturbed.seen.values())) >= 3
    assert len(KINDS) == 10 and len(undisturbed.seen) == len(READERS)


def test_no_read_that_fails_costs_a_file(undisturbed: Undisturbed, tmp_path: Path) -> None:
    ends: Counter[int] = Counter()
    cases = list(undisturbed.cases(A_FEW, seed=20))
    found = [undisturbed.wrong(case, tmp_path / str(number), ends) for number, case in enumerate(cases)]
    assert not any(found), "\n".join(line for lines in found for line in lines)
    assert A_FEW // 10 < ends[0] < A_FEW // 2
