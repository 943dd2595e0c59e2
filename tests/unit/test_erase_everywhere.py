"""One command takes a person out of all that a configuration of nights knows, and proves it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from night_runs import DONE, FIXTURES, KILLED, known_nights

from frpipe.cli.main import main
from frpipe.core.errors import OutputError
from frpipe.core.night_config import NightConfig
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.likeness import Doubt, Doubts
from frpipe.io.erasure.pending import PENDING, RECEIPTS, refuse_pending
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dedup.since import OldResult
from frpipe.jobs.erase.everywhere import ErasedEverywhere, EraseEverywhere
from frpipe.jobs.erase.proof import ErasureError
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.nightly.doubts import DOUBTS, doubted, write_doubts
from frpipe.jobs.nightly.history import nights
from frpipe.jobs.nightly.lease import LeaseError, lease
from frpipe.jobs.nightly.report import write_report
from frpipe.testing.kills import Killed, at_change, die

ANNA = frozenset({"anna"})


@pytest.fixture
def config(tmp_path: Path) -> NightConfig:
    return known_nights(tmp_path)


Undisturbed = tuple[NightConfig, ErasedEverywhere, Path, set[str]]


@pytest.fixture(scope="module")
def erased(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """anna taken out, undisturbed: the nights, what was said, their place, and all texts from before."""
    place = tmp_path_factory.mktemp("erased")
    config = known_nights(place)
    before = _values(place)
    return config, _erase(config, "anna", reason="request 14", by="desk"), place, before


@pytest.fixture
def no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is killed here cannot be seen to be dead, as this process goes on: nobody waits for its lease."""

    @contextmanager
    def held(*_: object) -> Iterator[Any]:
        yield SimpleNamespace(check=lambda: None)

    monkeypatch.setattr("frpipe.jobs.erase.everywhere.lease", held)


def _erase(config: NightConfig, *people: str, **options: Any) -> ErasedEverywhere:
    return EraseEverywhere(config, frozenset(people), **options).run()


def _values(place: Path) -> set[str]:
    """Every text of every Parquet file below."""
    found: set[str] = set()

    def add(value: Any) -> None:
        if isinstance(value, str):
            found.add(value)
        elif isinstance(value, list):
            for each in value:
                add(each)
        elif isinstance(value, dict):
            for each in value.values():
                add(each)

    for path in place.rglob("*.parquet"):
        for row in pq.read_table(path).to_pylist():
            add(row)
    return found


def _people(config: NightConfig) -> set[str]:
    tables = Gallery.open(config.gallery).snapshot().tables(["subject_id"], vectors=False)
    return {who for table in tables for who in table["subject_id"].to_pylist()}


def test_a_person_is_out_of_everything_and_all_else_is_there(erased: Undisturbed) -> None:
    config, done, tmp_path, before = erased
    assert (done.templates, done.photos, done.faces, done.results, done.begun) == (1, 1, 1, 2, 1)
    assert done.absent == 0
    texts = (tmp_path / "nights" / DONE).joinpath
    for name in ("night.json", "report.json", "report.html", "report.md"):
        assert "anna" not in texts(name).read_text().replace("joanna", "")
    gone = {v for v in before - _values(tmp_path) if not v.endswith((".png", "#0", ".jpg"))}
    assert "anna" in gone
    assert not {"bela", "cora", "dana", "emil"} & gone
    assert not any("anna" in value.split("/") for value in _values(tmp_path))
    assert _people(config) == {"bela", "cora", "dana"}
    assert lifecycle.verify(Gallery.open(config.gallery)) == []
    assert Gallery.open(config.gallery).suppressions.read().entries[0].reason == "request 14"
    assert not (tmp_path / "nights" / PENDING).exists()


