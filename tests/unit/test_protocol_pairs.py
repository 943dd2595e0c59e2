"""Verification protocols: LFW's and FGLFW's own lists, and lists of any origin."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from frpipe.cli.main import main
from frpipe.core.errors import ManifestError, OutputError
from frpipe.core.schema import markdown, reserved_names
from frpipe.io.manifest.admission import admitted
from frpipe.io.manifest.manifest import Manifest
from frpipe.io.manifest.scan import scan
from frpipe.io.storage.folder import Folder
from frpipe.jobs.verify.pair_list import PairList
from frpipe.metrics.folds import cross_validated
from frpipe.protocols.errata import Errata
from frpipe.protocols.lfw import read_fglfw, read_view1, read_view2
from frpipe.protocols.protocol import Protocol
from frpipe.protocols.source import PhotoName, Source
from frpipe.protocols.verification import ERRATUM, PAIR_COLUMNS

VIEW2 = ["2\t1", "Ann_Lee\t1\t2", "Ann_Lee\t2\tBo\t1", "Cy\t1\t3", "Cy\t3\tDi_Ort\t12"]
PHOTOS = ("Ann_Lee 1", "Ann_Lee 2", "Bo 1", "Cy 1", "Cy 3", "Di_Ort 12", "Eve 1")


def _list(folder: Path, lines: list[str], name: str = "pairs.txt") -> str:
    (folder / name).write_text("\n".join(lines) + "\n")
    return str(folder / name)


@pytest.fixture
def images(tmp_path: Path) -> str:
    for name, number in (photo.split() for photo in PHOTOS):
        path = tmp_path / "lfw" / name / f"{name}_{int(number):04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return str(tmp_path / "lfw")


def _rows(path: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(path).to_pylist()
    return rows


def test_view_2_becomes_lists_that_the_jobs_take(tmp_path: Path, images: str) -> None:
    out = tmp_path / "view2"
    assert main(["protocol", "lfw", images, "--pairs", _list(tmp_path, VIEW2), "-o", str(out), "--csv"]) == 0
    ann, bo = ("Ann_Lee/Ann_Lee_0001.jpg", "Ann_Lee/Ann_Lee_0002.jpg"), "Bo/Bo_0001.jpg"
    first, second = _rows(out / "pairs.parquet")[:2]
    assert first == {
        "pair_id": "lfw-view2-01-0001",
        **{"a": ann[0], "b": ann[1], "mated": True, "fold": "01"},
        **{"subject_a": "Ann_Lee", "subject_b": "Ann_Lee", "protocol": "lfw-view2"},
    }
    assert (second["a"], second["b"], second["mated"], second["subject_b"]) == (ann[1], bo, False, "Bo")
    assert PairList.open(str(out / "pairs.parquet")).schema.names == list(first)
    assert PairList.open(str(out / "pairs.csv")).schema.names == list(first)
    protocol = Protocol.load(str(out))
    assert protocol.threshold == "other-folds"
    assert protocol.folds == {"01": {"mated": 1, "nonmated": 1}, "02": {"mated": 1, "nonmated": 1}}
    assert (protocol.counts["photos"], protocol.counts["subjects"]) == (6, 4)
    assert not protocol.warnings


def test_the_manifest_is_of_the_photos_that_occur_with_the_ids_of_a_scan(tmp_path: Path, images: str) -> None:
    out = tmp_path / "view2"
    main(["protocol", "lfw", images, "--pairs", _list(tmp_path, VIEW2), "-o", str(out)])
    scan(images, str(tmp_path / "all.parquet"))
    known = {row["image_id"]: row for row in _rows(tmp_path / "all.parquet")}
    rows = _rows(out / "manifest.parquet")
    assert rows == [known[row["image_id"]] for row in rows]
    assert set(known) - {row["image_id"] for row in rows} == {"Eve/Eve_0001.jpg"}
    manifest = Manifest.open(str(out / "manifest.parquet"), reserved_names())
    assert sum(table.num_rows for table in admitted(manifest, ())) == 6


def test_photos_are_found_whatever_their_folders_and_suffix(tmp_path: Path) -> None:
    place = Folder.at("memory://lfw-protocol/photos")
    for name in ("Ann_Lee_0001.png", "x/Ann_Lee_0002.JPG", "x/y/Bo_0001.webp"):
        place.write(name, b"x")
    source, out = _list(tmp_path, ["1 1", "Ann_Lee 1 2", "Ann_Lee 2 Bo 1"]), "memory://lfw-protocol/out"
    assert main(["protocol", "lfw", place.uri, "--pairs", source, "-o", out]) == 0
    table = pq.read_table(Folder.at(out).open("manifest.parquet"))
    assert table["image_uri"].to_pylist()[0] == f"{place.uri}/Ann_Lee_0001.png"
    place.write("z/Bo_0001.jpg", b"x")
    assert main(["protocol", "lfw", place.uri, "--pairs", source, "-o", str(tmp_path / "o")]) == 3


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["10 x", *VIEW2[1:]], "line 1 "),
        (["500", *VIEW2[1:]], "line 1 "),
        (VIEW2[:-1], "announces 4 pairs, 3 lines follow"),
        ([*VIEW2[:3], "Cy\t1", VIEW2[4]], "line 4"),
        ([*VIEW2[:2], "Ann_Lee\t2\tAnn_Lee\t1", *VIEW2[3:]], "line 3"),
        ([*VIEW2[:2], "Cy\t1\t3", "Ann_Lee\t2\tBo\t1", VIEW2[4]], "lines 3, 4"),
        ([VIEW2[0], "Ann_Lee\t1\t1", "Ann_Lee\t2\tBo\tone", *VIEW2[3:]], "lines 2, 3"),
    ],
)
def test_a_malformed_list_is_refused_with_lines_and_no_names(
    tmp_path: Path, lines: list[str], said: str
) -> None:
    with pytest.raises(ManifestError) as error:
        read_view2(Source.read(_list(tmp_path, lines)))
    assert said in str(error.value)
    assert not any(name in str(error.value) for name in ("Ann", "Bo", "Cy"))


def test_missing_photos_are_an_error_or_stay_as_pairs_that_fail(
    tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(images) / "Bo" / "Bo_0001.jpg").unlink()
    call = ["protocol", "lfw", images, "--pairs", _list(tmp_path, VIEW2), "-o", str(tmp_path / "out")]
    assert main(call) == 3
    assert "line 3\n" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*call, "--allow-missing"]) == 0
    assert _rows(tmp_path / "out" / "pairs.parquet")[1]["b"] == "Bo/Bo_0001.jpg"
    assert len(_rows(tmp_path / "out" / "manifest.parquet")) == 5
    counts = Protocol.load(str(tmp_path / "out")).counts
    assert (counts["pairs"], counts["photos_missing"], counts["pairs_with_missing_photo"]) == (4, 1, 1)


def test_missing_photos_of_view_1_are_told_by_list(tmp_path: Path, images: str) -> None:
    train = _list(tmp_path, ["1", "Ann_Lee 1 2", "Ann_Lee 2 Bo 1"], "train.txt")
    test = _list(tmp_path, ["1", "Cy 1 2", "Cy 3 Di_Ort 12"], "test.txt")
    call = ["protocol", "lfw", images, "--train", train, "--test", test, "-o", str(tmp_path / "out")]
    pairs = read_view1(Source.read(train), Source.read(test))
    assert [(pair.fold, pair.mated) for pair in pairs] == [
        *(("train", True), ("train", False)),
        *(("test", True), ("test", False)),
    ]
    assert main(call) == 3
    assert main([*call, "--allow-missing"]) == 0
    assert Protocol.load(str(tmp_path / "out")).threshold == "train-fold"
    assert main([*call[:5], *call[-2:]]) == 2


def test_the_same_again_is_the_same_and_another_protocol_is_refused(tmp_path: Path, images: str) -> None:
    call = ["protocol", "lfw", images, "--pairs", _list(tmp_path, VIEW2), "-o", str(tmp_path / "out")]
    assert main(call) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert main(call) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    _list(tmp_path, [*VIEW2[:4], "Cy\t1\tDi_Ort\t12"])
    assert main(call) == OutputError.exit_code
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.parquet").write_bytes(b"of the user")
    assert main([*call[:-1], str(tmp_path / "mine")]) == OutputError.exit_code
    assert (tmp_path / "mine" / "manifest.parquet").read_bytes() == b"of the user"


ERRATA = """Known errors in View 2 are:
	Fold 1:
	Ann Lee, 1
	Ann Lee, 2
