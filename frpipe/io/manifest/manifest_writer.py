"""Write a manifest in any of its formats, batch by batch.

A spreadsheet that opens a CSV file takes a cell that begins with =, +, -, @, a tab or a line break for a
formula, and works it out, whoever named the photo. To change the cell would change an id: it is not written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.csv import CSVWriter

from frpipe.core.errors import ManifestError
from frpipe.io.manifest.list_files import Format

# The wide forms too, which spreadsheets of some languages read likewise.
_FORMULA = r"^[=+\-@\t\r\n\x{FF1D}\x{FF0B}\x{FF0D}\x{FF20}](?s:.)"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def write_manifest(path: Path, format: Format, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write batches of `schema` to a local file.

    Raises ManifestError where a CSV file would hold what a spreadsheet takes for a formula, or line breaks.
    """
    if format == "jsonl":
        _write_jsonl(path, batches)
        return
    if format == "csv":
        batches = _without_formulas(schema, batches)
    with pq.ParquetWriter(path, schema) if format == "parquet" else CSVWriter(path, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def _without_formulas(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    if any(_formulas(pa.array(schema.names, pa.string()))):
        raise _refused("a column's name begins")
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    for batch in batches:
        for name in texts:
            if pc.any(pc.match_substring_regex(batch.column(name), "[\r\n]")).as_py():
                raise ManifestError(
                    f"{name} holds line breaks, which a list in CSV may not", "write a .parquet or .jsonl"
                )
            if count := sum(_formulas(batch.column(name))):
                raise _refused(f"{name} of {count:,} row{'s' * (count > 1)} or more begins")
        yield batch


def _formulas(texts: pa.Array) -> list[bool]:
    """Mark the texts that a spreadsheet would evaluate; a sign alone, or before a number, does no harm."""
    is_one = pc.and_not(pc.match_substring_regex(texts, _FORMULA), pc.match_substring_regex(texts, _NUMBER))
    found: list[bool] = pc.fill_null(is_one, False).to_pylist()
    return found


def _refused(what: str) -> ManifestError:
    return ManifestError(
        f"{what} as a formula does (=, +, -, @), which a spreadsheet that opens a .csv works out",
        "write a .parquet or .jsonl, which hold it as it is",
    )


def _write_jsonl(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for batch in batches:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist())