def test_the_night_and_its_results_are_whole_afterwards(erased: Undisturbed) -> None:
    runs = Folder.at(erased[0].runs)
    done, killed = nights(runs)
    assert (done.complete, killed.complete) == (True, False)
    for sub in ("", "enroll", "dedup", "identify/gallery"):
        folder = runs.child(f"{DONE}/{sub}".rstrip("/"))
        assert run.complete(folder) is not None, sub
        assert not folder.exists(run.ERASING)
    assert FeatureRun.open(runs.child(f"{DONE}/enroll").uri).faces == 3
    OldResult.open(runs.child(f"{DONE}/dedup").uri).clusters()
    assert not killed.folder.list("enroll")
    scan, enroll = (done.steps[name] for name in ("scan", "enroll"))
    assert (scan["listed"], scan["new"], scan["known_before"]) == (4, 4, 0)
    assert (enroll["rows"], enroll["ok"], enroll["rejected"], enroll["erased"]) == (4, 3, 1, 1)
    report = json.loads(done.folder.read("report.json"))
    assert report["steps"]["enroll"]["ok"] == 3
    assert report["lists"]["person_new"] == ["bela", "cora", "dana"]
    assert "3 ok" in done.folder.read("report.md").decode()
    found = report["steps"]["identify"]["gallery"]
    assert (found["rows"], found["identified"], found["strangers"]) == (3, 1, 1)


def test_others_candidates_close_up_and_are_decided_anew(erased: Undisturbed) -> None:
    origin = FIXTURES / "identify/probes/part-000000.parquet"
    name = f"{erased[0].runs}/{DONE}/identify/gallery/probes/part-000000.parquet"
    before = {row["image_id"]: row for row in pq.read_table(origin).to_pylist()}
    schema = pq.read_schema(origin)
    after = {row["image_id"]: row for row in pq.read_table(name).to_pylist()}
    assert pq.read_schema(name).equals(schema)
    assert set(after) == set(before) - {"p-anna-3"}
    fred = after["p-fred-1"]
    rest = [c for c in before["p-fred-1"]["candidates"] if c["subject_id"] != "anna"]
    assert [c["rank"] for c in fred["candidates"]] == list(range(1, len(rest) + 1))
    assert [c["subject_id"] for c in fred["candidates"]] == [c["subject_id"] for c in rest]
    assert (fred["rank1_subject_id"], fred["rank1_similarity"]) == (
        rest[0]["subject_id"],
        rest[0]["similarity"],
    )
    assert fred["decision"] == "stranger"
    assert after["p-black"] == before["p-black"]


def test_pairs_and_clusters_lose_the_person_alone(erased: Undisturbed) -> None:
    place = Path(erased[0].runs) / DONE / "dedup"
    clusters = pq.read_table(FIXTURES / "dedup/clusters.parquet").to_pylist()
    assert "anna" in {row["subject_id"] for row in clusters}
    after = pq.read_table(place / "clusters.parquet").to_pylist()
    pairs = pq.read_table(place / "pairs").to_pylist()
    assert "anna" not in {row[side] for row in pairs for side in ("subject_a", "subject_b")}
    report = json.loads((place / "report.json").read_text())
    assert report["pairs"] == len(pairs)
    assert {row["subject_id"] for row in after} == {
        row[side] for row in pairs for side in ("subject_a", "subject_b")
    }


def test_who_is_listed_and_was_never_enrolled_goes_too(config: NightConfig, tmp_path: Path) -> None:
    done = _erase(config, "emil")
    assert (done.templates, done.photos, done.faces, done.absent) == (0, 1, 0, 0)
    assert not any("emil" in value.split("/") for value in _values(tmp_path))
    barred = Gallery.open(config.gallery).suppressions.read()
    assert barred.holds("images", "emil/broken.png")


def test_photos_are_suppressed_under_every_source_that_the_nights_had(
    config: NightConfig, tmp_path: Path
) -> None:
    path = tmp_path / "nights" / DONE / "run.json"
    facts = json.loads(path.read_text())
    facts["base"]["sources"] = {"site": ["site"]}
    path.write_text(json.dumps(facts))
    how = config.consolidate.model_copy(update={"source": "cam"})
    _erase(config.model_copy(update={"consolidate": how}), "anna")
    found = Gallery.open(config.gallery).suppressions.read()
    assert all(found.holds("images", f"{source}anna/1.png") for source in ("", "site/", "cam/"))


