"""Manifests made of folders of photos, and the command."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3server import S3, s3  # noqa: F401

from frpipe.cli.main import main
from frpipe.core.errors import ConfigError, ManifestError
from frpipe.io.manifest.admission import admitted
from frpipe.io.manifest.manifest import Manifest
from frpipe.io.manifest.manifest_writer import write_manifest
from frpipe.io.manifest.scan import Scan, scan
from frpipe.io.storage.folder import Folder
from frpipe.runtime import cpus


def _photos(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def _rows(path: Path | str) -> list[tuple[str, str, str | None]]:
    table = pa.concat_tables(admitted(Manifest.open(str(path)), ()))
    return [(r["image_id"], r["image_uri"], r["subject_id"]) for r in table.to_pylist()]


@pytest.mark.parametrize("name", ["m.parquet", "m.csv", "m.jsonl"])
def test_one_folder_per_person(tmp_path: Path, name: str) -> None:
    source = _photos(
        tmp_path / "p", "B/2.jpg", "A b/1.JPG", "A-b/1.png", "B/.hidden.jpg", "B/notes.txt", ".x/3.jpg"
    )
    found = scan(str(source), str(tmp_path / name))
    ids = ["A b/1.JPG", "A-b/1.png", "B/2.jpg"]
    assert _rows(tmp_path / name) == [(i, f"{source}/{i}", i.split("/")[0]) for i in ids]
    assert (found.photos, found.subjects, dict(found.suffixes)) == (3, 3, {".jpg": 2, ".png": 1})


def test_a_flat_folder_has_no_subjects(tmp_path: Path) -> None:
    found = scan(str(_photos(tmp_path / "p", "1.jpg", "2.jpg")), str(tmp_path / "m.csv"))
    assert [row[2] for row in _rows(tmp_path / "m.csv")] == [None, None]
    assert found.subjects is None


def test_mixed_depths_are_not_guessed_at(tmp_path: Path) -> None:
    source = _photos(tmp_path / "p", "0.jpg", "A/1.jpg", "x/B/2.jpg")
    assert scan(str(source), str(tmp_path / "m.csv")).subjects is None
    assert scan(str(source), str(tmp_path / "m.csv"), "folder").subjects == 2
    assert [row[2] for row in _rows(tmp_path / "m.csv")] == [None, "A", "B"]
    source = _photos(tmp_path / "q", "A/1.jpg")
    assert scan(str(source), str(tmp_path / "m.csv"), "none").subjects is None


def test_paths_are_sorted_as_a_whole(tmp_path: Path) -> None:
    source = _photos(tmp_path / "p", "a/1.jpg", "a-b.jpg", "a.jpg", "b.jpg", "a/b/1.jpg")
    scan(str(source), str(tmp_path / "m.csv"))
    ids = [row[0] for row in _rows(tmp_path / "m.csv")]
    assert ids == sorted(ids)
    assert len(ids) == 5


@pytest.mark.parametrize(
    ("glob", "taken"),
    [
        ("*.jpg", ["0.jpg"]),
        ("*/*.jpg", ["a/1.jpg", "b/1.jpg"]),
        ("*/*", ["a/1.jpg", "a/1.png", "b/1.jpg"]),
        ("a/**", ["a/1.jpg", "a/1.png", "a/x/2.jpg", "a/x/[1] 3.jpg"]),
        ("**/*.jpg", ["0.jpg", "a/1.jpg", "a/x/2.jpg", "a/x/[1] 3.jpg", "b/1.jpg"]),
        ("a/**/[0-9].jpg", ["a/1.jpg", "a/x/2.jpg"]),
        ("[!b]/?.jpg", ["a/1.jpg"]),
        ("**/[[]1[]] *", ["a/x/[1] 3.jpg"]),
        ("**/[[]?] *", ["a/x/[1] 3.jpg"]),
        ("a[/]1.jpg", []),
    ],
)
def test_a_star_stops_at_a_slash_and_two_do_not(tmp_path: Path, glob: str, taken: list[str]) -> None:
    names = ("0.jpg", "a/1.jpg", "a/x/2.jpg", "b/1.jpg", "a/1.png", "a/x/[1] 3.jpg")
    source = _photos(tmp_path / "p", *names)
    if not taken:
        with pytest.raises(ManifestError, match="6 photos left out: the glob does not match"):
            scan(str(source), str(tmp_path / "m.jsonl"), glob=glob)
        return
    found = scan(str(source), str(tmp_path / "m.jsonl"), glob=glob)
    assert [row[0] for row in _rows(tmp_path / "m.jsonl")] == taken
    assert found.left_out.not_in_glob == 6 - len(taken)


def test_patterns_and_paths_are_compared_in_nfc(tmp_path: Path) -> None:
    nfc = "Zo\u00eb"
    source = _photos(tmp_path / "p", f"{unicodedata.normalize('NFD', nfc)}/1.jpg", "bob/1.jpg")
    assert scan(str(source), str(tmp_path / "m.csv"), glob=f"{nfc}/*").photos == 1
    assert scan(str(source), str(tmp_path / "m.csv"), exclude=[nfc]).photos == 1


def test_what_is_no_pattern_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[z-a\]"):
        scan(str(_photos(tmp_path / "p", "1.jpg")), str(tmp_path / "m.csv"), exclude=["[z-a]*"])


OURS = ("anna/1.jpg", "bob/2.JPG", "lib.photoslibrary/originals/3.jpg")
SYSTEMS = (
    "anna/@eaDir/1.jpg/SYNOPHOTO_THUMB_XL.jpg",
    "#recycle/cid/9.jpg",
    "$Recycle.Bin/S-1-5/x.jpg",
    "@Recycle/y.jpg",
    "LOST.DIR/System volume information/z.jpg",
    "lost+found/1.jpg",
    "bob/__MacOSX/1.jpg",
    "_vti_cnf/1.jpg",
    "Catalog Previews.lrdata/A/1.jpg",
    "lib.photoslibrary/resources/derivatives/3.jpg",
    "anna/SYNOFILE_THUMB_M_1.jpg",
    "anna/Thumbs.db",
)
HIDDEN = (
    ".Trash-1000/files/a.jpg",
    "anna/.@__thumb/1.jpg",
    "anna/.thumbnails/2.jpg",
    "anna/.picasaoriginals/1.jpg",
    ".AppleDouble/1.jpg",
    ".Spotlight-V100/1.jpg",
    "anna/._1.jpg",
)
OTHERS = ("anna/1.CR2", "anna/1.nef", "anna/1.mov", "anna/1.xmp", "anna/README", "bob/1.heyho-what-is-this")


@pytest.fixture(params=["local", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """An empty folder on a disk, or in a store."""
    return Folder.at(
        str(tmp_path / "p") if request.param == "local" else f"{request.getfixturevalue('s3').uri}/p"
    )


class TestLeftOut:
    def test_what_systems_make_is_left_out_and_counted_by_name(
        self, anywhere: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in (*OURS, *SYSTEMS, *HIDDEN, *OTHERS):
            anywhere.write(name, b"x")
        manifest = str(tmp_path / "m.jsonl")
        found = scan(anywhere.uri, manifest)
        assert [row[0] for row in _rows(manifest)] == sorted(OURS)
        assert found.left_out.system.total() == len(SYSTEMS)
        assert found.left_out.system["@eaDir"] == 1
        assert found.left_out.facts() == {
            "system": 12, "hidden": 7, "raw": 2, "video": 1, "sidecar": 1, "other": 2
        }  # fmt: skip
        assert main(["manifest", "scan", anywhere.uri, "-o", manifest]) == 0
        printed = capsys.readouterr().out
        assert "12 left out, as systems make them: 1 " in printed
        assert "7 left out, hidden files and folders (--system takes them)" in printed
        assert "2 left out, no photos but raw: 1 .cr2, 1 .nef" in printed
        assert main(["manifest", "scan", anywhere.uri, "-o", manifest, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["photos"], told["left_out"]["hidden"], told["links_outside"]) == (3, 7, 0)
        every = [name for name in (*OURS, *SYSTEMS, *HIDDEN) if not name.endswith(".db")]
        assert main(["manifest", "scan", anywhere.uri, "-o", manifest, "--system"]) == 0
        assert [row[0] for row in _rows(manifest)] == sorted(every)

    def test_patterns_exclude_by_name_at_any_depth_or_by_path(self, anywhere: Folder, tmp_path: Path) -> None:
        for name in ("a/1.jpg", "a/old/2.jpg", "a/old/x/3.jpg", "b/old.jpg", "b/tmp-1.jpg", "old/4.jpg"):
            anywhere.write(name, b"x")
        target = str(tmp_path / "m.jsonl")
        for exclude, taken in {
            ("old",): ["a/1.jpg", "b/old.jpg", "b/tmp-1.jpg"],
            ("old/", "tmp-*"): ["a/1.jpg", "b/old.jpg"],
            ("a/*/x", "b/**"): ["a/1.jpg", "a/old/2.jpg", "old/4.jpg"],
            ("/old",): ["a/1.jpg", "a/old/2.jpg", "a/old/x/3.jpg", "b/old.jpg", "b/tmp-1.jpg"],
        }.items():
            found = scan(anywhere.uri, target, exclude=exclude)
            assert [row[0] for row in _rows(target)] == taken, exclude
            assert found.left_out.excluded
        assert main(["manifest", "scan", anywhere.uri, "-o", target, "--exclude", "a", "--exclude", "b"]) == 0
        assert [row[0] for row in _rows(target)] == ["old/4.jpg"]

    def test_a_folder_that_is_a_systems_itself_is_scanned(self, tmp_path: Path) -> None:
        source = _photos(tmp_path / "#recycle", "anna/1.jpg")
        assert scan(str(source), str(tmp_path / "m.csv")).subjects == 1

    def test_a_link_into_what_is_left_out_is_followed_and_what_leads_nowhere_is_named(
        self, tmp_path: Path
    ) -> None:
        source = _photos(tmp_path / "p", "anna/1.jpg", "@eaDir/2.jpg", "old/3.jpg")
        for name, target in {"bob": "@eaDir", "cid": "old", "dan": "/no/where", "anna/x": "../anna"}.items():
            (source / name).symlink_to(target)
        os.mkfifo(source / "anna/pipe.jpg")
        found = scan(str(source), str(tmp_path / "m.csv"), exclude=["old"])
        assert [row[0] for row in _rows(tmp_path / "m.csv")] == ["anna/1.jpg", "bob/2.jpg", "cid/3.jpg"]
        assert (found.links.followed, found.links.repeated, found.links.broken) == (2, ["anna/x"], ["dan"])
        assert found.left_out.special == 1


def test_a_prefix_on_s3(s3: S3, tmp_path: Path) -> None:  # noqa: F811
    folder = Folder.at(s3.uri)
    for name in ("p/B/2.jpg", "p/A/1.jpg", "p/A-b/1.jpg", "p/A/x.txt"):
        folder.write(name, b"x")
    scan(f"{s3.uri}/p/", f"{s3.uri}/m.parquet")
    ids = ["A-b/1.jpg", "A/1.jpg", "B/2.jpg"]
    assert _rows(f"{s3.uri}/m.parquet") == [(i, f"{s3.uri}/p/{i}", i.split("/")[0]) for i in ids]
    assert scan(f"{s3.uri}/p", str(tmp_path / "local.csv")).photos == 3


class TestLinks:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        """A folder with links of every kind; beside it lie things that are no business of its owner."""
        _photos(tmp_path / "secret", "id.jpg", "more/2.jpg")
        source = _photos(tmp_path / "p", "A/1.jpg", "B/1.jpg", ".store/3.jpg", ".store/deep/4.jpg", "C/blob")
        for name, target in {
            "A/out.jpg": "../../secret/id.jpg",
            "A/absolute.jpg": str(tmp_path / "secret/id.jpg"),
            "out": "../secret",
            "A/same.jpg": "1.jpg",
            "B/same.jpg": "../A/1.jpg",
            "A/stored.jpg": "../.store/3.jpg",
            "B/stored.jpg": "../.store/3.jpg",
            "B/blob.jpg": "../C/blob",
            "D": ".store/deep",
            "E": ".store/deep",
            "again": ".",
            ".store/deep/up": "..",
            "A/nothing.jpg": "../none.jpg",
            "A/self.jpg": "self.jpg",
            "A/notes.txt": "/etc/hostname",
            "loop": "loop",
        }.items():
            (source / name).symlink_to(target)
        return source

    @staticmethod
    def _ids(source: Path, **options: Any) -> tuple[Scan, list[str]]:
        manifest = source.parent / "m.parquet"
        found = scan(str(source), str(manifest), **options)
        return found, [row[0] for row in _rows(manifest)]

    def test_links_inside_are_followed_once_each_and_links_out_are_not(self, source: Path) -> None:
        found, ids = self._ids(source)
        assert ids == ["A/1.jpg", "A/stored.jpg", "B/1.jpg", "B/blob.jpg", "D/4.jpg"]
        links = found.links
        assert links.followed == 4, "A/stored.jpg, B/blob.jpg, D, and D/up, which has nothing new"
        assert links.outside == ["A/absolute.jpg", "A/out.jpg", "out"]
        assert links.repeated == ["A/same.jpg", "B/same.jpg", "B/stored.jpg", "D/up/3.jpg", "E", "again"]
        assert links.broken == ["A/nothing.jpg", "A/self.jpg", "loop"]

    def test_links_may_lead_out_to_roots(self, source: Path) -> None:
        found, ids = self._ids(source, roots=(str(source.parent / "secret"),))
        assert not found.links.outside
        assert [name for name in ids if "absolute" in name or "out" in name] == [
            "A/absolute.jpg",
            "out/more/2.jpg",
        ]
        assert "A/out.jpg" in found.links.repeated
        assert "out/id.jpg" in found.links.repeated
        found, _ = self._ids(source, roots=(str(source.parent / "secret/more"),))
        assert found.links.outside == ["A/absolute.jpg", "A/out.jpg", "out"]

    def test_a_glob_chooses_among_the_paths_that_photos_have_without_it(self, source: Path) -> None:
        assert self._ids(source, glob="B/*")[1] == ["B/1.jpg", "B/blob.jpg"]
        assert self._ids(source, glob="D/*")[1] == ["D/4.jpg"]

    def test_folders_that_link_to_each_other_cost_each_folder_once(self, tmp_path: Path) -> None:
        source = _photos(tmp_path / "p", *(f".s/{n}/{n}.jpg" for n in range(12)))
        for here in range(12):
            for there in range(12):
                (source / f".s/{here}/to-{there}").symlink_to(f"../{there}")
        (source / "in").symlink_to(".s/0")
        found, ids = self._ids(source)
        assert len(ids) == 12
        assert len(found.links.repeated) == 12 * 12 - 11

    def test_a_folder_that_is_a_link_itself_is_scanned(self, tmp_path: Path) -> None:
        _photos(tmp_path / "real", "1.jpg")
        (tmp_path / "link").symlink_to("real")
        assert self._ids(tmp_path / "link")[1] == ["1.jpg"]

    def test_where_all_is_linked_from_elsewhere_the_error_says_so(self, tmp_path: Path) -> None:
        _photos(tmp_path / "archive", "1.jpg")
        (tmp_path / "p").mkdir()
        (tmp_path / "p/1.jpg").symlink_to("../archive/1.jpg")
        with pytest.raises(ManifestError, match="1 link out of it") as caught:
            scan(str(tmp_path / "p"), str(tmp_path / "m.csv"))
        assert "--root" in caught.value.remedy

    def test_the_commands_say_what_became_of_links(
        self, source: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        manifest = str(source.parent / "m.parquet")
        assert main(["manifest", "scan", str(source), "-o", manifest]) == 0
        printed = capsys.readouterr().out
        assert "4 links followed\n" in printed
        assert "3 links not followed: lead out of the folder (--root says where they may lead)" in printed
        assert "'A/out.jpg'" in printed
        assert "6 links not followed: lead to what is listed already" in printed
        assert "3 links not followed: lead to no file" in printed
        assert main(["manifest", "check", manifest]) == 0
        assert "5 photos have absolute paths; no root is set" in capsys.readouterr().out
        assert main(["manifest", "check", manifest, "--root", str(source)]) == 0
        assert "3 photos are reached by links, which stay inside storage.roots" in capsys.readouterr().out
        (source / "m.csv").write_text("image_uri\nA/1.jpg\nA/stored.jpg\n")
        assert main(["manifest", "check", str(source / "m.csv")]) == 0
        assert "1 photo is reached by links, which stay inside the manifest" in capsys.readouterr().out
        (source / "m.csv").write_text("image_uri\nA/1.jpg\nA/out.jpg\n")
        assert main(["manifest", "check", str(source / "m.csv")]) == 3
        assert main(["manifest", "scan", str(source), "-o", manifest, "--root", str(source.parent)]) == 0
        assert "lead out" not in capsys.readouterr().out


def test_what_cannot_be_done_is_explained(tmp_path: Path) -> None:
    source = _photos(tmp_path / "p", "notes.txt")
    with pytest.raises(ManifestError, match="no photos"):
        scan(str(source), str(tmp_path / "m.csv"))
    with pytest.raises(ManifestError, match="no photos"):
        scan(str(tmp_path / "none"), str(tmp_path / "m.csv"))
    assert not (tmp_path / "m.csv").exists()
    with pytest.raises(ManifestError, match=r"\.parquet, \.csv or \.jsonl"):
        scan(str(source), str(tmp_path / "m.txt"))
    with pytest.raises(ManifestError, match="remote manifest"):
        scan(str(source), "s3://bucket/m.csv")


def test_names_that_no_manifest_can_hold_are_counted(tmp_path: Path) -> None:
    source = _photos(tmp_path / "p", "1.jpg", "2\n.jpg")
    (Path(source) / "3\udcff.jpg").write_bytes(b"x")
    found = scan(str(source), str(tmp_path / "m.csv"))
    assert (found.photos, found.unreadable_names) == (1, 2)


class TestFormulas:
    @pytest.mark.parametrize("name", ["=A(1).jpg", "+1.jpg", "-1.jpg", "@a.jpg", "\t=1.jpg", "\uff1d1.jpg"])
    def test_what_a_spreadsheet_would_work_out_is_not_written_to_csv(self, tmp_path: Path, name: str) -> None:
        source = _photos(tmp_path / "p", "A/1.jpg", name)
        with pytest.raises(ManifestError, match="image_id of 1 row or more begins as a formula") as caught:
            scan(str(source), str(tmp_path / "m.csv"))
        assert name not in str(caught.value)
        assert not (tmp_path / "m.csv").exists()
        for target in ("m.parquet", "m.jsonl"):
            scan(str(source), str(tmp_path / target))
            assert sorted(row[0] for row in _rows(tmp_path / target)) == sorted(["A/1.jpg", name])

    def test_people_and_columns_are_looked_at_too(self, tmp_path: Path) -> None:
        with pytest.raises(ManifestError, match="subject_id of 1 row"):
            scan(str(_photos(tmp_path / "p", "a/=1+1/1.jpg", "a/b/2.jpg")), str(tmp_path / "m.csv"), "folder")
        batch = pa.record_batch({"=x": pa.array(["1"])})
        with pytest.raises(ManifestError, match="a column's name"):
            write_manifest(tmp_path / "m.csv", "csv", batch.schema, [batch])

    def test_numbers_signs_alone_and_what_stands_inside_are_harmless(self, tmp_path: Path) -> None:
        texts = ["-1", "+2.5e-3", "-", "+", "a=1", "", None, " =1"]
        batch = pa.record_batch({"note": pa.array(texts, pa.string()), "n": pa.array([-1] * len(texts))})
        write_manifest(tmp_path / "m.csv", "csv", batch.schema, [batch])
        assert (tmp_path / "m.csv").read_text().count("\n") == len(texts) + 1


class TestCommand:
    def test_scan_then_check(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cpus, "usable_cpus", lambda: 2)
        source = _photos(tmp_path / "p", "A/1.jpg", "B/2.jpg", "B/3.png")
        assert main(["manifest", "scan", str(source), "-o", str(tmp_path / "m.parquet")]) == 0
        printed = capsys.readouterr().out
        assert "3 photos: 2 .jpg, 1 .png" in printed
        assert "2 subjects" in printed
        assert main(["manifest", "check", str(tmp_path / "m.parquet")]) == 0
        printed = capsys.readouterr().out
        assert "3 rows in 1 parquet file" in printed
        assert "subject_id (string)" in printed
        assert "on the 2 CPUs of this machine a run would cut it into 1 part of 3 rows" in printed

    def test_check_fails_with_the_exit_code_of_manifests(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "m.csv").write_text("image_uri\n1.jpg\n1.jpg\n")
        assert main(["manifest", "check", str(tmp_path / "m.csv")]) == 3
        assert "row 2" in capsys.readouterr().err

    def test_check_knows_roots(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "m.csv").write_text("image_uri\n/photos/1.jpg\n")
        assert main(["manifest", "check", str(tmp_path / "m.csv"), "--root", "/photos"]) == 0
        assert main(["manifest", "check", str(tmp_path / "m.csv"), "--root", "/other"]) == 3

    @pytest.mark.parametrize("command", ["scan", "check"])
    def test_help_has_examples(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["manifest", command, "--help"])
        assert "examples:" in capsys.readouterr().out


def test_queries_of_the_documentation_find_an_output_in_a_folder_with_brackets(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    page = (Path(__file__).parents[2] / "docs/outputs.md").read_text(encoding="utf-8")
    pattern = re.search(r"`photos \[2024\]` is `'(.*?)'`", page)
    assert pattern
    images = tmp_path / "photos [2024]/images"
    images.mkdir(parents=True)
    pq.write_table(pa.table({"image_id": ["1"]}), images / "part-000000.parquet")
    assert duckdb.sql(f"SELECT * FROM '{tmp_path}/{pattern[1]}'").fetchall() == [("1",)]
