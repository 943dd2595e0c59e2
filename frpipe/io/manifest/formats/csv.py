"""Manifests in CSV: UTF-8, commas, one header line, values quoted by `"` where they need it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pc

from frpipe.core.errors import ManifestError

_BLOCK_BYTES = 1 << 20
_REMEDY = "save it as UTF-8 text with commas and one header line"


def schema(file: BinaryIO) -> pa.Schema:
    """The header's columns, each a string."""
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    try:
        header = next(csv.reader(text), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestError("a .csv file of the manifest cannot be read", _REMEDY) from error
    finally:
        text.detach()
    return pa.schema([pa.field(name, pa.string()) for name in header])


def batches(
    file: BinaryIO, columns: Sequence[str], names: Sequence[str], bad_row: Callable[[int], None]
) -> Iterator[pa.RecordBatch]:
    """The rows in order, all columns as strings, empty values as null.

    names: the header.  bad_row: told the number of each row with too few or too many columns.
    """

    def skip(row: pc.InvalidRow) -> str:
        bad_row(row.number - 1)
        return "skip"

    try:
        reader = pc.open_csv(
            file,
            read_options=pc.ReadOptions(
                use_threads=False, block_size=_BLOCK_BYTES, column_names=list(names), skip_rows_after_names=1
            ),
            parse_options=pc.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
            convert_options=pc.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=list(columns),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
        yield from reader
    except (pa.ArrowInvalid, NotImplementedError) as error:
        if "Empty CSV file" in str(error):
            return
        raise ManifestError("a .csv file of the manifest cannot be read", _REMEDY) from None