def test_a_held_back_night_says_what_is_left_of_it(config: NightConfig) -> None:
    folder = Folder.at(config.runs).child(DONE)
    record = json.loads(folder.read("night.json"))
    record["steps"] = {name: record["steps"][name] for name in ("scan", "enroll")}
    folder.write("night.json", json.dumps(record).encode())
    report = json.loads(folder.read("report.json"))
    folder.write(
        "report.json",
        json.dumps({**report, "held_back": True, "lists": {}, "steps": record["steps"]}).encode(),
    )
    folder.delete(run.SUCCESS)
    for sub in ("dedup", "identify", "drift", "differences"):
        shutil.rmtree(f"{folder.uri}/{sub}")
    done = _erase(config, "anna")
    assert done.begun == 1
    assert "enrolled   3 ok" in folder.read("report.md").decode()
    assert not folder.exists(run.SUCCESS)


def test_once_more_is_a_no_op_that_says_so_and_who_never_was_is_absent(config: NightConfig) -> None:
    _erase(config, "anna")
    files = {
        p: p.read_bytes() for p in Path(config.runs).rglob("*") if p.is_file() and "_lease" not in str(p)
    }
    done = _erase(config, "anna", "nobody-at-all")
    assert (done.earlier, done.absent, done.photos, done.suppressed) == (1, 1, 0, 0)
    assert {p: p.read_bytes() for p in files} == files


def test_nothing_happens_while_a_night_runs_and_no_night_before_the_end(config: NightConfig) -> None:
    runs = Folder.at(config.runs)
    with lease(runs, DONE, 1.0), pytest.raises(LeaseError):
        EraseEverywhere(
            config.model_copy(update={"lease": config.lease.model_copy(update={"expires_s": 0.2})}), ANNA
        ).run()


@pytest.mark.usefixtures("no_lease")
def test_no_night_begins_before_an_erasure_that_broke_off_has_ended(config: NightConfig) -> None:
    runs = Folder.at(config.runs)
    with at_change(8, die), pytest.raises(Killed):
        _erase(config, "anna")
    with pytest.raises(OutputError, match="being taken out"):
        refuse_pending(runs)


def test_copies_are_refused_before_anything_is_changed_and_then_erased(config: NightConfig) -> None:
    listing = Path(config.runs) / DONE / "enroll/images/part-000000.parquet"
    assert listing.exists()
    rows = {row["image_id"]: row["content_sha256"] for row in _images(config)}
    assert len(rows) == 5
    # bela's file is anna's now: a copy under another person's name.
    _rewrite(config, "bela/1.png", rows["anna/1.png"])
    with pytest.raises(OutputError, match="copies"):
        _erase(config, "anna")
    assert not Gallery.open(config.gallery).suppressions.read()
    done = _erase(config, "anna", copies="keep")
    assert (done.photos, done.shared) == (1, 1)
    assert _people(config) == {"bela", "cora", "dana"}


def test_copies_go_with_them_where_that_is_said(config: NightConfig) -> None:
    _rewrite(
        config, "bela/1.png", {r["image_id"]: r["content_sha256"] for r in _images(config)}["anna/1.png"]
    )
    assert _erase(config, "anna", copies="erase").photos == 2
    assert _people(config) == {"cora", "dana"}


def _images(config: NightConfig) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(f"{config.runs}/{DONE}/enroll/images").to_pylist()
    return rows


