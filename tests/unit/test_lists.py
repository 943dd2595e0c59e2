"""Lists as they come: columns by name, folders and patterns, types of parts, and what stands for nobody."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3server import S3, s3  # noqa: F401

from frpipe.cli.main import main
from frpipe.core.config import Config, load_config
from frpipe.core.errors import ManifestError
from frpipe.core.reasons import Reason, Reject
from frpipe.core.schema import reserved_names
from frpipe.io.manifest.admission import admitted
from frpipe.io.manifest.fetch import Fetcher
from frpipe.io.manifest.manifest import Manifest
from frpipe.io.manifest.survey import Survey
from frpipe.io.output.plan import Draft, plan_of
from frpipe.io.storage.folder import Folder
from frpipe.jobs.verify.pair_list import PairList, PairNames


def _write(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def _rows(uri: Path | str, nobody: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return pa.concat_tables(admitted(Manifest.open(str(uri), reserved_names(), nobody), ())).to_pylist()


def _found(uri: Path | str, *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in ("image_uri", *columns)) for row in _rows(uri)]


def _refused(uri: Path | str) -> str:
    with pytest.raises(ManifestError) as caught:
        _rows(uri)
    return str(caught.value)


def _warned(tmp_path: Path, uri: Path, nobody: tuple[str, ...] = ()) -> str:
    """What a run says of a manifest."""
    said: list[str] = []
    plan_of(Draft.of(str(uri), nobody=nobody), Folder.at(str(tmp_path / "out")), 10, say=said.append)
    return "\n".join(said)


class TestColumnsByName:
    def test_csv_parts_in_any_order_keep_their_values(self, tmp_path: Path) -> None:
        _write(tmp_path / "m/1.csv", "image_uri,subject_id,site\na.jpg,anna,north\n")
        _write(tmp_path / "m/2.csv", "subject_id,site,image_uri\nbob,south,b.jpg\n")
        _write(tmp_path / "m/3.csv", "site;image_uri;subject_id\nwest;c.jpg;cleo\n")
        expected = [("a.jpg", "anna", "north"), ("b.jpg", "bob", "south"), ("c.jpg", "cleo", "west")]
        assert _found(tmp_path / "m", "subject_id", "site") == expected

    @pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
    def test_other_parts_do_so_too(self, tmp_path: Path, suffix: str) -> None:
        (tmp_path / "m").mkdir()
        frames = [
            pd.DataFrame({"image_uri": ["a.jpg"], "subject_id": ["anna"]}),
            pd.DataFrame({"subject_id": ["bob"], "image_uri": ["b.jpg"]}),
        ]
        for number, frame in enumerate(frames):
            path = tmp_path / f"m/{number}.{suffix}"
            frame.to_parquet(path) if suffix == "parquet" else frame.to_json(
                path, orient="records", lines=True
            )
        assert _found(tmp_path / "m", "subject_id") == [("a.jpg", "anna"), ("b.jpg", "bob")]

    def test_a_column_that_a_part_lacks_is_null_there_or_missed_by_name(self, tmp_path: Path) -> None:
        _write(tmp_path / "m/1.csv", "image_uri,site\na.jpg,north\n")
        _write(tmp_path / "m/2.csv", "image_uri,age\nb.jpg,7\n")
        assert _found(tmp_path / "m", "site", "age") == [("a.jpg", "north", None), ("b.jpg", None, "7")]
        _write(tmp_path / "m/3.csv", "site\nsouth\n")
        assert "3.csv has no column image_uri" in _refused(tmp_path / "m")

    def test_pairs_are_read_by_name_too(self, tmp_path: Path) -> None:
        _write(tmp_path / "p/1.csv", "a,b\nx,y\n")
        _write(tmp_path / "p/2.csv", "b, a, fold\nv, u, 1\n")
        tables = pa.concat_tables(PairList.open(str(tmp_path / "p")).checked())
        assert tables.to_pylist() == [{"a": "x", "b": "y", "fold": None}, {"a": "u", "b": "v", "fold": "1"}]
        _write(tmp_path / "p/3.csv", "a,fold\nx,1\n")
        with pytest.raises(ManifestError, match=r"3\.csv has no column b"):
            PairList.open(str(tmp_path / "p"))

    @pytest.mark.parametrize(
        "text",
        [
            "image_uri, subject_id\na.jpg, bob\n",
            'image_uri ,"subject_id"\na.jpg , "bob" \n',
            " image_uri;\tsubject_id\na.jpg;bob\n",
        ],
    )
    def test_blanks_around_names_are_none_of_names_or_values(self, tmp_path: Path, text: str) -> None:
        uri = _write(tmp_path / "m.csv", text)
        assert _found(uri, "subject_id") == [("a.jpg", "bob")]
        assert "m.csv: blanks around values are left out" in _warned(tmp_path, uri)

    def test_blanks_within_quotes_are_kept(self, tmp_path: Path) -> None:
        uri = _write(tmp_path / "m.csv", 'image_uri, note\na.jpg, " x, y "\n')
        assert _found(uri, "note") == [("a.jpg", " x, y ")]

    def test_blanks_around_names_of_other_formats_go_too(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"image_uri": ["a.jpg"], " subject_id ": ["bob"]}), tmp_path / "m.parquet")
        assert _found(tmp_path / "m.parquet", "subject_id") == [("a.jpg", "bob")]
        _write(tmp_path / "m.jsonl", '{"image_uri": "a.jpg", "\\ufeffsubject_id": "bob"}\n')
        assert _found(tmp_path / "m.jsonl", "subject_id") == [("a.jpg", "bob")]

    @pytest.mark.parametrize("header", ["image_uri,x,x", "image_uri,x, X", "image_uri,,y", ",image_uri"])
    def test_names_that_are_doubled_or_empty_are_refused(self, tmp_path: Path, header: str) -> None:
        said = _refused(_write(tmp_path / "m.csv", f"{header}\n"))
        assert "m.csv has two columns named" in said or "m.csv has a column without name" in said

    def test_excel_says_its_separator(self, tmp_path: Path) -> None:
        assert _found(_write(tmp_path / "m.csv", "sep=;\r\nimage_uri;n\r\na,b.jpg;1\r\n"), "n") == [
            ("a,b.jpg", "1")
        ]


class TestFiles:
    def test_keys_of_folders_are_columns(self, tmp_path: Path) -> None:
        frame = pd.DataFrame(
            {
                "image_uri": ["a.jpg", "b.jpg", "c.jpg"],
                "subject_id": ["Ann O/Neil", "7", None],
                "age": [1, 2, 3],
            }
        )
        frame.to_parquet(tmp_path / "m", partition_cols=["subject_id", "age"])
        expected = {("a.jpg", "Ann O/Neil", "1"), ("b.jpg", "7", "2"), ("c.jpg", None, "3")}
        assert set(_found(tmp_path / "m", "subject_id", "age")) == expected
        _write(tmp_path / "c/site=s%C3%BCd/1.csv", "image_uri\nx.jpg\n")
        _write(tmp_path / "c/2.csv", "image_uri\ny.jpg\n")
        assert _found(tmp_path / "c", "site") == [("y.jpg", None), ("x.jpg", "süd")]

    def test_a_key_that_is_a_column_too_has_to_agree(self, tmp_path: Path) -> None:
        _write(tmp_path / "m/site=north/1.csv", "image_uri,site\na.jpg,north\n")
        assert _found(tmp_path / "m", "site") == [("a.jpg", "north")]
        _write(tmp_path / "m/site=north/2.csv", "image_uri,site\nb.jpg,south\n")
        said = _refused(tmp_path / "m")
        assert "column site of site=.../2.csv" in said
        assert "north" not in said, "a key may be a person"

    def test_patterns_stay_within_a_name(self, tmp_path: Path) -> None:
        for name in ("1.csv", "2.csv", "deep/3.csv", "x.jsonl"):
            _write(tmp_path / "m" / name, "image_uri\n" + name.replace("/", "-") + ".jpg\n")
        assert _found(tmp_path / "m/*.csv") == [("1.csv.jpg",), ("2.csv.jpg",)]
        assert _found(tmp_path / "m/[2-9].csv") == [("2.csv.jpg",)]
        assert len(_found(tmp_path / "m/**/*.csv")) == 3
        assert _rows(tmp_path / "m/*/?.csv")[0]["location"] == f"{tmp_path}/m/deep-3.csv.jpg"
        assert "matches" in _refused(tmp_path / "m/*.parquet")

    def test_brackets_of_a_folder_that_is_there_are_no_pattern(self, tmp_path: Path) -> None:
        _write(tmp_path / "[old] 1/1.csv", "image_uri\na.jpg\n")
        _write(tmp_path / "o 1/1.csv", "image_uri\nb.jpg\n")
        for uri in ("[old] 1", "[old] 1/1.csv", "[old] 1/*.csv"):
            assert _found(tmp_path / uri) == [("a.jpg",)]
        assert _found(tmp_path / "[op] 1/1.csv") == [("b.jpg",)]

    def test_patterns_on_s3(self, s3: S3) -> None:  # noqa: F811
        for name in ("a.csv", "b.csv", "deep/c.csv", "[x]/d.csv"):
            Folder.at(s3.uri).write(f"globs/{name}", b"image_uri\n%s.jpg\n" % name[-5:].encode())
        assert _found(f"{s3.uri}/globs/*.csv") == [("a.csv.jpg",), ("b.csv.jpg",)]
        assert _found(f"{s3.uri}/globs/[x]/*.csv") == [("d.csv.jpg",)]
        assert len(_found(f"{s3.uri}/globs/**/*.csv")) == 4

    @pytest.mark.parametrize(
        ("name", "remedy"),
        [
            ("m.xlsx", "export the sheet"),
            ("m.ods", "export the sheet"),
            ("m.txt", "name it .csv"),
            ("m.arrow", "Parquet"),
            ("m.csv.bz2", "gzip or zstd"),
            ("m.parquet.gz", "unpack it"),
            ("m.gz", "list.csv.gz"),
            ("m.jpg", "manifest scan"),
        ],
    )
    def test_other_kinds_of_file_get_a_remedy_that_fits(self, tmp_path: Path, name: str, remedy: str) -> None:
        assert remedy in _refused(_write(tmp_path / name, "x"))
        (tmp_path / name).unlink()
        assert "there is no manifest" in _refused(tmp_path / name)

    def test_rows_are_estimated_whatever_the_form(self, tmp_path: Path) -> None:
        frame = pd.DataFrame({"image_uri": [f"{n:06d}.jpg" for n in range(50_000)], "note": "x" * 40})
        frame.to_csv(tmp_path / "m.csv.gz", index=False)
        frame.to_json(tmp_path / "m.json", orient="records")
        frame.to_json(tmp_path / "n.json", orient="records", indent=2)
        frame.to_json(tmp_path / "m.jsonl.zst", orient="records", lines=True, compression=None)
        packed = pa.compress((tmp_path / "m.jsonl.zst").read_bytes(), "zstd", asbytes=True)
        (tmp_path / "m.jsonl.zst").write_bytes(packed)
        for name in ("m.csv.gz", "m.json", "n.json", "m.jsonl.zst"):
            estimate = Manifest.open(str(tmp_path / name)).rows_estimate()
            assert 25_000 < estimate < 100_000, name

    def test_a_list_packed_beside_itself_is_refused(self, tmp_path: Path) -> None:
        import gzip

        _write(tmp_path / "m/1.csv", "image_uri\na.jpg\n")
        (tmp_path / "m/1.csv.gz").write_bytes(gzip.compress(b"image_uri\na.jpg\n"))
        assert "twice" in _refused(tmp_path / "m")

    def test_json_beside_other_files_is_none_of_the_list(self, tmp_path: Path) -> None:
        _write(tmp_path / "m/1.csv", "image_uri\na.jpg\n")
        _write(tmp_path / "m/dataset_info.json", "{}")
        assert _found(tmp_path / "m") == [("a.jpg",)]


class TestTypes:
    @pytest.mark.parametrize(
        "other",
        [
            pa.array([None], pa.null()),
            pa.array(["y"], pa.large_string()),
            pa.array(["y"], pa.string_view()),
            pa.array(["y"]).dictionary_encode(),
            pa.array([7], pa.int16()),
        ],
    )
    def test_ids_of_parts_are_text(self, tmp_path: Path, other: pa.Array) -> None:
        (tmp_path / "m").mkdir()
        uris = pa.array(["a.jpg"], pa.large_string())
        pq.write_table(pa.table({"image_uri": ["x.jpg"], "subject_id": ["007"]}), tmp_path / "m/1.parquet")
        pq.write_table(pa.table({"image_uri": uris, "subject_id": other}), tmp_path / "m/2.parquet")
        last = other[0].as_py()
        expected = [("x.jpg", "007"), ("a.jpg", None if last is None else str(last))]
        assert _found(tmp_path / "m", "subject_id") == expected

    @pytest.mark.parametrize(
        ("kinds", "merged"),
        [
            ((pa.int8(), pa.int64()), pa.int64()),
            ((pa.uint16(), pa.int16()), pa.int32()),
            ((pa.float32(), pa.float64()), pa.float64()),
            ((pa.timestamp("s"), pa.timestamp("us")), pa.timestamp("us")),
            ((pa.list_(pa.null()), pa.list_(pa.string())), pa.list_(pa.string())),
            ((pa.null(), pa.date32()), pa.date32()),
        ],
    )
    def test_types_that_hold_each_others_values_are_one(
        self, tmp_path: Path, kinds: tuple[pa.DataType, ...], merged: pa.DataType
    ) -> None:
        for order in (kinds, kinds[::-1]):
            for number, kind in enumerate(order):
                table = pa.table({"image_uri": [f"{number}.jpg"], "x": pa.nulls(1, kind)})
                _write(tmp_path / f"m/{number}.parquet", "")
                pq.write_table(table, tmp_path / f"m/{number}.parquet")
            assert Manifest.open(str(tmp_path / "m")).schema.field("x").type == merged

    @pytest.mark.parametrize(
        "kinds",
        [
            (pa.int64(), pa.float64()),
            (pa.string(), pa.int64()),
            (pa.bool_(), pa.int8()),
            (pa.date32(), pa.string()),
        ],
    )
    def test_types_that_clash_are_named_with_column_and_files(
        self, tmp_path: Path, kinds: tuple[pa.DataType, ...]
    ) -> None:
        for number, kind in enumerate(kinds):
            _write(tmp_path / f"m/{number}.parquet", "")
            table = pa.table({"image_uri": [f"{number}.jpg"], "age": pa.nulls(1, kind)})
            pq.write_table(table, tmp_path / f"m/{number}.parquet")
        said = _refused(tmp_path / "m")
        assert f"column age is {kinds[1]} in 1.parquet, and {kinds[0]} in 0.parquet" in said


class TestNobody:
    @pytest.mark.parametrize("word", ["nan", "NULL", "None", "N/A", "<NA>", " NaN "])
    def test_what_stands_for_nobody_is_warned_of_and_can_be_set(self, tmp_path: Path, word: str) -> None:
        uri = _write(tmp_path / "m.csv", f'image_uri,subject_id\na.jpg,"{word}"\nb.jpg,"{word}"\nc.jpg,bob\n')
        said = _warned(tmp_path, uri)
        assert f"{word.strip().lower()!r} in 2 rows" in said
        assert "bob" not in said
        assert [row["subject_id"] for row in _rows(uri)] == [word, word, "bob"], "as written unless told"
        setting = said.split("--set '")[1].split("'")[0]
        nobody = load_config(overrides=[setting]).manifest.nobody
        assert [row["subject_id"] for row in _rows(uri, nobody)] == [None, None, "bob"]

    def test_yaml_takes_null_for_itself(self) -> None:
        assert load_config(overrides=["manifest.nobody=[null, nan]"]).manifest.nobody == ("null", "nan")

    def test_blank_subjects_name_nobody_and_are_counted(self, tmp_path: Path) -> None:
        uri = _write(tmp_path / "m.csv", "image_uri,subject_id\na.jpg,\nb.jpg,  \nc.jpg, bob\nd.jpg,bob\n")
        assert [row["subject_id"] for row in _rows(uri)] == [None, None, " bob", "bob"]
        said = _warned(tmp_path, uri)
        assert "1 row has a blank subject_id" in said
        assert "1 row has blanks around subject_id" in said
        assert "differ only in case, blanks" in said
        assert "bob" not in said

    def test_forms_and_case_are_counted_in_a_run_without_names(self, tmp_path: Path) -> None:
        people = ["Zoë", unicodedata.normalize("NFD", "Zoë"), "ann", "Ann", "ANN", "cleo"]
        rows = "".join(f"{number}.jpg,{person}\n" for number, person in enumerate(people))
        said = _warned(tmp_path, _write(tmp_path / "m.csv", "image_uri,subject_id\n" + rows))
        assert "in several Unicode forms, one person each: 1 (named by: frpipe manifest check)" in said
        assert "each another person: 1 (named by" in said
        assert not any(name in said for name in ("Zo", "ann'", "Ann"))

    def test_the_survey_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("frpipe.io.manifest.survey._MOST_IDS", 100)
        survey = Survey(frozenset())
        for start in range(0, 1000, 50):
            survey.people(pa.array([f"p{n}" for n in range(start, start + 50)]))
        assert "after the first 100 were not compared" in "\n".join(survey.remarks())

    def test_the_setting_is_part_of_a_runs_identity_only_where_it_is_used(self) -> None:
        assert "manifest" not in Config().recipe()
        assert Config().manifest.nobody == ()


class TestAddresses:
    @pytest.mark.parametrize(
        "uri",
        [
            "~/x.jpg",
            "~bob/x.jpg",
            r"C:\photos\x.jpg",
            "C:/photos/x.jpg",
            r"\\nas\photos\x.jpg",
            r"photos\x.jpg",
            "file:///a%20b.jpg",
            "file:/data/x.jpg",
            "s3:/bucket/x.jpg",
            "data:image/png;base64,AA",
        ],
    )
    def test_addresses_that_are_none_are_rejected_rows(
        self, tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        manifest = _write(tmp_path / "m.csv", f'image_uri\n"{uri}"\n')
        (row,) = _rows(manifest)
        (found,) = Fetcher((), 1, 100).stream([row["location"]], 1, 1)
        assert getattr(found, "reason", None) == "bad_address"
        assert main(["manifest", "check", str(manifest)]) == 0
        said = capsys.readouterr().out
        assert "a run would reject 1 row as bad_address: " in said
        assert uri not in said

    @pytest.mark.parametrize("name", ["a%20b.jpg", "a\\b.jpg", "12:30.jpg", "a~.jpg"])
    def test_names_that_only_look_so_are_read_as_written(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"photo")
        for uri in (name, f"{tmp_path}/{name}", f"file://{tmp_path}/{name}"):
            (row,) = _rows(_write(tmp_path / "m.csv", f"image_uri\n{uri}\n"))
            assert Fetcher((), 1, 100).fetch(row["location"]) == b"photo"


class TestCheck:
    def test_a_sample_is_opened_and_what_is_not_there_is_said(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from PIL import Image

        for number in range(30):
            Image.new("RGB", (32, 32)).save(tmp_path / f"{number}.png")
        (tmp_path / "30.png").write_bytes(b"no photo")
        uri = _write(tmp_path / "m.csv", "image_uri\n" + "".join(f"{n}.png\n" for n in range(33)))
        assert main(["manifest", "check", str(uri)]) == 0
        said = capsys.readouterr().out
        assert "of a sample of 33 photos 30 are readable, 2 not_found, 1 unknown_format" in said
        assert main(["manifest", "check", str(uri), "--probe", "5"]) == 0
        once = capsys.readouterr().out
        assert "of a sample of 5 photos" in once
        assert main(["manifest", "check", str(uri), "--probe", "5"]) == 0
        assert capsys.readouterr().out == once
        assert main(["manifest", "check", str(uri), "--probe", "0"]) == 0
        assert "sample" not in capsys.readouterr().out

    def test_people_and_words_for_nobody_are_counted(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        uri = _write(tmp_path / "m.csv", "image_uri,subject_id\na.jpg,nan\nb.jpg,\nc.jpg,bob\n")
        assert main(["manifest", "check", str(uri), "--set", "manifest.nobody=[nan]"]) == 0
        said = capsys.readouterr().out
        assert "people: 1; 2 of 3 rows name nobody" in said
        assert "'nan' in 1 row: nobody, as manifest.nobody says" in said


def test_values_of_pairs_with_blanks_are_warned_of(tmp_path: Path) -> None:
    pairs = PairList.open(str(_write(tmp_path / "p.csv", "a,b,fold\n x,y,1\nx,y , 1\nx,z,1\n")))
    said = "\n".join(PairNames.read(pairs, 4, 100).remarks())
    for column in ("a", "b", "fold"):
        assert f"1 value of {column}: blanks around them count" in said


_PEAK = r"""
import re, sys
from pathlib import Path
from frpipe.io.manifest.admission import admitted
from frpipe.io.manifest.manifest import Manifest
rows = sum(table.num_rows for table in admitted(Manifest.open(sys.argv[1]), ()))
print(rows, int(re.search("VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl", "json"])
def test_memory_does_not_grow_with_the_list(tmp_path: Path, suffix: str) -> None:
    """A list of 400,000 rows takes no more than one of 40,000, but for the ids: hashes of 8 bytes each."""
    peaks = []
    for count in (40_000, 400_000):
        frame = pd.DataFrame({"image_uri": [f"{n:060d}.jpg" for n in range(count)], "note": "x" * 100})
        path = tmp_path / f"{count}.{suffix}"
        if suffix.startswith("csv"):
            frame.to_csv(path, index=False)
        else:
            frame.to_json(path, orient="records", lines=suffix == "jsonl")
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, str(path)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ,
        )
        rows, peak = map(int, done.stdout.split())
        assert rows == count
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 60, peaks


