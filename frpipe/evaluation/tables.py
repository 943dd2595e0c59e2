"""Write an evaluation as files: Parquet for queries, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pyarrow as pa

from frpipe.evaluation.difference import Difference
from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.number import Number

FORMAT = "frpipe-metrics/1"

_TEXT, _REAL, _WHOLE = pa.string(), pa.float64(), pa.int64()
_TYPES = {"count": _WHOLE, "trials": _WHOLE, "significant": pa.bool_()}
_TEXTS = {"measure", "method", "support", "note", "column", "group", "first", "second"}
CURVES = pa.schema(
    [
        pa.field("name", _TEXT, False),
        pa.field("curve", _TEXT, False),
        pa.field("x", _REAL, False),
        pa.field("y", _REAL, False),
        *(pa.field(name, _REAL) for name in ("threshold", "low", "high")),
    ]
)


def numbers_table(evaluations: Sequence[Evaluation]) -> pa.Table:
    """Tabulate numbers, a row each: `name` of the system, then what `Number` holds."""
    rows = [{"name": one.name, **number.as_dict()} for one in evaluations for number in one.numbers]
    return pa.Table.from_pylist(rows, pa.schema([pa.field("name", _TEXT, False), *_schema(Number)]))


def curves_table(evaluations: Sequence[Evaluation]) -> pa.Table:
    """Tabulate curves, a row for each point."""
    tables = [CURVES.empty_table()]
    for one in evaluations:
        for curve, series in one.curves.items():
            columns: dict[str, Any] = {
                name: [text] * len(series.x) for name, text in (("name", one.name), ("curve", curve))
            }
            columns |= {name: getattr(series, name) for name in ("x", "y", "threshold", "low", "high")}
            empty = pa.nulls(len(series.x), _REAL)
            tables.append(
                pa.table(
                    [
                        empty if columns[name] is None else pa.array(columns[name], from_pandas=True)
                        for name in CURVES.names
                    ],
                    schema=CURVES,
                )
            )
    return pa.concat_tables(tables)


def differences_table(found: Sequence[Difference]) -> pa.Table:
    """Tabulate differences, a row each."""
    return pa.Table.from_pylist([one.as_dict() for one in found], pa.schema(_schema(Difference)))


def as_json(evaluations: Sequence[Evaluation], found: Sequence[Difference]) -> str:
    """The JSON form: numbers, counts, provenance and differences; curves are in the Parquet file.

    No photo is named.
    """
    data = {
        "format": FORMAT,
        "evaluations": [
            {
                "name": one.name,
                "task": one.task,
                "counts": dict(one.counts),
                "numbers": [_known(number.as_dict()) for number in one.numbers],
                "provenance": dict(one.provenance),
                "warnings": list(one.warnings),
            }
            for one in evaluations
        ],
        "differences": [_known(asdict(one)) for one in found],
    }
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def _schema(kind: type[Number] | type[Difference]) -> list[pa.Field]:
    return [
        pa.field(
            one.name, _TYPES.get(one.name, _TEXT if one.name in _TEXTS else _REAL), one.name != "measure"
        )
        for one in fields(kind)
    ]


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """Drop what is None; write infinity, the threshold that nothing reaches, as text."""
    return {
        name: str(value) if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in values.items()
        if value is not None
    }
