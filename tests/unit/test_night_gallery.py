"""A gallery that is restored, copied over or made anew between two nights, or during one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from gallery_rows import ids, people, spec
from undrawn import undrawn

from frpipe.core.errors import OutputError
from frpipe.core.night_config import NightConfig
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dedup.job import Dedup
from frpipe.jobs.nightly import searches
from frpipe.jobs.nightly.differences import differences
from frpipe.jobs.nightly.faces import gallery_version
from frpipe.jobs.nightly.history import Past, enter
from frpipe.jobs.nightly.job import Night
from frpipe.jobs.nightly.journal import NIGHT, NightJournal, encoded
from frpipe.jobs.nightly.lease import lease
from frpipe.jobs.nightly.page import page
from frpipe.jobs.nightly.summary import summary
from frpipe.jobs.nightly.work import Work
from frpipe.jobs.photo import spec_of
from frpipe.runtime.runtime import Runtime

LAST, TONIGHT = "2026-11-23", "2026-11-24"
KINDS = ("restored", "made anew")
SAID: list[str] = []


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    SAID.clear()
    undrawn(monkeypatch)


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    """At version 2, as last night left it: nine people, then three."""
    made = Gallery.create(str(tmp_path / "G"), spec())
    lifecycle.enroll(made, [people(ids(9))])
    shutil.copytree(tmp_path / "G", tmp_path / "backup")
    lifecycle.enroll(made, [people(ids(3, 20), seed=1)])
    return made


@pytest.fixture
def last(gallery: Gallery, tmp_path: Path) -> Past:
    """The night that left it so."""
    folder = Folder.at(str(tmp_path / "nights" / LAST))
    job = Dedup(folder.child("dedup").uri, gallery=gallery.uri, threshold=0.99)
    steps: dict[str, Any] = {"dedup": job.run().as_dict(), "differences": {"gallery": _size(gallery)}}
    return Past(LAST, folder, {}, {}, True, steps)


def _size(gallery: Gallery) -> dict[str, Any]:
    """As a night records the gallery at its end."""
    snapshot = gallery.snapshot()
    named = {"gallery_id": gallery.gallery_id, "version": snapshot.number, "commit": snapshot.version.commit}
    return {**named, "templates": snapshot.rows, "people": snapshot.subjects}


def _become(kind: str, gallery: Gallery) -> Gallery:
    """Another gallery at its place, whose version 2 has two people of one face."""
    place = Path(gallery.uri)
    shutil.rmtree(place)
    if kind == "restored":
        shutil.copytree(place.parent / "backup", place)
    else:
        lifecycle.enroll(Gallery.create(str(place), spec()), [people(ids(9))])
    found = Gallery.open(str(place))
    lifecycle.enroll(found, [people(ids(9, 40))])
    return found


@contextmanager
def _tonight(gallery: Gallery, last: Past) -> Iterator[Work]:
    """A night that begins with the gallery as it is."""
    runs = Folder.at(str(Path(last.folder.uri).parent))
    record: dict[str, Any] = {"steps": {}, "pins": {}, "spent_s": 0.0, "nodes": 1}
    with lease(runs, TONIGHT, 60) as held:
        named = _size(gallery)
        base = {"night": LAST, "gallery_id": named["gallery_id"], "gallery_version": named["version"]}
        base["gallery_commit"] = named["commit"]
        journal = NightJournal(runs.child(TONIGHT), base, held, record)
        config = NightConfig.model_validate(
            {"runs": runs.uri, "gallery": gallery.uri, "photos": "p", "dedup": {"threshold": 0.99}}
        )
        yield Work(config, journal, [last], last, Runtime(), SAID.append)


@pytest.mark.parametrize("kind", KINDS)
def test_all_pairs_are_compared_nothing_is_counted_against_it_and_the_page_says_so(
    kind: str, gallery: Gallery, last: Past
) -> None:
    now = _become(kind, gallery)
    with _tonight(now, last) as work:
        found = searches.dedup(work)
        assert (found["since"], found["pairs"]) == (None, 9)
        work.journal.finish("dedup", found)
        changes = differences(work)
        assert changes["people"] == {"person_new": 0, "person_gone": 0}
        assert (changes["clusters"], changes["since_version"]) == (None, 2)
        assert changes["since_commit"] == now.snapshot().version.commit
        work.journal.finish("differences", {**changes, "took_s": 0.1})
        shown = page(summary(work.config, TONIGHT, work.journal, last, []))
    assert "the gallery is not the one of last night" in shown
    assert "all pairs were compared" in shown
    assert any("cannot be carried on" in line for line in SAID)


def test_the_gallery_of_last_night_is_carried_on(gallery: Gallery, last: Past) -> None:
    lifecycle.enroll(gallery, [people(ids(9, 40))])
    with _tonight(gallery, last) as work:
        found = searches.dedup(work)
        assert (found["since"], found["pairs"], found["fresh_templates"]) == (LAST, 9, 9)
        work.journal.finish("dedup", found)
        changes = differences(work)
    assert changes["people"] == {"person_new": 9, "person_gone": 0}
    assert changes["clusters"]["cluster_new"] == 9
    assert (changes["since_version"], changes["gallery_changed"]) == (2, None)


def test_a_night_of_older_code_is_carried_on_where_time_and_templates_agree(
    gallery: Gallery, last: Past
) -> None:
    facts = last.steps["differences"]["gallery"]
    last.steps["differences"]["gallery"] = {n: facts[n] for n in ("version", "templates", "people")}
    lifecycle.enroll(gallery, [people(ids(2, 60), seed=3)])
    for saved, people_new in (("2099-01-01T00:00:00+00:00", 2), ("2026-01-01T00:00:00+00:00", 0)):
        last.folder.write(NIGHT, encoded({"steps": {}, "saved": saved}))
        with _tonight(gallery, last) as work:
            changes = differences(work)
        assert changes["people"]["person_new"] == people_new
        assert bool(changes["gallery_changed"]) == (people_new == 0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_before_tonight_is_not_searched_in_another_gallery(
    kind: str, gallery: Gallery, last: Past
) -> None:
    with _tonight(gallery, last) as work:
        work.journal.finish("enroll", {"rows": 1})
        _become(kind, gallery)
        assert "not_done" in searches.identify(work)
    assert "is another one by now: it is not searched" in SAID[-1]


def test_a_night_does_not_go_on_with_a_gallery_that_lacks_what_it_put_there(tmp_path: Path) -> None:
    off = {name: {"enabled": False} for name in ("dedup", "identify", "drift")}
    places = {name: str(tmp_path / name) for name in ("runs", "gallery", "photos")}
    config = NightConfig.model_validate({**places, **off})
    gallery = Gallery.create(config.gallery, spec_of(config.settings))
    shutil.copytree(config.gallery, tmp_path / "backup")
    lifecycle.enroll(gallery, [people(ids(3), dim=gallery.spec.dim)])
    runs = Folder.at(config.runs)
    enter(runs, TONIGHT)
    identity = {"job": "night", "date": TONIGHT, **config.identity()}
    begun = {"gallery_id": gallery.gallery_id, "gallery_version": 0, "gallery_commit": ""}
    run.claim(runs.child(TONIGHT), identity, {"base": {"night": None, **begun}})
    commit = gallery.snapshot().version.commit
    step = {"gallery_id": gallery.gallery_id, "version": 1, "commit": commit}
    runs.child(TONIGHT).write(NIGHT, encoded({"steps": {"consolidate": step}}))
    shutil.rmtree(config.gallery)
    shutil.copytree(tmp_path / "backup", config.gallery)
    with pytest.raises(OutputError, match="the gallery is not the one that tonight was begun with") as caught:
        Night(config, TONIGHT).run()
    assert "its photos come again" in caught.value.remedy
    shutil.rmtree(config.gallery)
    with pytest.raises(OutputError, match="no gallery"):
        Night(config, TONIGHT).run()


def test_the_gallery_of_a_night_is_named_by_its_content(gallery: Gallery) -> None:
    named = gallery_version(gallery.uri)
    assert named is not None
    assert (named.number, named.commit) == (2, gallery.snapshot().version.commit)
