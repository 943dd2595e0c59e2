"""On a Ray cluster the workers of a node fetch a gallery from a real S3 server once, and leave nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from cluster import Cluster, ray_cluster
from proxy import Proxy, proxied
from s3server import S3, forget_clients, s3  # noqa: F401 - a fixture

from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import vector_array
from frpipe.gallery.spec import GallerySpec
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder

ROOT = Path(__file__).resolve().parents[2]
SHARDS, ROWS, DIM = 8, 2000, 512


@pytest.fixture
def counting(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:  # noqa: F811
    """A proxy of the server, for this process and all that it starts."""
    with proxied(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        forget_clients()
        yield proxy
    forget_clients()


@pytest.fixture
def own_cluster(counting: Proxy) -> Iterator[Cluster]:
    """A cluster whose workers find the server through the proxy."""
    with ray_cluster() as running:
        yield running


def _gallery(uri: str) -> Gallery:
    gallery = Gallery.create(uri, GallerySpec(DIM, "e" * 64, "p" * 64, "d" * 64, rows_per_shard=ROWS))
    vectors = np.random.default_rng(0).standard_normal((SHARDS * ROWS, DIM), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"p{number:07d}" for number in range(len(vectors))]
    columns = {"subject_id": ids, "face_id": ids, "embedding": vector_array(vectors)}
    lifecycle.enroll(gallery, [pa.table(columns)])
    return gallery


@pytest.mark.slow
def test_two_workers_of_a_node_fetch_a_gallery_once(
    s3: S3,  # noqa: F811
    counting: Proxy,
    own_cluster: Cluster,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    gallery, place = _gallery(f"{s3.uri}/gallery"), tmp_path / "cache"
    size = sum(ref.bytes for ref in gallery.snapshot().version.shards)

    def fetched(cache_mb: int) -> float:
        """Bytes of shards that a dedup asks the server for, as a multiple of the gallery."""
        words = ["--gallery", gallery.uri, "--output", str(tmp_path / f"{cache_mb}"), "--threshold", "0.4"]
        words += ["--kernel", "fp32", "--block-rows", f"{ROWS}", "--workers", "2"]
        words += ["--address", own_cluster.address, "--cache-mb", f"{cache_mb}", "--cache-dir", str(place)]
        counting.sent.clear()
        command = [sys.executable, "jobs/dedup.py", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return sum(count for path, count in counting.sent.items() if "/shards/" in path) / size

    without, with_cache = fetched(0), fetched(1024)
    record_property("fetched", f"{size / 1e6:.1f} MB: without {without:.2f}, with {with_cache:.2f} times")
    assert 1 <= with_cache < 1.2
    assert without > 3
    assert _content(tmp_path / "0") == _content(tmp_path / "1024")
    assert not [*place.iterdir()]


def _content(out: Path) -> dict[str, bytes]:
    names = [file.name for file in run.file_list(Folder.at(str(out)))]
    return {name: (out / name).read_bytes() for name in names}
