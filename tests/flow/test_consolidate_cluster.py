"""A consolidation whose passes are worked on by a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cluster import Cluster
from frozen import copied

from frpipe.gallery.gallery import Gallery
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.features import FeatureRun
from frpipe.runtime.runtime import Runtime


def test_passes_on_a_cluster_give_the_shards_of_one(tmp_path: Path, cluster: Cluster) -> None:
    said: list[str] = []
    shards = []
    with copied(tmp_path / "frozen") as home:
        out = str(home / "enroll-finished")
        spec = replace(FeatureRun.open(out).spec, rows_per_shard=1)
        for name, runtime in (("once", None), ("cluster", Runtime(cluster.address, "ray"))):
            uri = Gallery.create(str(tmp_path / name), spec).uri
            Consolidation(out, uri, templates="medoid", say=said.append, runtime=runtime).run()
            snapshot = Gallery.open(uri).snapshot()
            tables = [snapshot.table_of(ref, vectors=True) for ref in snapshot.version.shards]
            shards.append([table.to_pylist() for table in tables])
    assert any("2 at once" in line for line in said)
    assert shards[0] == shards[1]
    assert len(shards[0]) > 1