Cy_0001, 0003
  are images of Guy_Row.
Bo_0001
    is incorrect (it is a duplicate image of Eve_0001):
The following is a correct labeling: Kim_Mo_0001,
  Tia_Mo_0001 (twins).
Di_Ort and
  Ort_Di
  are the same person.
"""


def test_errata_tell_a_wrong_label_from_a_wrong_name(tmp_path: Path, images: str) -> None:
    (tmp_path / "errata.txt").write_text(ERRATA)
    errata = Errata.of(Source.read(str(tmp_path / "errata.txt")))
    assert errata.photos == {PhotoName("Cy", 1), PhotoName("Cy", 3), PhotoName("Bo", 1)}
    assert errata.pairs == {frozenset({PhotoName("Ann_Lee", 1), PhotoName("Ann_Lee", 2)})}
    assert errata.people == {frozenset({"Di_Ort", "Ort_Di"})}
    call = ["protocol", "lfw", images, "--pairs", _list(tmp_path, VIEW2), "-o", str(tmp_path / "out")]
    assert main([*call, "--errata", str(tmp_path / "errata.txt")]) == 0
    marks = [row["erratum"] for row in _rows(tmp_path / "out" / "pairs.parquet")]
    assert marks == ["pair", "photo", "photo", "photo"]
    assert main([*call, "--errata", _list(tmp_path, ["nothing"], "none.txt")]) == 3


def test_lfw_view_1_as_published(tmp_path: Path, shared: Path) -> None:
    lfw, out = shared / "data" / "lfw", tmp_path / "view1"
    call = ["--train", str(lfw / "pairsDevTrain.txt"), "--test", str(lfw / "pairsDevTest.txt")]
    call += ["--errata", str(lfw / "errata.txt"), "-o", str(out)]
    assert main(["protocol", "lfw", str(lfw / "images"), *call]) == 0
    protocol = Protocol.load(str(out))
    assert protocol.folds["train"] == {"mated": 1100, "nonmated": 1100}
    assert protocol.folds["test"] == {"mated": 500, "nonmated": 500}
    assert protocol.counts["photos_missing"] == 0
    assert not protocol.warnings
    wrong = [row for row in _rows(out / "pairs.parquet") if row["erratum"] == "pair"]
    assert sorted({row["fold"]: 0 for row in wrong}) == ["test", "train"]
    assert len(wrong) == protocol.counts["pairs_known_wrong"] == 6
    assert all(row["mated"] for row in wrong)


def _fglfw(folds: int = 10) -> list[str]:
    lines = []
    for fold in range(folds):
        lines += [f"P{fold}/P{fold}_0001.jpg", f"P{fold}/P{fold}_0002.jpg"]
        lines += [f"P{fold}/P{fold}_0001.jpg", f"Q{fold}/Q{fold}_0007.jpg"]
    return lines


def test_fglfw_in_its_forms(tmp_path: Path) -> None:
    lines = _fglfw()
    one = read_fglfw(Source.read(_list(tmp_path, lines)))
    paired = [f"{a} {b}" for a, b in zip(lines[::2], lines[1::2], strict=True)]
    two = read_fglfw(Source.read(_list(tmp_path, paired)))
    header = ["10 1", *(line for n in range(10) for line in (f"P{n} 1 2", f"P{n} 1 Q{n} 7"))]
    lfw = read_fglfw(Source.read(_list(tmp_path, header)))
    plain = [(pair.a, pair.b, pair.fold, pair.mated) for pair in one]
    assert plain == [(pair.a, pair.b, pair.fold, pair.mated) for pair in two]
    assert plain == [(pair.a, pair.b, pair.fold, pair.mated) for pair in lfw]
    assert plain[-1] == (PhotoName("P9", 1), PhotoName("Q9", 7), "10", False)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (_fglfw(9), "36 photos do not make 10 folds"),
        ([*_fglfw()[:-1], "no number"], "line 40"),
        ([*_fglfw()[:-2], "P9/P9_0002.jpg", "P9/P9_0003.jpg"], "in fold 10 2 are mated"),
        ([*_fglfw()[:-2], "P9/P9_0002.jpg", "P9/P9_0002.jpg"], "line 40"),
    ],
)
def test_a_malformed_list_of_fglfw_is_refused(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        read_fglfw(Source.read(_list(tmp_path, lines)))


def test_fglfw_takes_its_threshold_from_lfw(tmp_path: Path) -> None:
    lines = _fglfw()
    for path in set(lines):
        (tmp_path / "lfw" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lfw" / path).write_bytes(b"x")
    call = ["--pairs", _list(tmp_path, lines), "-o", str(tmp_path / "out")]
    assert main(["protocol", "fglfw", str(tmp_path / "lfw"), *call]) == 0
    protocol = Protocol.load(str(tmp_path / "out"))
    assert (protocol.threshold, list(protocol.folds)) == (
        "other-protocol",
        [f"{n:02d}" for n in range(1, 11)],
    )


def _own(folder: Path, *rows: str, header: str = "a,b,mated,fold,subject_a,subject_b") -> str:
    return _list(folder, [header, *rows], "own.csv")


def test_a_list_of_ones_own_is_typed_and_counted(tmp_path: Path) -> None:
    rows = ("1,2,True,x,A,A", "1,3,no,x,A,B", "4,5,1,y,C,C", "4,6,Different,y,C,D")
    assert main(["protocol", "pairs", _own(tmp_path, *rows), "-o", str(tmp_path / "out")]) == 0
    table = pq.read_table(tmp_path / "out" / "pairs.parquet")
    assert table["mated"].to_pylist() == [True, False, True, False]
    protocol = Protocol.load(str(tmp_path / "out"))
    assert (protocol.name, protocol.threshold, protocol.warnings) == ("own", "other-folds", [])
    assert protocol.counts == {
        **{"pairs": 4, "mated": 2, "nonmated": 2},
        "folds": 2,
        "photos": 6,
        "subjects": 4,
    }
    scores = np.array([0.9, 0.1, 0.9, 0.2])
    assert cross_validated(scores, table["mated"].to_numpy(), table["fold"].to_pylist()).mean == 1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (("1,1,true,x,A,A",), "itself: row 1"),
        (("1,2,true,x,A,A", "2,1,false,x,A,A"), "both mated and non-mated: rows 1, 2"),
        (("1,2,true,x,A,A", "1,3,true,x,A,B"), "subject_b say: row 2"),
        (("1,2,maybe,x,A,A",), "no usable mated, first row 1"),
        (("1,2,true,,A,A",), "no usable fold, first row 1"),
        ((), "no rows"),
    ],
)
def test_a_list_that_cannot_be_scored_is_refused(
    tmp_path: Path, rows: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["protocol", "pairs", _own(tmp_path, *rows)]) == 3
    assert said in capsys.readouterr().err


def test_what_may_be_wrong_with_a_list_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ("1,2,true,x,A,A", "1,3,false,x,A,B", "2,1,true,x,A,A", "1,4,false,y,A,C")
    assert main(["protocol", "pairs", _own(tmp_path, *rows), "--json"]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert warnings == [
        "1 pair is listed again, either way round, for which all count twice: row 3",
        "fold y has no mated pairs",
        "1 person is in more than one fold: the folds are not independent",
    ]
    plain = _own(tmp_path, "1,2,true", "1,3,false", header="a,b,mated")
    assert main(["protocol", "pairs", plain]) == 0
    assert "the threshold comes from elsewhere" in capsys.readouterr().out
    assert main(["protocol", "pairs", _own(tmp_path, "1,2", header="a,b")]) == 3


def test_show_says_in_words_what_it_is(
    tmp_path: Path, images: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["protocol", "lfw", images, "--pairs", _list(tmp_path, VIEW2), "-o", str(tmp_path / "out")])
    capsys.readouterr()
    assert main(["protocol", "show", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "lfw-view2: verification" in said
    assert "2 non-mated pairs: the smallest FMR above 0 is 5.0e-01" in said
    assert main(["protocol", "show", str(tmp_path)]) == 3
    (tmp_path / "protocol.json").write_text('{"format": "other"}')
    assert main(["protocol", "show", str(tmp_path)]) == 3


def test_the_page_shows_the_columns() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/protocols.md").read_text(encoding="utf-8")
    assert f"<!-- pairs -->\n\n{markdown((*PAIR_COLUMNS, ERRATUM))}\n" in page
