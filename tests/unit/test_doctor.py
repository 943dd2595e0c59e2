"""A gallery that was filled before photos had one outcome: what is wrong in it is found, and mended."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import pytest
from album_runs import Shot, enrolled, face
from gallery_rows import content

from frpipe.cli.main import main
from frpipe.core.errors import GalleryConflict
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.photos import MADE_OF, RunPhotos
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.doctor.job import examine, mend
from frpipe.jobs.features import FeatureRun

ANNA, BERT, STRANGER = face(1), face(2), face(3)
FIRST: Mapping[str, Shot] = {
    "anna/1.jpg": Shot("anna", [ANNA]),
    "anna/2.jpg": Shot("anna", [STRANGER]),
    "anna/3.jpg": Shot("anna", [face(4, near=1), BERT], size={1: 1.4}),
    "bert/1.jpg": Shot("bert", [BERT]),
    "bert/2.jpg": Shot("bert", [STRANGER, BERT]),
}
LATER: Mapping[str, Shot] = {
    "anna/2.jpg": Shot.empty("anna"),
    "anna/3.jpg": Shot.rejected("anna", "fetch_failed"),
    "bert/1.jpg": Shot("anna", [BERT]),
    "bert/2.jpg": Shot("bert", [BERT]),
}
WRONG = [("anna", "anna/2.jpg#0"), ("bert", "bert/1.jpg#0")]


def _as_before(gallery: Gallery, out: str, **how: str) -> None:
    """Put a run into a gallery as it was done when templates were replaced by their keys alone."""
    job, source = Consolidation(out, gallery.uri, **how), FeatureRun.open(out)  # type: ignore[arg-type]
    facts = {"run": source.run_id, "faces": job.faces, "templates": job.templates or "all"}
    tables = (
        table.drop_columns(MADE_OF) if MADE_OF in table.column_names else table
        for table in job.templates_of_run(source, RunPhotos())
    )
    lifecycle.enroll(gallery, tables, "append", note="consolidate " + json.dumps(facts))


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    return [enrolled(tmp_path / f"run-{day}", shots, day=day) for day, shots in ((1, FIRST), (2, LATER))]


@pytest.fixture
def gallery(tmp_path: Path, runs: list[str]) -> Gallery:
    made = Gallery.create(str(tmp_path / "g"), FeatureRun.open(runs[0]).spec)
    for out in runs:
        _as_before(made, out)
    return made


def _found(gallery: Gallery, runs: list[str], name: str = "superseded") -> list[tuple[str, str]]:
    (finding,) = [each for each in examine(gallery, runs).findings if each.name == name]
    assert len(finding.shown) == finding.count
    return sorted((row["subject_id"], row["face_id"]) for row in finding.shown)


def test_what_a_later_run_says_otherwise_is_found_and_nothing_is_written(
    gallery: Gallery, runs: list[str]
) -> None:
    before = gallery.snapshot().number
    assert _found(gallery, runs) == _found(gallery, runs[::-1]) == WRONG
    assert _found(gallery, runs[:1]) == _found(gallery, []) == []
    assert gallery.snapshot().number == before


def test_mending_leaves_the_gallery_that_is_made_anew(
    gallery: Gallery, runs: list[str], tmp_path: Path
) -> None:
    done = mend(gallery, runs)
    assert (done.mended, done.version) == (2, gallery.snapshot().number)
    anew = tmp_path / "anew"
    for out in runs:
        Consolidation(out, str(anew), policy="append").run()
    assert content(gallery.snapshot()) == content(Gallery.open(str(anew)).snapshot())
    entry = gallery.log()[-1]
    assert (entry.action, entry.counts, len(entry.subjects)) == ("doctor", {"superseded": 2, "deleted": 2}, 2)
    again = mend(gallery, runs)
    assert (again.mended, again.version, again.to_mend) == (0, done.version, 0)
    assert lifecycle.verify(gallery) == []
    lifecycle.rollback(gallery, done.version - 1)
    assert _found(gallery, runs) == WRONG


def test_another_faces_policy_and_another_template_mode_have_left_templates_too(
    gallery: Gallery, runs: list[str]
) -> None:
    _as_before(gallery, runs[0], faces="largest", templates="medoid")
    # What the log says last of the first run is its choice now.
    assert ("anna", "anna/3.jpg#0") in _found(gallery, runs)


def test_a_run_that_the_log_does_not_name_knows_any_face_of_a_photo(runs: list[str], tmp_path: Path) -> None:
    gallery = Gallery.create(str(tmp_path / "h"), FeatureRun.open(runs[0]).spec)
    job, source = Consolidation(runs[0], gallery.uri, faces="largest"), FeatureRun.open(runs[0])
    lifecycle.enroll(gallery, job.templates_of_run(source, RunPhotos()))
    assert _found(gallery, runs[:1]) == []
    assert _found(gallery, runs) == [*WRONG, ("bert", "bert/2.jpg#0")]


def test_derived_templates_are_judged_if_they_say_what_they_were_made_of(
    runs: list[str], tmp_path: Path
) -> None:
    gallery = Gallery.create(str(tmp_path / "h"), FeatureRun.open(runs[0]).spec)
    _as_before(gallery, runs[0], templates="mean")
    assert len(_found(gallery, runs, "not_traceable")) == 2
    Consolidation(runs[0], gallery.uri, policy="append", templates="mean").run()
    assert _found(gallery, runs[:1], "not_traceable") == _found(gallery, runs[:1]) == []
    assert [subject for subject, _ in _found(gallery, runs)] == []
    _as_before(gallery, runs[1], templates="mean")
    assert [subject for subject, _ in _found(gallery, runs)] == ["anna", "bert"]


def test_photos_of_one_id_from_two_places_are_found(tmp_path: Path) -> None:
    at = {"/a": Shot("p1", [ANNA]), "/b": Shot("p1", [STRANGER, ANNA], size={1: 1.4})}
    outs = [
        enrolled(tmp_path / root[1:], {"p1/1.jpg": shot}, day=n + 1, root=root)
        for n, (root, shot) in enumerate(at.items())
    ]
    gallery = Gallery.create(str(tmp_path / "g"), FeatureRun.open(outs[0]).spec)
    _as_before(gallery, outs[0])
    _as_before(gallery, outs[1], faces="largest")
    assert _found(gallery, [], "two_places") == [("p1", "p1/1.jpg#0"), ("p1", "p1/1.jpg#1")]


def test_a_rival_that_is_first_is_seen(
    gallery: Gallery, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, tries = type(gallery.catalog).commit, []

    def beaten(self: object, version: object) -> bool:
        tries.append(1)
        if len(tries) == 1:
            monkeypatch.setattr(type(gallery.catalog), "commit", commit)
            lifecycle.delete(Gallery.open(gallery.uri), ["bert"])
        return bool(commit(self, version))  # type: ignore[arg-type]

    monkeypatch.setattr(type(gallery.catalog), "commit", beaten)
    try:
        assert mend(gallery, runs).mended == 1
    except GalleryConflict:
        pytest.fail("it did not look again")
    assert [subject for subject, *_ in content(gallery.snapshot())] == ["anna", "anna", "anna"]


def test_the_command_says_it_and_mends_it(
    gallery: Gallery, runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", gallery.uri, "--mend"]) == 2
    assert main(["doctor", gallery.uri]) == 0
    assert "without --runs" in capsys.readouterr().out
    assert main(["doctor", gallery.uri, "--runs", *runs]) == 10
    assert "2 templates would go: --mend" in capsys.readouterr().out
    assert main(["doctor", gallery.uri, "--runs", *runs, "--json", "--limit", "1"]) == 10
    told = json.loads(capsys.readouterr().out)
    first = told["findings"][0]
    assert (first["name"], first["count"], len(first["shown"])) == ("superseded", 2, 1)
    assert main(["doctor", gallery.uri, "--runs", *runs, "--mend"]) == 0
    assert "2 templates taken out; version 3" in capsys.readouterr().out
    assert main(["doctor", gallery.uri, "--runs", *runs]) == 0
    assert "nothing is wrong" in capsys.readouterr().out


def test_a_run_with_ids_in_another_unicode_form_gives_its_templates(tmp_path: Path) -> None:
    """Of before ids were brought to NFC, in a gallery whose log does not name it: nothing of it would go."""
    out = enrolled(tmp_path / "run", {"1.jpg": Shot(unicodedata.normalize("NFD", "김지수"), [face(1)])})
    Consolidation(out, str(tmp_path / "g")).run()
    tables = list(Gallery.open(str(tmp_path / "g")).snapshot().tables())
    copy = Gallery.create(str(tmp_path / "copy"), FeatureRun.open(out).spec)
    lifecycle.enroll(copy, tables)
    assert examine(copy, [out]).to_mend == 0
