"""An output that is read back by the workers of a cluster, one of which dies over it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from cluster import Cluster
from dying_reader import dies_once
from frozen import copied

from frpipe.io.output.plan import load_plan
from frpipe.io.storage.folder import Folder
from frpipe.jobs import reading_back
from frpipe.jobs.enroll.audit import audit
from frpipe.jobs.reading_back import ReadingBack
from frpipe.runtime.runtime import Runtime


def test_a_cluster_reads_back_what_this_process_does(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_back, "WORKER_BYTES", 1)
    monkeypatch.setattr(reading_back, "DRIVER_CPUS", 0)
    with (
        copied(tmp_path / "frozen") as home,
        Runtime(cluster.address, "ray").open(small=False) as executor,
    ):
        out = Folder.at(str(home / "enroll-finished"))
        plan = load_plan(out)
        assert audit(out, plan, print, executor) == audit(out, plan)
        Path(out.uri, "faces/part-000000.parquet").write_bytes(b"")
        assert audit(out, plan, print, executor).damaged == [0]
        reading = ReadingBack(range(32), partial(dies_once, str(tmp_path)), 32, print)
        assert list(reading.results(executor)) == [(unit, 10 * unit) for unit in range(32)]
        assert (tmp_path / "died").exists()
