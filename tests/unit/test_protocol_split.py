"""Identification protocols: galleries and probes divided from a labelled manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frpipe.cli.main import main
from frpipe.core.errors import ConfigError
from frpipe.core.schema import reserved_names
from frpipe.io.manifest.admission import admitted
from frpipe.io.manifest.manifest import Manifest
from frpipe.protocols.protocol import Protocol
from frpipe.protocols.split import GALLERY, MATED, NONMATED, UNUSED, Split

# Person -> number of photos: ten with three, ten with one.
PEOPLE = {f"p{n:02d}": 3 if n < 10 else 1 for n in range(20)}
IMAGES = [f"{who}-{n}" for who, photos in PEOPLE.items() for n in range(photos)]
SUBJECTS: list[str | None] = [image.split("-")[0] for image in IMAGES]


def _people(roles: np.ndarray, *wanted: int) -> set[str | None]:
    return {who for who, role in zip(SUBJECTS, roles, strict=True) if role in wanted}


def test_people_are_enrolled_or_strangers_and_photos_in_one_role() -> None:
    roles = Split(strangers=0.3).roles(IMAGES, SUBJECTS)
    assert (roles == GALLERY).sum() == 7
    assert (roles == MATED).sum() == 14
    assert (roles == NONMATED).sum() == 9
    assert (roles == UNUSED).sum() == 10
    assert _people(roles, GALLERY) == _people(roles, MATED)
    assert not _people(roles, GALLERY) & _people(roles, NONMATED)


@pytest.mark.parametrize(("few", "gallery", "nonmated"), [("gallery", 15, 15), ("strangers", 5, 25)])
def test_people_with_few_photos_fill_the_gallery_or_are_strangers(
    few: str, gallery: int, nonmated: int
) -> None:
    roles = Split(few=few).roles(IMAGES, SUBJECTS)  # type: ignore[arg-type]
    assert ((roles == GALLERY).sum(), (roles == NONMATED).sum()) == (gallery, nonmated)
    assert (roles == MATED).sum() == 10


def test_people_who_fill_the_gallery_are_not_searched_for() -> None:
    roles = Split(0.0, 1, 3, "gallery").roles(["1", "2", "3", "4", "5"], ["A", "A", "B", "B", "B"])
    assert sorted(roles[:2]) == [UNUSED, GALLERY]
    assert sorted(roles[2:]) == [GALLERY, MATED, MATED]


def test_the_split_depends_on_seed_and_repeat_and_not_on_the_order_of_rows() -> None:
    split = Split(seed=1)
    roles = split.roles(IMAGES, SUBJECTS)
    order = np.random.default_rng(0).permutation(len(IMAGES))
    moved = split.roles([IMAGES[n] for n in order], [SUBJECTS[n] for n in order])
    assert (moved == roles[order]).all()
    assert (Split(seed=2).roles(IMAGES, SUBJECTS) != roles).any()
    assert (split.roles(IMAGES, SUBJECTS, repeat=2) != roles).any()


def test_the_split_of_a_seed_is_fixed_for_ever() -> None:
    roles = Split().roles(["a", "b", "c", "d", "e", "f"], ["A", "A", "B", "B", None, "C"])
    assert roles.tolist() == [NONMATED, NONMATED, GALLERY, MATED, UNUSED, UNUSED]


def test_a_manifest_that_grows_by_one_person_moves_one_other_at_most() -> None:
    split = Split(strangers=0.5)
    before = split.roles(IMAGES, SUBJECTS)
    after = split.roles([*IMAGES, "new-0", "new-1"], [*SUBJECTS, "new", "new"])[: len(IMAGES)]
    assert len({who for who, old, new in zip(SUBJECTS, before, after, strict=True) if old != new}) <= 1


@pytest.mark.parametrize("wrong", [{"strangers": 1.0}, {"strangers": -0.1}, {"gallery_per_subject": 2}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Split(**wrong)  # type: ignore[arg-type]


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "data" / "photos.parquet"
    path.parent.mkdir()
    columns = {"image_id": IMAGES, "subject_id": SUBJECTS, "image_uri": [f"sub/{n}.jpg" for n in IMAGES]}
    pq.write_table(pa.table({**columns, "site": ["x"] * len(IMAGES)}), path)
    return str(path)


def _rows(path: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = pq.read_table(path).to_pylist()
    return rows


def test_open_set_lists_are_manifests_that_enroll_takes(tmp_path: Path, manifest: str) -> None:
    out = tmp_path / "open"
    assert main(["protocol", "open-set", manifest, "--few", "strangers", "-o", str(out), "--csv"]) == 0
    gallery, probes = _rows(out / "gallery.parquet"), _rows(out / "probes.parquet")
    enrolled = {row["subject_id"] for row in gallery}
    assert len(gallery) == len(enrolled) == 5
    assert all((row["subject_id"] in enrolled) == row["mated"] for row in probes)
    assert not {row["image_id"] for row in gallery} & {row["image_id"] for row in probes}
    assert gallery[0]["site"] == "x"
    assert gallery[0]["image_uri"] == f"{tmp_path}/data/sub/{gallery[0]['image_id']}.jpg"
    for name in ("gallery.parquet", "probes.parquet", "gallery.csv", "probes.csv"):
        listed = Manifest.open(str(out / name), reserved_names())
        assert sum(table.num_rows for table in admitted(listed, ())) == (5 if "gallery" in name else 35)
    protocol = Protocol.load(str(out))
    assert (protocol.kind, protocol.counts["mated"], protocol.counts["nonmated"]) == (
        "identification",
        10,
        25,
    )
    assert protocol.files == {"gallery.parquet": 5, "probes.parquet": 35}


def test_repeats_have_folders_of_their_own_and_the_first_is_that_of_one(
    tmp_path: Path, manifest: str
) -> None:
    main(["protocol", "open-set", manifest, "-o", str(tmp_path / "one")])
    assert main(["protocol", "open-set", manifest, "--repeats", "2", "-o", str(tmp_path / "two")]) == 0
    one = _rows(tmp_path / "one" / "gallery.parquet")
    assert one == _rows(tmp_path / "two" / "repeat-01" / "gallery.parquet")
    assert one != _rows(tmp_path / "two" / "repeat-02" / "gallery.parquet")
    protocol = Protocol.load(str(tmp_path / "two"))
    assert list(protocol.folds) == ["01", "02"]
    assert protocol.counts["repeats"] == 2


def test_a_closed_set_has_no_strangers(tmp_path: Path, manifest: str) -> None:
    assert main(["protocol", "closed-set", manifest, "--few", "gallery", "-o", str(tmp_path / "out")]) == 0
    assert len(_rows(tmp_path / "out" / "gallery.parquet")) == 20
    assert all(row["mated"] for row in _rows(tmp_path / "out" / "probes.parquet"))
    assert Protocol.load(str(tmp_path / "out")).threshold == "none"


def test_lists_of_ones_own_divide_the_manifest(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "g.txt").write_text("p00-0\np01-0\tp01\n")
    (tmp_path / "p.csv").write_text("image,subject\np00-1,p00\nsub/p02-0.jpg,\n")
    lists = ["--gallery-list", str(tmp_path / "g.txt"), "--probe-list", str(tmp_path / "p.csv")]
    assert main(["protocol", "open-set", manifest, *lists, "-o", str(tmp_path / "out")]) == 0
    assert [row["image_id"] for row in _rows(tmp_path / "out" / "gallery.parquet")] == ["p00-0", "p01-0"]
    probes = [(row["image_id"], row["mated"]) for row in _rows(tmp_path / "out" / "probes.parquet")]
    assert probes == [("p00-1", True), ("p02-0", False)]
    assert len(Protocol.load(str(tmp_path / "out")).sources) == 3
    assert main(["protocol", "closed-set", manifest, *lists, "-o", str(tmp_path / "closed")]) == 3
    assert main(["protocol", "open-set", manifest, *lists[:2], "-o", str(tmp_path / "half")]) == 2


@pytest.mark.parametrize(
    ("probes", "said"),
    [
        ("p00-1\nnowhere\n", "line 2"),
        ("p00-1\np00-0\n", "listed already: line 2"),
        ("p00-1\np00-1\n", "listed again: line 2"),
        ("p00-1\tp07\n", "another person than in the manifest: line 1"),
        ("p00-1\tp00\tx\n", "line 1"),
    ],
)
def test_a_wrong_list_is_refused_with_lines_and_no_names(
    tmp_path: Path, manifest: str, probes: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "g.txt").write_text("p00-0\n")
    (tmp_path / "p.txt").write_text(probes)
    lists = ["--gallery-list", str(tmp_path / "g.txt"), "--probe-list", str(tmp_path / "p.txt")]
    assert main(["protocol", "open-set", manifest, *lists, "-o", str(tmp_path / "out")]) == 3
    error = capsys.readouterr().err
    assert said in error
    assert "p00" not in error


def test_persons_may_come_from_the_lists_alone(tmp_path: Path) -> None:
    (tmp_path / "photos.csv").write_text("image_uri\n1.jpg\n2.jpg\n3.jpg\n")
    (tmp_path / "g.txt").write_text("1.jpg\tA\n")
    (tmp_path / "p.txt").write_text("2.jpg\tA\n3.jpg\tB\n")
    lists = ["--gallery-list", str(tmp_path / "g.txt"), "--probe-list", str(tmp_path / "p.txt")]
    call = ["protocol", "open-set", str(tmp_path / "photos.csv"), *lists, "-o", str(tmp_path / "out")]
    assert main(call) == 0
    assert [row["subject_id"] for row in _rows(tmp_path / "out" / "probes.parquet")] == ["A", "B"]
    (tmp_path / "p.txt").write_text("2.jpg\tA\n3.jpg\n")
    assert main([*call[:-1], str(tmp_path / "other")]) == 3


def test_a_manifest_that_gives_no_strangers_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos.csv").write_text("image_uri,subject_id\n1.jpg,A\n2.jpg,A\n3.jpg,\n")
    call = ["protocol", "open-set", str(tmp_path / "photos.csv"), "-o", str(tmp_path / "out")]
    assert main([*call, "--strangers", "0"]) == 3
    assert "no non-mated probes" in capsys.readouterr().err
    assert main(["protocol", "closed-set", *call[2:]]) == 0
    assert Protocol.load(str(tmp_path / "out")).counts["unlabelled"] == 1
