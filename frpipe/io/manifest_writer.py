"""Writes a manifest in any of its formats, batch by batch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from frpipe.io.manifest import Format


def write_manifest(path: Path, format: Format, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write batches of `schema` to a local file."""
    if format == "jsonl":
        _write_jsonl(path, batches)
        return
    with pq.ParquetWriter(path, schema) if format == "parquet" else pc.CSVWriter(path, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_jsonl(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for batch in batches:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())
