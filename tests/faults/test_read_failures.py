"""1,000 reads that fail, in ten ways, over all that reads: no file is deleted, every exit code is true."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "unit"))

from read_faults import KINDS, READERS, Bench, Undisturbed, without_plots

pytestmark = pytest.mark.slow
MANY = 1000


def test_a_thousand_reads_that_fail_cost_no_file(tmp_path: Path) -> None:
    with without_plots():
        bench = Bench(tmp_path / "bench")
    undisturbed = Undisturbed.of(bench, tmp_path / "undisturbed")
    cases = list(undisturbed.cases(MANY, seed=1))
    assert {case.kind for case in cases} == set(KINDS) and {case.reader for case in cases} == set(READERS)
    ends: Counter[int] = Counter()
    found = [undisturbed.wrong(case, tmp_path / str(number), ends) for number, case in enumerate(cases)]
    assert not any(found), "\n".join(line for lines in found for line in lines)
    assert ends.total() == MANY
    assert set(ends) <= {0, 3, 6, 7, 10, 11}