def _rewrite(config: NightConfig, image_id: str, content: str) -> None:
    """Have a photo of the finished run another content, and seal it."""
    from frpipe.io.output.parts import replace_part
    from frpipe.io.output.plan import load_plan
    from frpipe.jobs.enroll.audit import audit
    from frpipe.jobs.erase.parts import as_written

    out = Folder.at(config.runs).child(f"{DONE}/enroll")
    for part in range(load_plan(out).parts):
        images, faces = (
            as_written(out.read(f"{sub}/part-{part:06d}.parquet")) for sub in ("images", "faces")
        )
        rows = images.to_pylist()
        for row in rows:
            row["content_sha256"] = content if row["image_id"] == image_id else row["content_sha256"]
        replace_part(out, part, type(images).from_pylist(rows, images.schema), faces)
    report = run.complete(out) or json.loads(out.read(run.REPORT))
    run.seal(out, audit(out, load_plan(out)).files, report, "")


def test_a_hidden_copy_or_a_foreign_file_fails_the_proof_until_it_is_gone(config: NightConfig) -> None:
    import numpy as np

    gallery = Gallery.open(config.gallery)
    vector = np.array(gallery.snapshot().show("anna", vectors=True)["embedding"][0].as_py(), np.float32)
    for place in (config.runs, config.gallery):
        hidden = Path(place) / ".ipynb_checkpoints/copy.bin"
        hidden.parent.mkdir()
        hidden.write_bytes(b"x" + vector.tobytes())
    for place in (config.runs, config.gallery):
        with pytest.raises(ErasureError, match="hidden file"):
            _erase(config, "anna")
        (Path(place) / ".ipynb_checkpoints/copy.bin").unlink()
    (Path(config.runs) / "elsewhere").symlink_to(Path(config.runs).parent)
    assert _erase(config, "anna").searched.unread == ("elsewhere",)


