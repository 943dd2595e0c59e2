"""A version is its content: a gallery that was restored, copied or made anew is not taken for the old one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import frozen
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from frozen import THRESHOLD, Frozen
from undrawn import undrawn

from frpipe.cli.main import main
from frpipe.core.errors import GalleryDamaged, GalleryError, OutputError
from frpipe.evaluation.cards import Strangers, threshold_card
from frpipe.evaluation.evaluation import Evaluation
from frpipe.gallery import lifecycle
from frpipe.gallery.catalog import OtherVersion
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.hdf5_exchange_reader import read_root
from frpipe.jobs.dedup.job import Dedup
from frpipe.jobs.dedup.source import GallerySource
from frpipe.jobs.evaluate.all_pairs.job import AllPairs
from frpipe.jobs.evaluate.job import Asked, IdentificationMetrics
from frpipe.jobs.evaluate.search_results import SearchResults
from frpipe.jobs.gallery_files import export
from frpipe.jobs.identify.job import Identifying
from frpipe.jobs.identify.worker import SearchSpec
from frpipe.metrics.curve import Curve
from frpipe.metrics.scores import Scores
from frpipe.models.registry import Registry
from frpipe.runtime.failure import as_text, revive

OTHER = r"another (one|gallery)"
KINDS = ("restored", "copied", "made anew")
BEFORE, FIRST, SECOND = ["anna", "cora"], ["bela"], ["annie"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    """For reading, with the models known; the cards are read once."""
    with (
        frozen.copied(tmp_path_factory.mktemp("frozen") / "f") as found,
        pytest.MonkeyPatch.context() as patch,
    ):
        registry = Registry.default()
        patch.setattr(Registry, "default", lambda: registry)
        yield found


@pytest.fixture
def place(files: Frozen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A gallery at version 2: anna, cora, then bela."""
    undrawn(monkeypatch)
    made = Place(files, tmp_path)
    made.create()
    shutil.copytree(made.gallery, tmp_path / "backup")
    made.enroll(made.gallery, FIRST)
    return made


class Place:
    """A gallery, and what jobs make of it."""

    def __init__(self, files: Frozen, root: Path) -> None:
        self._files, self._root = files, root
        self.gallery = root / "G"
        self.said: list[str] = []

    def create(self) -> None:
        spec = Gallery.open(str(self._files / "gallery-plain")).spec
        Gallery.create(str(self.gallery), spec)
        self.enroll(self.gallery, BEFORE)

    def enroll(self, gallery: Path, people: list[str]) -> None:
        rows = pa.concat_tables(Gallery.open(str(self._files / "gallery-plain")).snapshot().tables())
        some = rows.filter(pc.is_in(rows["subject_id"], value_set=pa.array(people)))
        lifecycle.enroll(Gallery.open(str(gallery)), [some], "append")

    def become(self, kind: str) -> None:
        """The gallery by another one, whose version 2 has annie and no bela."""
        if kind == "copied":
            self.gallery = self._root / "copy"
            shutil.copytree(self._root / "backup", self.gallery)
        else:
            shutil.rmtree(self.gallery)
            if kind == "restored":
                shutil.copytree(self._root / "backup", self.gallery)
            else:
                self.create()
        self.enroll(self.gallery, SECOND)

    def compact(self) -> None:
        gallery = Gallery.open(str(self.gallery))
        lifecycle.delete(gallery, ["cora"])
        lifecycle.compact(gallery)

    def identify(self, output: str = "found", **more: Any) -> dict[str, Any]:
        probes = str(self._files / "enroll-probes")
        told = {"threshold": THRESHOLD, "say": self.said.append, **more}
        return Identifying(probes, str(self.gallery), str(self._root / output), **told).run()

    def dedup(self, output: str = "twice", **more: Any) -> dict[str, Any]:
        told = {"threshold": THRESHOLD, "say": self.said.append, **more}
        return Dedup(str(self._root / output), gallery=str(self.gallery), **told).run()

    def all_pairs(self, output: str = "pairs", **more: Any) -> Any:
        return AllPairs(str(self._root / output), gallery=str(self.gallery), **more).run()

    def metrics(self) -> dict[str, Any]:
        asked = Asked([self.result("found")], self.result("report"), thresholds=[THRESHOLD])
        return IdentificationMetrics(asked, say=self.said.append).run()

    def result(self, output: str) -> str:
        return str(self._root / output)

    def forget_commits(self, output: str, **changes: Any) -> None:
        """Make an output one of older code, which recorded a version's number alone."""
        for name in ("run.json", "report.json"):
            path = self._root / output / name
            facts = _without_commits(json.loads(path.read_text()))
            path.write_text(json.dumps({**facts, **(changes if name == "run.json" else {})}))


