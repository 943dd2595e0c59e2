"""A consolidation whose passes are worked on by a cluster."""

from __future__ import annotations

from pathlib import Path

from album_runs import Shot, enrolled, face
from cluster import Cluster
from gallery_rows import spec

from frpipe.gallery.gallery import Gallery
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.runtime.runtime import Runtime


def test_passes_on_a_cluster_give_the_shards_of_one(tmp_path: Path, cluster: Cluster) -> None:
    shots = {
        f"{person}/{photo}.jpg": Shot(f"person-{person}", [face(100 * person + photo)])
        for person in range(12)
        for photo in range(3)
    }
    out = enrolled(tmp_path / "run", shots)
    said: list[str] = []
    shards = []
    for name, runtime in (("once", None), ("cluster", Runtime(cluster.address, "ray"))):
        uri = Gallery.create(str(tmp_path / name), spec(rows_per_shard=6)).uri
        Consolidation(out, uri, templates="medoid", say=said.append, runtime=runtime).run()
        snapshot = Gallery.open(uri).snapshot()
        shards.append([snapshot.table_of(ref, vectors=True).to_pylist() for ref in snapshot.version.shards])
    assert any("2 at once" in line for line in said)
    assert shards[0] == shards[1]
    assert len(shards[0]) > 1