def test_the_command(config: NightConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {name: getattr(config, name) for name in ("runs", "gallery", "photos")}
    (tmp_path / "night.yaml").write_text(yaml.safe_dump(settings))
    files = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    command = ["erase", "--everywhere", str(tmp_path / "night.yaml"), "--subject", "anna"]
    assert main([*command, "--dry-run"]) == 0
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == files
    assert "1 template of the gallery; 1 photo and 1 face" in capsys.readouterr().out
    assert main([*command, "--reason", "request 14", "--by", "desk"]) == 0
    said = capsys.readouterr().out
    assert "no file of the nights or the gallery holds these ids or the vectors" in said
    (receipt,) = json.loads((tmp_path / "nights" / RECEIPTS).read_text())["erasures"]
    assert (receipt["reason"], receipt["by"], receipt["photos"], receipt["templates"]) == (
        "request 14",
        "desk",
        1,
        1,
    )
    assert "anna" not in (tmp_path / "nights" / RECEIPTS).read_text()
    assert main(["erase", "--everywhere", str(tmp_path / "night.yaml"), "--subject", "nobody"]) == 12
    assert main(["erase", "--subject", "nobody"]) == 2


@pytest.mark.usefixtures("no_lease")
@pytest.mark.parametrize(
    "step", [pytest.param(29, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)
def test_killed_at_any_write_the_same_command_ends_alike(
    config: NightConfig, erased: Undisturbed, tmp_path: Path, step: int
) -> None:
    def copy(name: str) -> NightConfig:
        place = tmp_path / name
        for sub in ("nights", "people.gallery"):
            shutil.copytree(tmp_path / sub, place / sub)
        changes = {"runs": str(place / "nights"), "gallery": str(place / "people.gallery")}
        return config.model_copy(update=changes)

    expected = _state(erased[0])
    with at_change(None, lambda: None) as count:
        _erase(copy("count"), "anna")
    assert count[0] > 40
    for moment in range(9, count[0] + 1, step) if step > 1 else range(1, count[0] + 1):
        again = copy(str(moment))
        with at_change(moment, die), pytest.raises(Killed):
            _erase(again, "anna", reason="request 14", by="desk")
        done = _erase(again, "anna", reason="request 14", by="desk")
        assert done.absent == 0, moment
        assert _state(again) == expected, moment
        shutil.rmtree(tmp_path / str(moment))


def _state(config: NightConfig) -> dict[str, Any]:
    """All that counts, without times, random names, and who held the lease."""
    runs = Path(config.runs)
    found: dict[str, Any] = {}
    for path in sorted(p for p in runs.rglob("*") if p.is_file()):
        name = str(path.relative_to(runs))
        if name.startswith("_lease"):
            continue
        if name.endswith("erased.json"):
            found[name] = True
        elif name.endswith((".parquet", "files.json", "night.json", "plan.json", "_SUCCESS")):
            found[name] = path.read_bytes()
        else:
            found[name] = path.read_text().replace(config.runs, "")
    gallery = Gallery.open(config.gallery)
    barred = gallery.suppressions.read()
    found["people"] = _people(config)
    found["barred"] = [barred.holds(*each) for each in (("subjects", "anna"), ("images", "anna/2.png"))]
    found["contents"] = sorted(len(entry.contents) for entry in barred.entries)
    return found


@pytest.mark.parametrize("own", [True, False])
def test_doubts_about_a_face_go_from_the_table_and_from_the_page(config: NightConfig, own: bool) -> None:
    night = Folder.at(config.runs).child(DONE)
    faces = [("anna", "anna/1.png#0"), ("bela", "bela/1.png#0")]
    (who, face), (other, other_face) = faces if own else faces[::-1]
    others = Doubt("like_another", "bela", "bela/1.png#0", 0.7, "cora", "cora/1.png#0")
    doubts = [Doubt("like_another", who, face, 0.9, other, other_face), others]
    write_doubts(night, Doubts(0.5, 2, 0, 2, 9, None, tuple(doubts)))
    report = json.loads(night.read(run.REPORT))
    write_report(night, {**report, "lists": {**report["lists"], **doubted(night)}}, whole=True)
    assert "anna/1.png" in night.read("report.html").decode()
    _erase(config, "anna")
    assert [row["other_subject_id"] for row in pq.read_table(f"{night.uri}/{DOUBTS}").to_pylist()] == ["cora"]
    for name in (run.REPORT, "report.html"):
        assert "anna" not in night.read(name).decode(), name
        assert "cora/1.png" in night.read(name).decode(), name
    assert run.complete(night) is not None


def test_what_killed_writers_left_half_written_goes_too(config: NightConfig) -> None:
    runs = Path(config.runs)
    whole = runs / DONE / "enroll/images/part-000000.parquet"
    left = [runs / f"{KILLED}/enroll/images/.part-000000.parquet.x.tmp", runs / f"{DONE}/.night.json.x.tmp"]
    left.append(runs / "_erase/.erasing.json.x.tmp")
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(whole.read_bytes() + b"anna")
    _erase(config, "anna")
    assert not any(path.exists() for path in left)


def test_an_id_of_any_length_is_found_among_the_candidates_of_a_result(config: NightConfig) -> None:
    # Without its run.json nobody knows what the folder is.
    Folder.at(config.runs).child(f"{DONE}/identify/gallery").delete(run.RUN)
    with pytest.raises(ErasureError, match="identify/gallery/probes"):
        _erase(config, "bela")


def test_a_file_that_goes_while_the_proof_looks_is_no_error(
    config: NightConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Folder.everything

    def with_one_more(folder: Folder) -> Iterator[tuple[str, bool]]:
        yield from listed(folder)
        yield "_lease/.000000001.json.x.tmp", True

    monkeypatch.setattr(Folder, "everything", with_one_more)
    assert _erase(config, "anna").templates == 1


def test_a_begun_step_whose_plan_is_damaged_is_done_again(config: NightConfig) -> None:
    begun = Path(config.runs) / KILLED / "enroll"
    path = begun / "_plan/part-000000.parquet"
    data = bytearray(path.read_bytes())
    data[4:8] = b"\xff" * 4  # the header of the first page
    path.write_bytes(data)
    assert _erase(config, "dana").begun == 1
    assert not begun.exists()


def test_an_unfinished_enroll_that_does_not_hold_them_is_left_alone(config: NightConfig) -> None:
    begun = Path(config.runs) / KILLED / "enroll"
    files = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    assert _erase(config, "dana").begun == 0
    assert {path: path.read_bytes() for path in files} == files
