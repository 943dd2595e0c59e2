"""Duplicates are the same to the last bit by whatever kernel, and the report says which it was and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frpipe.core.kernel_names import Wish
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import vector_array
from frpipe.gallery.spec import GallerySpec
from frpipe.jobs.dedup.job import Dedup, DedupExecution
from frpipe.testing.executors import InThisProcess

DIM, ROWS = 48, 300


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """People in 20 of 48 dimensions, some of whom are alike."""
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(ROWS, 20)) @ np.linalg.qr(rng.normal(size=(DIM, DIM)))[0][:20]
    vectors[200:] = vectors[:100] + 0.3 * rng.normal(size=(100, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"p{row:03}" for row in range(ROWS)]
    table = pa.table(
        {
            "subject_id": names,
            "face_id": names,
            "embedding": vector_array(vectors.astype(np.float32)),
        }
    )
    made = Gallery.create(
        str(tmp_path_factory.mktemp("G") / "G"),
        GallerySpec(DIM, "e" * 64, "p" * 64, "d" * 64, rows_per_shard=90),
    )
    lifecycle.enroll(made, [table])
    return made


def _pairs(gallery: Gallery, out: Path, kernel: Wish) -> tuple[list[dict[str, object]], str, str]:
    execution = DedupExecution(block_rows=90, kernel=kernel)
    job = Dedup(str(out), gallery=gallery.uri, threshold=0.6, execution=execution, runtime=InThisProcess())
    done = job.run()
    table = pa.concat_tables(pq.read_table(path) for path in sorted((out / "pairs").glob("*.parquet")))
    return table.to_pylist(), done["kernel"], done["kernel_reason"]


@pytest.mark.parametrize("kernel", ["int8", "subspace", "subspace-int8", "auto"])
def test_pairs_are_those_of_float32_to_the_last_bit(kernel: Wish, gallery: Gallery, tmp_path: Path) -> None:
    plain, _, _ = _pairs(gallery, tmp_path / "plain", "fp32")
    found, name, why = _pairs(gallery, tmp_path / "out", kernel)
    assert len(plain) > 20
    assert found == plain
    assert name == ("fp32" if kernel == "auto" else kernel)
    assert why
