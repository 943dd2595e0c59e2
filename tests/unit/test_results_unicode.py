"""Lists and results that name photos and people in another Unicode form than the run does."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from frpipe.cli.main import main
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.jobs.dedup.since import Carried
from frpipe.jobs.dedup.source import GallerySource
from frpipe.jobs.evaluate.pair_results import texts
from frpipe.jobs.evaluate.photo_facts import PhotoFacts
from frpipe.jobs.subject_faces import templates_of
from frpipe.jobs.verify.named_faces import NamedFaces
from frpipe.jobs.verify.pair_list import PairList, PairNames
from frpipe.protocols.source import PhotoName
from frpipe.protocols.verification import PhotoFolder

NFC = "김지수"
NFD = unicodedata.normalize("NFD", NFC)
DIM = 4
Part = Callable[[str], tuple[pa.Table, pa.Table]]


@pytest.fixture
def part() -> Part:
    """One photo with one face, in a run that took ids as they came."""

    def made(name: str) -> tuple[pa.Table, pa.Table]:
        from test_subject_faces import CENTRE, NOW, _part

        assert NOW
        images, faces = _part((f"{name}.jpg", name, CENTRE))
        extra = {"image_uri": [f"photos/{name}.jpg"], "status": ["ok"], "reason": pa.nulls(1, pa.string())}
        for key, values in extra.items():
            images = images.append_column(key, pa.array(values))
        return images, faces

    return made


@pytest.mark.parametrize("written", ["{}.jpg", "photos/{}.jpg", "{}.jpg#0"])
def test_a_list_of_pairs_finds_a_photo_in_either_form(tmp_path: Path, part: Part, written: str) -> None:
    table = pa.table({"a": [written.format(NFC)], "b": [written.format(NFD)]})
    pq.write_table(table, tmp_path / "pairs.parquet")
    pairs = PairList.open(str(tmp_path / "pairs.parquet"))
    names = PairNames.read(pairs, 2, 10)
    assert len(names.number) == 1
    (block,) = pairs.blocks(10)
    assert names.numbers(block["a"]).tolist() == names.numbers(block["b"]).tolist() == [0]
    assert block["b"].to_pylist() == [written.format(NFD)]
    for name in (NFC, NFD):
        faces = NamedFaces(names.number, 2, "largest")
        faces.add(*part(name))
        assert faces.present(np.array([0])).all()


def test_templates_of_an_older_run_bear_ids_in_nfc(part: Part) -> None:
    from test_subject_faces import NOW

    table, _ = templates_of(*part(NFD), "largest", NOW)
    assert (table["subject_id"][0].as_py(), table["face_id"][0].as_py()) == (NFC, f"{NFC}.jpg#0")


def test_what_is_known_of_a_photo_is_found_in_either_form() -> None:
    text = pd.DataFrame({"image_id": [f"{NFD}.jpg"], "image_uri": [f"x/{NFD}.jpg"], "subject_id": [NFC]})
    facts = PhotoFacts(text.set_index(pd.Index([f"{NFC}.jpg"])))
    asked = np.array(
        [f"{form}.jpg{face}" for form in (NFC, NFD) for face in ("", "#3")] + [f"x/{NFC}.jpg"], object
    )
    assert facts.of_photos("subject_id", asked).tolist() == [NFC] * 5
    # It leads to the run's own rows.
    assert facts.of_photos("image_id", asked).tolist() == [f"{NFD}.jpg"] * 5


def test_facts_are_read_in_nfc(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pa.table({"image_id": [NFD], "image_uri": [NFD], "subject_id": [NFD], "team": [NFD]})
    features = SimpleNamespace(columns=lambda: images.column_names, all_images=lambda _: [images])
    run = SimpleNamespace(run_id="r", features=features)
    at = "frpipe.jobs.evaluate.photo_facts"
    monkeypatch.setattr(f"{at}.FeatureRun", SimpleNamespace(open=lambda _: run))
    facts = PhotoFacts.of("features", ["team"])
    for column in ("subject_id", "team"):
        assert facts.of_photos(column, np.array([NFC], object)).tolist() == [NFC]


def test_results_of_searches_compare_people_in_nfc() -> None:
    assert texts(pa.chunked_array([pa.array([NFD, NFC, None])])).tolist() == [NFC, NFC, ""]


def test_a_protocol_finds_photos_that_a_list_names_in_another_form(tmp_path: Path) -> None:
    place = tmp_path / "photos" / NFD
    place.mkdir(parents=True)
    (place / f"{NFD}_0001.jpg").write_bytes(b"")
    found = PhotoFolder.find(str(tmp_path / "photos"), [PhotoName(NFC, 1)])
    row = found.manifest().to_pylist()[0]
    assert (row["image_id"], row["subject_id"]) == (f"{NFC}/{NFC}_0001.jpg", NFC)
    assert Path(row["image_uri"]).exists()
    assert found.image_id(PhotoName(NFC, 1)) == row["image_id"]


def test_lists_of_a_protocol_name_photos_and_people_in_either_form(tmp_path: Path) -> None:
    names = [f"{form}{n}.jpg" for n in range(2) for form in (NFD, "b")]
    table = pa.table({"image_uri": names, "subject_id": [NFD, "b"] * 2})
    pq.write_table(table, tmp_path / "m.parquet")
    (tmp_path / "gallery.csv").write_text(f"image,subject\n{NFC}0.jpg,{NFC}\n")
    (tmp_path / "probes.csv").write_text(f"image,subject\n{NFD}1.jpg,{NFC}\nb0.jpg,b\n")
    words = ["protocol", "open-set", str(tmp_path / "m.parquet"), "-o", str(tmp_path / "P")]
    lists = ["--gallery-list", str(tmp_path / "gallery.csv"), "--probe-list", str(tmp_path / "probes.csv")]
    assert main([*words, *lists]) == 0
    probes = pq.read_table(tmp_path / "P/probes.parquet")
    assert probes.filter(probes["mated"])["subject_id"].to_pylist() == [NFC]


def test_a_scan_names_people_in_nfc_and_leads_to_the_files(tmp_path: Path) -> None:
    place = tmp_path / "photos" / NFD
    place.mkdir(parents=True)
    (place / "1.jpg").write_bytes(b"")
    assert main(["manifest", "scan", str(tmp_path / "photos"), "-o", str(tmp_path / "m.parquet")]) == 0
    (row,) = pq.read_table(tmp_path / "m.parquet").to_pylist()
    assert (row["image_id"], row["subject_id"]) == (f"{NFC}/1.jpg", NFC)
    assert Path(row["image_uri"]).exists()


def test_pairs_of_an_older_result_are_carried_on_in_nfc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gallery_rows import people, spec

    gallery = Gallery.create(str(tmp_path / "g"), spec())
    with monkeypatch.context() as old:
        old.setattr("frpipe.gallery.schema.canonical_column", lambda column: column)
        lifecycle.enroll(gallery, [people([NFD, "ann"])])
    pair = {"subject_a": ["ann"], "face_a": ["ann#0"], "subject_b": [NFD], "face_b": [f"{NFD}#0"]}
    result = SimpleNamespace(read=lambda _: pa.table(pair), pairs=lambda: ["pairs"])
    carried = Carried(result, GallerySource(gallery.uri, 1, 10, {}))  # type: ignore[arg-type]
    assert carried.table("pairs")["subject_b"].to_pylist() == [NFC]
