"""Lists made with a seed: each is read as csv, DuckDB and json read it, or is refused with its line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from frpipe.core.errors import ManifestError
from frpipe.io.manifest.formats import jsonl, text
from frpipe.io.manifest.row_list import RowList

Rows = list[dict[str, Any]]
NAMES = ["image_uri", "note", "site"]
PIECES = [
    "a",
    "Zoë",
    "김",
    "0",
    "007",
    "1e5",
    " ",
    ",",
    ";",
    "|",
    "'",
    "\\",
    "#",
    "NA",
    "-",
    "日本",
    "x y",
    "\u2028",
]


def _read(path: Path) -> Rows:
    found = RowList.opened(str(path), "list", frozenset({"image_uri"}), frozenset())
    return [row for batch in found.batches() for row in batch.rows.to_pylist()]


def _refusal(path: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        _read(path)
    assert path.name in caught.value.message, "it names the file"
    assert caught.value.remedy
    return caught.value.message


class Made:
    """A list with everything that CSV allows: 40 rows, values with quotes and separators in quotes."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.rows = [
            {"image_uri": f"p/{n}.jpg", "note": self._value(), "site": self._value()} for n in range(40)
        ]
        self.bad = self.chance.randrange(40)

    def _value(self) -> str:
        return "".join(self.chance.choices([*PIECES, '"'], k=self.chance.randrange(6)))

    def lines(self, separator: str = ",", quoting: int = csv.QUOTE_MINIMAL) -> list[str]:
        out = io.StringIO()
        writer = csv.DictWriter(out, NAMES, delimiter=separator, quoting=quoting, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return out.getvalue().split("\n")[:-1]

    def broken(self, line: str) -> list[str]:
        """The lines with one of them replaced: line number `bad` + 2."""
        lines = self.lines()
        lines[self.bad + 1] = line
        return lines


def _plain(made: Made) -> tuple[str, bytes]:
    return "m.csv", "\n".join(made.lines()).encode()


def _quoted(made: Made) -> tuple[str, bytes]:
    return "m.csv", ("\n".join(made.lines(quoting=csv.QUOTE_ALL)) + "\n").encode()


def _crlf_and_mark(made: Made) -> tuple[str, bytes]:
    return "m.csv", "\r\n".join(made.lines()).encode("utf-8-sig")


def _blank_lines(made: Made) -> tuple[str, bytes]:
    lines = ["", "", *made.lines()]
    lines.insert(7, "")
    return "m.csv", ("\n".join(lines) + "\n\n\n").encode()


def _packed(made: Made) -> tuple[str, bytes]:
    return "m.csv.gz", gzip.compress("\n".join(made.lines()).encode())


def _packed_by_zstd(made: Made) -> tuple[str, bytes]:
    return "m.tsv.zst", pa.compress("\n".join(made.lines("\t")).encode(), "zstd", asbytes=True)


READ: dict[Callable[[Made], tuple[str, bytes]], str] = {
    _plain: ",",
    _quoted: ",",
    _crlf_and_mark: ",",
    _blank_lines: ",",
    _packed: ",",
    _packed_by_zstd: "\t",
    lambda made: ("m.csv", "\n".join(made.lines(";")).encode()): ";",
    lambda made: ("m.csv", "\n".join(made.lines("|")).encode()): "|",
    lambda made: ("m.TSV", "\n".join(made.lines("\t")).encode()): "\t",
    lambda made: ("m.csv", "\n".join(made.lines("\t")).encode()): "\t",
}
BROKEN = {
    "a quote within a value": 'p/x.jpg,a "b" c,d',
    "a quote at the end": 'p/x.jpg,12",d',
    "escaped as Spark does": r'p/x.jpg,"say \"hi\" now",d',
    "two escaped as Spark does": r'p/x.jpg,"a \"","\" b"',
    "not closed": 'p/x.jpg,"a,d',
    "not closed at the end": 'p/x.jpg,a,"',
    "a line break in quotes": 'p/x.jpg,"a\nb",d',
    "text after a quote": 'p/x.jpg,"a"b,d',
    "a blank before a quote": 'p/x.jpg, "a, b",d',
    "too few": "p/x.jpg,a",
    "too many": "p/x.jpg,a,b,",
    "a carriage return alone": "p/x.jpg,a\rb,c",
    "a carriage return in quotes": 'p/x.jpg,"a\rb",c',
}


@pytest.mark.parametrize("seed", range(30))
def test_a_list_is_read_as_csv_and_duckdb_read_it(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_BLOCK_BYTES", 40 + 31 * seed)
    monkeypatch.setattr(text, "_TAIL_BYTES", 1 + seed % 7)
    make, separator = list(READ.items())[seed % len(READ)]
    name, data = make(Made(seed))
    (tmp_path / name).write_bytes(data)
    plain = gzip.decompress(data) if name.endswith(".gz") else data
    plain = pa.input_stream(pa.BufferReader(data), "zstd").read() if name.endswith(".zst") else plain
    reader = csv.DictReader(
        io.StringIO(plain.decode("utf-8-sig").lstrip("\n"), ""), delimiter=separator, strict=True
    )
    expected = [{key: value or None for key, value in row.items()} for row in reader]
    assert len(expected) == 40
    assert _read(tmp_path / name) == expected
    (tmp_path / "plain.csv").write_bytes(plain.removeprefix(b"\xef\xbb\xbf").lstrip(b"\n"))
    options = (
        f"delim='{separator}', header=true, all_varchar=true, quote='\"', escape='\"', auto_detect=false"
    )
    columns = "columns={" + ", ".join(f"'{name}': 'VARCHAR'" for name in NAMES) + "}"
    found = duckdb.sql(f"select * from read_csv('{tmp_path}/plain.csv', {options}, {columns})").fetchall()
    assert [dict(zip(NAMES, (value or None for value in row), strict=True)) for row in found] == expected


@pytest.mark.parametrize("kind", BROKEN)
def test_a_line_that_programs_read_differently_is_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, block in ((1, 1 << 20), (2, 50)):
        monkeypatch.setattr(text, "_BLOCK_BYTES", block)
        made = Made(seed)
        path = tmp_path / "m.csv"
        path.write_bytes("\n".join(made.broken(BROKEN[kind])).encode())
        assert re.search(rf"line {made.bad + 2} of m.csv\b", _refusal(path))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("image_uri,note\np,x\n".encode("utf-16"), "UTF-16"),
        ("image_uri,note\np,x\n".encode("utf-16-le"), "UTF-16"),
        ("image_uri,note\np,x\nq,Zoë\n".encode("latin-1"), "line 3 of m.csv is not UTF-8"),
        (b"image_uri,note\rp,x\rq,y\r", "line 1 of m.csv: a carriage return"),
        (b"PK\x03\x04abc", "spreadsheet"),
        (gzip.compress(b"image_uri\np\n", mtime=0), "packed with gzip"),
        (b"PAR1....", "is Parquet"),
        (b'image_uri,"no\nte"\np,x\n', "line 1 of m.csv"),
    ],
)
def test_other_kinds_of_file_are_named(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(data)
    assert said in _refusal(tmp_path / "m.csv")


def _json_rows(chance: random.Random) -> Rows:
    def value(depth: int = 0) -> Any:
        kinds = [
            lambda: "".join(chance.choices(PIECES, k=3)),
            lambda: chance.choice(["2026-01-02", "2026-01-02T03:04:05", "12:30", "\\u0041", "NaN", "\n"]),
        ]
        return chance.choice(kinds)()

    return [
        {
            "image_uri": f"p/{n}.jpg",
            "text": value(),
            "number": chance.randrange(-(2**53), 2**53),
            "real": chance.random() * 10 ** chance.randrange(-20, 20),
            "truth": chance.random() < 0.5,
            "list": [value() for _ in range(chance.randrange(3))],
            "inner": {"when": "2026-01-02", "n": chance.randrange(9), "s": value()},
        }
        for n in range(60)
    ]


@pytest.mark.parametrize("seed", range(9))
def test_json_is_read_as_json_reads_it(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_BLOCK_BYTES", 900 + 777 * seed)
    monkeypatch.setattr(jsonl, "_BLOCK_CHARS", 2000)
    chance = random.Random(seed)
    rows = _json_rows(chance)
    ascii_only, indent = seed % 2 == 0, [None, 2][seed % 2]
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    name, content = [
        ("m.jsonl", "\n".join(lines)),
        ("m.json", json.dumps(rows, indent=indent, ensure_ascii=ascii_only)),
        ("m.json", "\r\n".join(["", *lines, "", ""])),
    ][seed % 3]
    (tmp_path / name).write_text(content, encoding="utf-8-sig" if seed > 5 else "utf-8")
    assert _read(tmp_path / name) == rows


@pytest.mark.parametrize(
    "line",
    [
        '{"image_uri": "x", "number": NaN}',
        '{"image_uri": "x", "number": 01}',
        '{"image_uri": "x", "number": 1,}',
        '{"image_uri": "x", "number": true}',
        '{"image_uri": "x", "number": "1"}',
        '{"image_uri": "x", "number": 12345678901234567890}',
        '{"image_uri": "x", "real": 9007199254740993}',
        '{"image_uri": "x", "image_uri": "y"}',
        '{"image_uri": "x\\ud800"}',
        "{'image_uri': 'x'}",
        '{"image_uri": "x"} {"image_uri": "y"}',
        '{"image_uri": "x"',
        "null",
        "[1]",
        "1",
        '"x"',
    ],
)
@pytest.mark.parametrize("array", [False, True])
def test_an_object_that_is_none_or_does_not_fit_is_refused(line: str, array: bool, tmp_path: Path) -> None:
    good = '{"image_uri": "%d", "number": 1, "real": 0.5, "inner": {"n": 1}}'
    rows = [good % n for n in range(40)]
    rows[17] = line
    if array:
        (tmp_path / "m.json").write_text("[" + ",\n".join(rows) + "]")
        assert re.search(r"item 1[89] of m.json", _refusal(tmp_path / "m.json"))
    else:
        (tmp_path / "m.json").write_text("\n".join(rows))
        assert "line 18 of m.json" in _refusal(tmp_path / "m.json")


@pytest.mark.parametrize("late", ['"number": 1.5', '"inner": {"more": 1}', '"other": 1'])
def test_what_the_first_block_does_not_know_is_refused_later(
    late: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f'{{"image_uri": "{n}", "number": 1, "inner": {{"n": 1}}}}' for n in range(40)]
    lines[30] = f'{{"image_uri": "x", {late}}}'
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    assert _read(tmp_path / "m.jsonl")[30]["image_uri"] == "x", "one block settles them together"
    monkeypatch.setattr(text, "_BLOCK_BYTES", 200)
    assert "line 31 of m.jsonl" in _refusal(tmp_path / "m.jsonl")


@pytest.mark.parametrize(
    "content", ["[", '[{"image_uri": "x"}', '[{"image_uri": "x"},]', '[{"image_uri": "x"}] x']
)
def test_an_array_that_does_not_end_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(content)
    _refusal(tmp_path / "m.json")


def test_a_packed_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    data = gzip.compress("\n".join(Made(1).lines()).encode())
    for end in (-1, -8, -40, len(data) // 2):
        (tmp_path / "m.csv.gz").write_bytes(data[:end])
        assert "cut short" in _refusal(tmp_path / "m.csv.gz")
