"""A gallery on a real S3 server is fetched once a node, whoever compares it, and nothing stays behind."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from gallery_rows import people, spec
from made_runs import Photo, made_run
from proxy import proxied
from s3server import S3, forget_clients, s3  # noqa: F401 - a fixture

from frpipe.core.config import ExecutorChoice
from frpipe.core.errors import ConfigError
from frpipe.gallery import lifecycle, shard_cache
from frpipe.gallery.byte_ranges import Ranged
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import vector_array
from frpipe.gallery.shard_cache import CacheSpec
from frpipe.gallery.spec import AES, GallerySpec
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.remote_store import RemoteStore
from frpipe.jobs.dedup.job import Dedup, DedupExecution
from frpipe.jobs.dedup.worker import Deduplicator
from frpipe.jobs.evaluate.all_pairs.job import AllPairs
from frpipe.jobs.identify.job import Identifying, SearchExecution
from frpipe.jobs.node_cache import NodeCache
from frpipe.runtime.allocation import Node
from frpipe.runtime.executor import Executor
from frpipe.runtime.local import LocalExecutor
from frpipe.runtime.runtime import Runtime

WORKERS, SHARDS, SHARD_ROWS = 3, 4, 25
ROOT = Path(__file__).resolve().parents[2]
Count = Callable[[], int]


@dataclass(frozen=True)
class ThreeCpus(Runtime):
    """Worker processes of a machine of three CPUs."""

    choice: ExecutorChoice = "local"

    @contextmanager
    def open(self, *, small: bool) -> Any:
        executor: Executor = LocalExecutor(self.nodes(small=small))
        yield executor

    def nodes(self, *, small: bool) -> list[Node]:
        return [Node(WORKERS)]


@pytest.fixture
def gallery(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Gallery:  # noqa: F811
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return _filled(Gallery.create(f"{s3.uri}/gallery", spec(rows_per_shard=SHARD_ROWS)))


def _filled(gallery: Gallery) -> Gallery:
    lifecycle.enroll(gallery, [people([f"p{number:03d}" for number in range(SHARDS * SHARD_ROWS)])])
    assert len(gallery.snapshot().version.shards) == SHARDS
    return gallery


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Count:
    """Bytes of shards that all processes have asked the store for since the last look."""
    log = tmp_path / "fetched"
    log.touch()
    read, ranged = RemoteStore.read, Ranged.read

    def counted(store: RemoteStore, name: str) -> bytes:
        data = read(store, name)
        if name.startswith("shards/"):
            _append(log, len(data))
        return data

    def counted_range(file: Ranged, offset: int, count: int) -> bytes:
        data = ranged(file, offset, count)
        _append(log, len(data))
        return data

    monkeypatch.setattr(RemoteStore, "read", counted)
    monkeypatch.setattr(Ranged, "read", counted_range)

    def total() -> int:
        found = sum(map(int, log.read_text().split()))
        log.write_text("")
        return found

    return total


def _append(log: Path, count: int) -> None:
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.write(file, b"%d\n" % count)
    os.close(file)


def _bytes(gallery: Gallery) -> int:
    return sum(ref.bytes for ref in gallery.snapshot().version.shards)


def _dedup(gallery: Gallery, out: Path, cache: NodeCache, workers: int | None = None) -> Dedup:
    execution = DedupExecution(workers, "fp32", SHARD_ROWS, cache=cache)
    return Dedup(str(out), gallery=gallery.uri, threshold=0.5, execution=execution, runtime=ThreeCpus())


def _content(out: Path) -> dict[str, bytes]:
    names = [file.name for file in run.file_list(Folder.at(str(out)))]
    return {name: (out / name).read_bytes() for name in names}


def test_duplicates_are_found_with_one_fetch_of_the_gallery(
    gallery: Gallery, tmp_path: Path, place: Path, fetched: Count
) -> None:
    _dedup(gallery, tmp_path / "without", NodeCache(0)).run()
    without = fetched()
    _dedup(gallery, tmp_path / "with", NodeCache(place=str(place))).run()
    # The driver looks at the small columns of each shard.
    assert _bytes(gallery) <= fetched() < 1.6 * _bytes(gallery) < without
    assert _content(tmp_path / "with") == _content(tmp_path / "without")
    assert not [*place.iterdir()]


def test_all_pairs_are_counted_with_one_fetch_of_the_gallery(
    gallery: Gallery, tmp_path: Path, place: Path, fetched: Count
) -> None:
    job = AllPairs(
        str(tmp_path / "out"),
        gallery=gallery.uri,
        thresholds=(0.5,),
        block_rows=SHARD_ROWS,
        cache=NodeCache(place=str(place)),
        runtime=ThreeCpus(),
    )
    assert job.run().as_dict()
    assert _bytes(gallery) <= fetched() < 2 * _bytes(gallery)
    assert not [*place.iterdir()]


@pytest.mark.parametrize("encrypted", [pytest.param(False, marks=pytest.mark.slow), True])
def test_probes_are_searched_with_one_fetch_of_the_gallery(
    s3: S3,  # noqa: F811
    gallery: Gallery,
    tmp_path: Path,
    place: Path,
    fetched: Count,
    monkeypatch: pytest.MonkeyPatch,
    encrypted: bool,
) -> None:
    del gallery
    monkeypatch.setenv("FRPIPE_GALLERY_KEY", b64encode(b"k" * 32).decode())
    own_spec = spec(rows_per_shard=SHARD_ROWS, encryption=AES if encrypted else None)
    photos = [
        Photo(f"photo-{number}", f"p{number:03d}", f"{number}") for number in range(SHARDS * SHARD_ROWS)
    ]
    own = Gallery.create(f"{s3.uri}/own-{encrypted}", own_spec)
    lifecycle.enroll(own, [_templates(photos)])
    probes = made_run(tmp_path / "probes", photos)
    kept: list[bytes] = []
    seen = shard_cache.CacheSpec.remove

    def remove(cache: shard_cache.CacheSpec) -> None:
        kept.extend(path.read_bytes() for path in cache.folder.iterdir() if len(path.name) == 64)
        seen(cache)

    monkeypatch.setattr(shard_cache.CacheSpec, "remove", remove)

    def job(name: str, cache: NodeCache) -> Identifying:
        how = SearchExecution(None, "fp32", 40, 0, cache)
        where = str(tmp_path / name)
        return Identifying(probes.uri, own.uri, where, threshold=0.5, execution=how, runtime=ThreeCpus(), k=3)

    job("without", NodeCache(0)).run()
    fetched()
    job("with", NodeCache(place=str(place))).run()
    # The driver counts the people: of an encrypted gallery it reads all for that.
    assert _bytes(own) <= fetched() < (2.1 if encrypted else 1.6) * _bytes(own)
    assert _content(tmp_path / "with") == _content(tmp_path / "without")
    assert sum(map(len, kept)) == _bytes(own)
    vector = photos[0].vector.tobytes()
    assert any(vector in data for data in kept) is not encrypted
    assert not [*place.iterdir()]


def _templates(photos: list[Photo]) -> Any:
    ids = [photo.subject_id for photo in photos]
    vectors = vector_array(np.stack([photo.vector for photo in photos]))
    return pa.table({"subject_id": ids, "face_id": ids, "embedding": vectors})


def test_a_cache_for_a_part_of_the_gallery_is_used_for_what_it_holds(
    gallery: Gallery, tmp_path: Path, place: Path, fetched: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of more workers, which is first decides what is fetched again.
    _dedup(gallery, tmp_path / "without", NodeCache(0), 1).run()
    without = fetched()
    sizes = sorted(ref.bytes for ref in gallery.snapshot().version.shards)
    monkeypatch.setattr(NodeCache, "bytes_of", lambda *_: sum(sizes[1:]))
    _dedup(gallery, tmp_path / "some", NodeCache(place=str(place)), 1).run()
    assert _bytes(gallery) <= fetched() < 1.6 * _bytes(gallery) < without
    assert _content(tmp_path / "some") == _content(tmp_path / "without")


def test_no_index_is_fetched_for_a_shard_that_the_node_has(
    gallery: Gallery, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Gallery.open(gallery.uri, CacheSpec("a" * 16, 1 << 30, str(place)))
    asked: list[str] = []
    for ref in gallery.snapshot().version.shards:
        other.snapshot().open(ref)
    ranged = RemoteStore.read_range

    def watched(store: RemoteStore, name: str, start: int, end: int) -> bytes:
        asked.append(name)
        return ranged(store, name, start, end)

    monkeypatch.setattr(RemoteStore, "read_range", watched)
    tables = [*other.snapshot().tables(vectors=False)]
    assert sum(table.num_rows for table in tables) == SHARDS * SHARD_ROWS and not asked
    assert [*gallery.snapshot().tables(vectors=False)] == tables and len(asked) == SHARDS


def test_who_looks_at_columns_of_a_remote_shard_is_sent_no_vectors(
    s3: S3,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, dim = 2000, 512
    gallery = Gallery.create(f"{s3.uri}/wide", GallerySpec(dim, "e" * 64, "p" * 64, "d" * 64))
    ids = [f"p{number:04d}" for number in range(rows)]
    vectors = np.eye(rows, dim, dtype=np.float32) + np.eye(rows, dim, -dim, dtype=np.float32)
    vectors[2 * dim :, 0] = 1
    columns = {"subject_id": ids, "face_id": ids, "embedding": vector_array(vectors)}
    lifecycle.enroll(gallery, [pa.table(columns)])
    with proxied(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        forget_clients()
        snapshot = Gallery.open(gallery.uri).snapshot()
        assert sum(table.num_rows for table in snapshot.tables(vectors=False)) == rows
        sent = sum(size for path, size in proxy.sent.items() if "/shards/" in path)
    forget_clients()
    assert sent < snapshot.version.shards[0].bytes / 4


def test_a_file_that_is_cut_while_workers_read_it_costs_a_worker_and_no_answer(
    gallery: Gallery, tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dedup(gallery, tmp_path / "calm", NodeCache(place=str(place))).run()
    work, once = Deduplicator.__call__, tmp_path / "once"

    def cutting(worker: Deduplicator, table: Any) -> Any:
        try:
            os.close(os.open(once, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return work(worker, table)
        worker._block(0, keep=0)
        # Killed on purpose: pytest has every signal's stack written into its own output.
        faulthandler.disable()
        for path in place.glob("*/" + "[0-9a-f]" * 64):
            path.chmod(0o600)
            os.truncate(path, 10)
        return work(worker, table)

    monkeypatch.setattr(Deduplicator, "__call__", cutting)
    # Another worker might meet the change when it compares, and end the job.
    _dedup(gallery, tmp_path / "cut", NodeCache(place=str(place)), 1).run()
    assert _content(tmp_path / "cut") == _content(tmp_path / "calm")


@pytest.mark.slow
def test_what_a_killed_run_left_is_removed_by_the_next(gallery: Gallery, tmp_path: Path, place: Path) -> None:
    out, words = tmp_path / "out", [sys.executable, "jobs/dedup.py", "--gallery", gallery.uri]
    words += ["--output", str(out), "--threshold", "0.5", "--block-rows", f"{SHARD_ROWS}"]
    words += ["--cache-dir", str(place), "--executor", "local", "--workers", "1"]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL) as job:
        end = time.monotonic() + 60
        while not [*place.glob("*/" + "[0-9a-f]" * 64)]:
            assert job.poll() is None and time.monotonic() < end
            time.sleep(0.001)
        job.send_signal(signal.SIGKILL)
    assert [*place.iterdir()]
    assert subprocess.run(words, cwd=ROOT, check=False, capture_output=True).returncode == 0
    assert not [*place.iterdir()]
    _dedup(gallery, tmp_path / "whole", NodeCache(0)).run()
    assert _content(out) == _content(tmp_path / "whole")


@pytest.mark.parametrize("cache", [NodeCache(-1), NodeCache(place="s3://bucket"), NodeCache(place="here")])
def test_a_cache_that_cannot_be_is_refused(tmp_path: Path, cache: NodeCache) -> None:
    job = Dedup(str(tmp_path), gallery="s3://b/g", threshold=0.5, execution=DedupExecution(cache=cache))
    with pytest.raises(ConfigError):
        job.place()