def _without_commits(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {k: _without_commits(v) for k, v in value.items() if k not in ("commit", "gallery_commit")}


JOBS: dict[str, Callable[[Place], object]] = {
    "identify": Place.identify,
    "dedup": Place.dedup,
    "all pairs": Place.all_pairs,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", JOBS)
def test_an_output_that_was_begun_with_another_gallery_is_refused(name: str, kind: str, place: Place) -> None:
    JOBS[name](place)
    place.become(kind)
    with pytest.raises(OutputError, match=OTHER) as caught:
        JOBS[name](place)
    assert "another --output" in caught.value.remedy


def test_a_new_output_holds_what_the_restored_gallery_holds(place: Place) -> None:
    place.identify()
    place.dedup()
    place.become("restored")
    assert place.dedup("anew")["pairs"] > 0
    place.identify("found-anew")
    rows = pq.read_table(f"{place.result('found-anew')}/probes").to_pylist()
    assert {row["image_id"]: row["decision"] for row in rows}["p-bela-3"] == "stranger"


def test_a_version_that_is_not_there_any_more_is_refused_by_name(place: Place) -> None:
    for job in JOBS.values():
        job(place)
    shutil.rmtree(place.gallery)
    shutil.copytree(Path(place.result("backup")), place.gallery)
    for job in JOBS.values():
        with pytest.raises(
            OutputError, match=r"version 2 \(commit .*\) is not in the gallery, whose newest is 1"
        ):
            job(place)


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_of_another_gallery_is_not_carried_on(kind: str, place: Place) -> None:
    place.dedup("night")
    place.become(kind)
    with pytest.raises(OutputError, match=OTHER) as caught:
        place.dedup("next", since=place.result("night"))
    assert "leave --since out" in caught.value.remedy
    assert not Path(place.result("next")).exists()


def test_a_result_of_before_the_backup_is_carried_on_in_the_restored_gallery(place: Place) -> None:
    shutil.rmtree(place.gallery)
    shutil.copytree(Path(place.result("backup")), place.gallery)
    place.dedup("night")
    place.enroll(place.gallery, SECOND)
    found = place.dedup("next", since=place.result("night"))
    assert (found["pairs"], found["fresh_templates"]) == (place.dedup("whole")["pairs"], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_of_another_gallery_counts_as_searched(kind: str, place: Place) -> None:
    place.identify()
    assert SearchResults.open(place.result("found")).trials.enrolled.tolist() == ["anna", "bela", "cora"]
    place.become(kind)
    if kind == "copied":
        # The result names the place that it searched.
        shutil.rmtree(place.result("G"))
        shutil.copytree(place.gallery, place.result("G"))
    with pytest.raises(GalleryError, match=OTHER) as caught:
        SearchResults.open(place.result("found"))
    assert "search again" in caught.value.remedy


def test_what_is_finished_is_answered_though_a_compaction_took_its_version(place: Place) -> None:
    found, twice = place.identify(), place.dedup()
    evaluated, compared = place.metrics(), place.all_pairs()
    place.dedup("fresh", since_version=1)
    place.compact()
    place.said.clear()
    assert place.identify() == found
    assert place.dedup() == twice
    assert place.metrics() == evaluated
    place.dedup("fresh", since_version=1)
    assert place.said == ["this run is complete already: nothing to do"] * 4
    assert place.all_pairs().text() == compared.text()
    with pytest.raises(OutputError, match="threshold_similarity"):
        place.dedup(threshold=0.9)
    with pytest.raises(OutputError, match="candidates"):
        place.identify(k=3)
    with pytest.raises(GalleryError, match="purged"):
        SearchResults.open(place.result("found"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_compacted_gallery_that_is_another_one_gives_no_answer(kind: str, place: Place) -> None:
    for job in JOBS.values():
        job(place)
    place.become(kind)
    place.compact()
    for job in JOBS.values():
        with pytest.raises(OutputError, match=OTHER):
            job(place)


def test_an_unfinished_output_of_a_compacted_version_asks_for_a_new_one(place: Place) -> None:
    place.identify()
    place.dedup()
    place.compact()
    for output, job in (("found", place.identify), ("twice", place.dedup)):
        Path(place.result(output), "_SUCCESS").unlink()
        with pytest.raises(GalleryError, match="the output was begun with it"):
            job()


class TestOlderOutputs:
    """They record a number alone; time and templates are all that tells a version."""

    def test_are_finished_and_carried_on_with_a_warning(self, place: Place) -> None:
        for output, job in (("found", place.identify), ("twice", place.dedup)):
            job()
            place.forget_commits(output)
            place.said.clear()
            job()
            assert place.said == ["this run is complete already: nothing to do"]
            Path(place.result(output), "_SUCCESS").unlink()
            job()
            assert any("no commit" in line for line in place.said)
        place.enroll(place.gallery, SECOND)
        place.forget_commits("twice")
        place.said.clear()
        assert place.dedup("next", since=place.result("twice"))["fresh_templates"] == 1
        assert any("no commit" in line for line in place.said)
        place.forget_commits("found")
        assert any("no commit" in line for line in SearchResults.open(place.result("found")).warnings)

    @pytest.mark.parametrize("why", ["younger", "other templates"])
    def test_are_refused_where_the_version_is_younger_or_has_other_templates(
        self, why: str, place: Place
    ) -> None:
        place.identify()
        place.dedup()
        for output in ("found", "twice"):
            place.forget_commits(
                output, **({"created": "2026-01-01T00:00:00+00:00"} if why == "younger" else {})
            )
            if why == "other templates":
                path = Path(place.result(output), "report.json")
                path.write_text(json.dumps({**json.loads(path.read_text()), "templates": 99}))
        for job in (place.identify, place.dedup):
            with pytest.raises(OutputError, match="another one"):
                job()
        with pytest.raises(OutputError, match="another one"):
            place.dedup("next", since=place.result("twice"))
        with pytest.raises(GalleryError, match="another one"):
            SearchResults.open(place.result("found"))


def test_what_names_a_version_names_its_commit(place: Place, tmp_path: Path) -> None:
    gallery = Gallery.open(str(place.gallery))
    commit = gallery.snapshot().version.commit
    place.identify()
    place.dedup()
    place.all_pairs()
    for part in ("found/probes", "twice/pairs", "pairs/histograms"):
        metadata = pq.read_schema(f"{place.result(part)}/part-000000.parquet").metadata
        named = {
            name: metadata[f"frpipe.gallery_{name}".encode()].decode() for name in ("id", "version", "commit")
        }
        assert named == {"id": gallery.gallery_id, "version": "2", "commit": commit}
    for output in ("found", "twice", "pairs"):
        for name in ("run.json", "report.json"):
            assert commit in Path(place.result(output), name).read_text(), (output, name)
    for output in ("found", "twice"):
        assert f"version 2 (commit {commit[:12]})" in Path(place.result(output), "report.md").read_text()
    export(gallery, str(tmp_path / "all.hdf"), "lecture")
    export(gallery, str(tmp_path / "all"), "parquet")
    assert read_root(tmp_path / "all.hdf")["gallery_commit"] == commit
    metadata = pq.read_schema(tmp_path / "all/templates-00000.parquet").metadata
    assert metadata[b"frpipe.gallery_commit"].decode() == commit


def test_a_version_whose_file_is_lost_is_damage_and_not_another_gallery(place: Place) -> None:
    place.identify()
    place.enroll(place.gallery, SECOND)
    (place.gallery / "versions/000000002.json").unlink()
    with pytest.raises(GalleryDamaged, match="version 2 of the gallery: its file is missing"):
        place.identify()


def test_the_empty_version_is_told_by_its_gallery(place: Place, tmp_path: Path) -> None:
    one, other = (
        Gallery.create(str(tmp_path / name), Gallery.open(str(place.gallery)).spec) for name in "ab"
    )
    empty = one.snapshot().id
    assert (empty.number, empty.commit) == (0, "")
    assert one.find(empty).rows == 0
    with pytest.raises(GalleryError, match="another gallery"):
        other.find(empty)


def test_a_worker_reads_no_other_version_of_that_number(place: Place) -> None:
    spec = SearchSpec(str(place.gallery), 2, 1, commit="0" * 32)
    source = GallerySource(str(place.gallery), 2, 100, commit="0" * 32)
    for read in (spec.search_view, lambda: source.snapshot):
        with pytest.raises(GalleryError, match="another one") as caught:
            read()
        assert isinstance(revive(as_text(caught.value)), OtherVersion)


def test_the_log_shows_the_commit_of_each_version(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    commits = [Gallery.open(str(place.gallery)).snapshot(number).version.commit for number in (1, 2)]
    place.compact()
    assert main(["gallery", "log", str(place.gallery), "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)["entries"]
    assert [entry["commit"] for entry in entries[:3]] == ["", *commits]
    assert main(["gallery", "log", str(place.gallery)]) == 0
    assert commits[1][:12] in capsys.readouterr().out


def test_a_threshold_card_of_a_search_names_the_gallery_and_its_commit() -> None:
    named = {"gallery_id": "g-1", "gallery_version": 2, "gallery_commit": "c0ffee"}
    hashes = {"embedder_hash": "e" * 64, "preprocessing_hash": "p" * 64}
    scores = Scores(np.full(10, 0.9), np.arange(100) / 200)
    found = Evaluation("a", "identification", {"gallery": 3}, [], {}, {**named, **hashes})
    people = np.arange(100)
    strangers = Strangers(Curve.of(scores), people / 200, people, people)
    card = threshold_card(found, strangers, 0.5, datetime(2026, 5, 1, tzinfo=UTC))
    assert card.source.endswith("; gallery g-1, version 2, commit c0ffee")
