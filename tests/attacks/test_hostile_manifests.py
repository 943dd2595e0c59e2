"""Manifests that are damaged, or mean harm: read as data or refused, never a crash, never half believed."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frpipe.core.errors import ManifestError
from frpipe.io.output.plan import plan, read_part
from frpipe.io.storage.folder import Folder

ROOT = Path(__file__).resolve().parents[2]
HEADER = b"image_id,image_uri\n"
PLAN = """
import sys
from frpipe.core.errors import ManifestError
from frpipe.io.storage.folder import Folder
from frpipe.io.output.plan import plan
try:
    plan(sys.argv[1], Folder.at(sys.argv[2]))
except ManifestError as error:
    sys.exit(error.message)
"""


def write(folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


def refusal(folder: Path, name: str, data: bytes) -> str:
    """What is said, of a manifest that must be refused, with nothing of a plan left behind."""
    with pytest.raises(ManifestError) as caught:
        plan(write(folder, name, data), Folder.at(str(folder / "out")))
    assert not (folder / "out/_plan/plan.json").exists()
    assert len(caught.value.message) < 1000
    assert caught.value.message.isprintable()
    return caught.value.message


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def plain(rows: int = 300) -> pa.Table:
    return pa.table(
        {"image_id": [f"id{n}" for n in range(rows)], "image_uri": [f"p/{n}.jpg" for n in range(rows)]}
    )


def nested(levels: int) -> pa.Table:
    kind = pa.int8()
    for _ in range(levels):
        kind = pa.list_(kind)
    return pa.table({"image_uri": ["x"], "n": pa.array([None], kind)})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("nul.csv", HEADER + b"a,x\0.jpg\n"),
        ("nul-header.csv", b"image_id,image\0_uri\na,b\n"),
        ("nothing-but-nul.csv", bytes(100_000)),
        ("escape.csv", b"\x1b[2J" * 50_000 + b",b\n1,2\n"),
        ("utf16.csv", "image_id,image_uri\na,b\n".encode("utf-16")),
        ("unquoted.csv", HEADER + b'a,"x.jpg\n' * 1000),
        ("parent.csv", HEADER + b"a,../../../etc/passwd\n"),
        ("chain.csv", HEADER + b"a,zip://x::/etc/passwd\n"),
        ("web.csv", HEADER + b"a,http://169.254.169.254/latest/meta-data\n"),
        ("array.jsonl", b"[1,2]\n"),
        ("surrogate.jsonl", b'{"image_uri":"x\\ud800y"}\n'),
        ("nul.jsonl", b'{"image_uri":"x\\u0000y"}\n'),
        ("twice.jsonl", b'{"image_uri":"x","image_uri":"y"}\n'),
        ("nested.parquet", parquet(nested(300))),
        ("uri.parquet", parquet(pa.table({"image_uri": pa.array([b"\xff\xfe"]).view(pa.string())}))),
    ],
)
def test_what_cannot_be_meant_is_refused(name: str, data: bytes, tmp_path: Path) -> None:
    refusal(tmp_path, name, data)


@pytest.mark.parametrize("inner", [b"[", b'{"a":'])
def test_deep_nesting_does_not_end_the_process(inner: bytes, tmp_path: Path) -> None:
    """In a process of its own: what it ends, it ends without a word."""
    closing = (b"]" if inner == b"[" else b"}") * 100_000
    value = inner * 100_000 + (b"1" if inner != b"[" else b"") + closing
    path = write(tmp_path, "deep.jsonl", b'{"image_uri":"x"}\n{"image_uri":"y","n":' + value + b"}\n")
    done = subprocess.run(
        [sys.executable, "-c", PLAN, path, str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "line 2 of deep.jsonl is nested" in done.stderr) == (1, True), done.stderr


def test_brackets_in_strings_are_no_nesting(tmp_path: Path) -> None:
    path = write(tmp_path, "m.jsonl", b'{"image_uri":"x","n":"%s \\" ["}\n' % (b"[{" * 1000))
    assert plan(path, Folder.at(str(tmp_path / "out"))).rows == 1


@pytest.mark.parametrize(
    "id",
    [
        "../../../etc/passwd",
        "/etc/passwd",
        "\x1b[2J\x07",
        "a\nb",
        "i" * 65_536,
        "\u202egpj.exe",
        "'; DROP TABLE",
    ],
)
def test_absurd_ids_are_data_and_name_no_file(id: str, tmp_path: Path) -> None:
    table = pa.table({"image_id": [id], "image_uri": ["x.jpg"]})
    out = Folder.at(str(tmp_path / "out"))
    plan(write(tmp_path, "m.parquet", parquet(table)), out)
    assert read_part(out, 0)["image_id"].to_pylist() == [id]
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "m.parquet",
        "plan.json",
        "part-000000.parquet",
    }


def test_metadata_of_a_file_is_not_believed_and_does_not_travel(tmp_path: Path) -> None:
    hostile = plain().replace_schema_metadata({"x" * 70_000: "y" * (5 << 20), "pandas": "{{{"})
    out = Folder.at(str(tmp_path / "out"))
    assert plan(write(tmp_path, "m.parquet", parquet(hostile)), out).rows == 300
    assert (tmp_path / "out/_plan/part-000000.parquet").stat().st_size < 50_000


def test_a_parquet_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = parquet(plain())
    for cut in (0, 3, 4, 8, 12, 100, len(whole) // 2, len(whole) - 9, len(whole) - 8, len(whole) - 1):
        assert "not Parquet" in refusal(tmp_path, "m.parquet", whole[:cut])


def test_a_mangled_parquet_file_is_read_or_refused(tmp_path: Path) -> None:
    whole, chance = parquet(plain()), random.Random(2026)
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    refused = 0
    for number in range(150):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(footer if number % 2 else 4, len(data) - 4)] ^= 1 << chance.randrange(8)
        try:
            plan(write(tmp_path, "m.parquet", bytes(data)), Folder.at(str(tmp_path / f"out{number}")))
        except ManifestError:
            refused += 1
    assert refused > 100