@pytest.mark.parametrize(
    "address", ["row+/q\\/..{outside}/s.parquet#0", "row+a\\b#x", "row+q\\s.tar#m.jpg", "a\\b.tar#m.jpg"]
)
def test_an_address_that_is_none_leads_nowhere(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its location is the reason why, which no reader takes for a row, a shard or a path."""
    outside = tmp_path / "outside"
    pq.write_table(pa.table({"image_id": ["a"], "image_bytes": [b"photo"]}), _folder(outside) / "s.parquet")
    monkeypatch.chdir(_folder(tmp_path / "cwd"))
    (tmp_path / "cwd" / "a\\b.tar").write_bytes(b"tar")
    uri = _write(_folder(tmp_path / "in") / "m.csv", f"image_uri\n{address.format(outside=outside)}\n")
    (row,) = _rows(uri)
    with pytest.raises(Reject) as why:
        Fetcher((str(tmp_path / "in"),), 1, 1000).fetch(row["location"])
    assert why.value.reason == Reason.BAD_ADDRESS


def test_a_part_without_images_beside_parts_with_some_needs_addresses(tmp_path: Path) -> None:
    image = pa.array(
        [{"bytes": b"x", "path": "a.jpg"}], pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )
    pq.write_table(pa.table({"image": image}), _folder(tmp_path / "m") / "a.parquet")
    pq.write_table(pa.table({"image_uri": ["./x.jpg", None]}), tmp_path / "m/b.parquet")
    with pytest.raises(ManifestError, match=r"image_uri.*row 2 of b\.parquet"):
        _rows(tmp_path / "m")


def _folder(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path
