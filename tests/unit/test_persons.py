"""The list of people: one row each, in order, page by page the same as at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from frpipe.cli.main import main
from frpipe.cli.table import printable, table
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.persons import persons
from frpipe.gallery.schema import vector_array
from frpipe.gallery.spec import GallerySpec

DIM = 4


def _rows(ids: list[str], face: str, **attributes: list[str | None]) -> pa.Table:
    columns = {"subject_id": ids, "face_id": [face] * len(ids)}
    vectors = vector_array(np.eye(1, DIM, dtype=np.float32).repeat(len(ids), axis=0))
    own = {name: pa.array(values, pa.string()) for name, values in attributes.items()}
    return pa.table({**columns, "embedding": vectors, **own})


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """A hundred people in several shards; their second templates, with another attribute, lie in others."""
    made = Gallery.create(str(tmp_path / "G"), GallerySpec(DIM, "e", "p", "d", rows_per_shard=16))
    ids = [f"p{n:03d}" for n in range(100)]
    lifecycle.enroll(made, [_rows(ids, "f0", Name=[None] * 100, City=["Seoul", "Busan"] * 50)])
    lifecycle.enroll(made, [_rows(ids[:10], "f1", Name=["김지수"] * 10)], "append")
    return made


def test_a_person_is_one_row_with_what_is_known_anywhere(gallery: Gallery) -> None:
    found = persons(gallery.snapshot())
    assert found["subject_id"].to_pylist() == [f"p{n:03d}" for n in range(100)]
    assert found["templates"].to_pylist() == [2] * 10 + [1] * 90
    assert found.slice(1, 1).select(["Name", "City"]).to_pylist() == [{"Name": ["김지수"], "City": ["Busan"]}]
    assert found["Name"].to_pylist().count([]) == 90


def test_pages_are_pieces_of_the_whole(gallery: Gallery) -> None:
    whole, after, pages = persons(gallery.snapshot()), "", []
    while (page := persons(gallery.snapshot(), after=after, limit=7)).num_rows:
        pages.append(page)
        after = page["subject_id"][-1].as_py()
    assert len(pages) == 15
    assert pa.concat_tables(pages).combine_chunks().equals(whole.combine_chunks())


def test_a_filter_counts_the_templates_that_match(gallery: Gallery) -> None:
    found = persons(gallery.snapshot(), {"City": "Seoul"}, limit=3)
    assert found["subject_id"].to_pylist() == ["p000", "p002", "p004"]
    assert found["templates"].to_pylist() == [1, 1, 1]


def test_an_empty_gallery_lists_nobody(tmp_path: Path) -> None:
    made = Gallery.create(str(tmp_path / "E"), GallerySpec(DIM, "e", "p", "d"))
    assert persons(made.snapshot(), limit=5).num_rows == 0


def test_a_name_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\n") == "a\\x1b[2Jb\\n"
    assert table(("id", "n"), [("김지수", 1), (None, 22)]).splitlines() == [
        "id      n",
        "김지수  1",
        "        22",
    ]


def test_delete_of_nobody_says_so(gallery: Gallery, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", "delete", gallery.uri, "nobody"]) == 10
    said = capsys.readouterr()
    assert "nobody was deleted" in said.err
    assert "stay" not in said.out + said.err
    assert gallery.snapshot().number == 2


def test_delete_counts_the_unknown(gallery: Gallery, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery", "delete", gallery.uri, "p000", "x", "y"]) == 10
    assert "1 person deleted (2 templates), 2 unknown; version 3" in capsys.readouterr().out
    assert main(["gallery", "delete", gallery.uri, "p001"]) == 0


def test_ids_of_a_file_end_at_line_feeds_alone(gallery: Gallery, tmp_path: Path) -> None:
    lifecycle.enroll(gallery, [_rows(["a\u2028b", "c"], "f0")])
    (tmp_path / "ids.txt").write_bytes("\ufeffa\u2028b\r\nc\r\n".encode())
    assert main(["gallery", "delete", gallery.uri, "--from", str(tmp_path / "ids.txt")]) == 0
    assert gallery.snapshot().subjects == 100


@pytest.mark.parametrize(
    "words",
    [
        ["gallery", "delete", "G", "\udcff"],
        ["gallery", "list", "G", "--limit", "-1"],
        ["gallery", "outliers", "G", "--limit", "0"],
        ["identify", "a.jpg", "--gallery", "G", "--top", "0"],
        ["identify", "a.jpg", "--gallery", "G", "--top", "-3"],
    ],
)
def test_what_no_command_can_take_is_a_mistake_of_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
