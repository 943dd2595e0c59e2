"""On a real Ray the workers of a node fetch a gallery from a real S3 server once, and leave nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from cluster import Cluster, joined_node, ray_cluster
from proxy import Proxy, proxied
from s3server import S3, forget_clients, s3  # noqa: F401 - a fixture

from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import vector_array
from frpipe.gallery.spec import GallerySpec
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.runtime.ray_executor import RayExecutor
from frpipe.runtime.session import cluster as joined

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


def _gallery(uri: str) -> Gallery:
    gallery = Gallery.create(uri, GallerySpec(DIM, "e" * 64, "p" * 64, "d" * 64, rows_per_shard=ROWS))
    vectors = np.random.default_rng(0).standard_normal((SHARDS * ROWS, DIM), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"p{number:07d}" for number in range(len(vectors))]
    columns = {"subject_id": ids, "face_id": ids, "embedding": vector_array(vectors)}
    lifecycle.enroll(gallery, [pa.table(columns)])
    return gallery


def test_a_call_everywhere_reaches_the_workers_of_this_node(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may have another TMPDIR than this process, and keep shards there."""
    monkeypatch.setattr("frpipe.runtime.ray_executor._EVERYWHERE_S", 300.0)
    with joined(cluster.address) as nodes:
        RayExecutor(nodes).everywhere(partial(subprocess.run, ["sh", "-c", f"touch {tmp_path}/$PPID"]))
    called = {int(path.name) for path in tmp_path.iterdir()}
    assert os.getpid() in called
    assert len(called) == 2


@pytest.mark.slow
def test_two_workers_of_a_node_fetch_a_gallery_once(
    s3: S3,  # noqa: F811
    counting: Proxy,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    gallery, place = _gallery(f"{s3.uri}/gallery"), tmp_path / "cache"
    size = sum(ref.bytes for ref in gallery.snapshot().version.shards)

    def fetched(cache_mb: int) -> float:
        """Bytes of shards that a dedup asks the server for, as a multiple of the gallery."""
        words = ["--gallery", gallery.uri, "--output", str(tmp_path / f"{cache_mb}"), "--threshold", "0.4"]
        words += ["--kernel", "fp32", "--block-rows", f"{ROWS}", "--workers", "2"]
        words += ["--executor", "ray", "--cache-mb", f"{cache_mb}", "--cache-dir", str(place)]
        counting.sent.clear()
        command = [sys.executable, "jobs/dedup.py", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return _of_shards(counting.sent) / size

    without, with_cache = fetched(0), fetched(1024)
    record_property("fetched", f"{size / 1e6:.1f} MB: without {without:.2f}, with {with_cache:.2f} times")
    assert 1 <= with_cache < 1.2
    assert without > 3
    assert _content(tmp_path / "0") == _content(tmp_path / "1024")
    assert not [*place.iterdir()]


@pytest.mark.slow
def test_each_of_two_nodes_fetches_a_gallery_once(
    s3: S3,  # noqa: F811
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    gallery = _gallery(f"{s3.uri}/gallery")
    size = sum(ref.bytes for ref in gallery.snapshot().version.shards)
    with ExitStack() as stack:
        proxies = [stack.enter_context(proxied(s3.endpoint)) for _ in range(3)]
        first, second, driver = ({"AWS_ENDPOINT_URL": proxy.endpoint} for proxy in proxies)
        places = [tmp_path / name for name in ("first", "second", "driver")]
        for place in places:
            place.mkdir()
        # Ray gives workers the environment of their node: its own disk, and a proxy that counts for it.
        cluster = stack.enter_context(ray_cluster(2, {**first, "TMPDIR": str(places[0])}))
        stack.enter_context(joined_node(cluster, 2, {**second, "TMPDIR": str(places[1])}))
        words = ["--gallery", gallery.uri, "--output", str(tmp_path / "out"), "--threshold", "0.4"]
        words += ["--kernel", "fp32", "--block-rows", f"{ROWS}", "--workers", "4"]
        words += ["--address", cluster.address, "--cache-mb", "1024"]
        environment = {**os.environ, **driver, "TMPDIR": str(places[2])}
        done = subprocess.run(
            [sys.executable, "jobs/dedup.py", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        sent = [_of_shards(proxy.sent) / size for proxy in proxies]
    record_property("fetched", f"{size / 1e6:.1f} MB: {', '.join(f'{each:.2f}' for each in sent)} times")
    # Of eight shards a node may not come to compare one, and what a node has it does not ask for again.
    assert all(0.5 < each < 1.05 for each in sent[:2]), sent
    assert sent[2] < 0.2
    assert not [*tmp_path.glob("*/frpipe-shards-*")]


def _of_shards(sent: Counter[str]) -> int:
    return sum(count for path, count in sent.items() if "/shards/" in path)


def _content(out: Path) -> dict[str, bytes]:
    names = [file.name for file in run.file_list(Folder.at(str(out)))]
    return {name: (out / name).read_bytes() for name in names}
