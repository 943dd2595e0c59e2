"""Random histories of nights, compared with a plain recomputation of what each should find."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest

from frpipe.core.errors import StorageError
from frpipe.core.night_config import ScanStep
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.manifest import id_order
from frpipe.io.output.parts import write_part
from frpipe.io.storage import listed
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.listed import in_blocks
from frpipe.jobs.erase.columns import without
from frpipe.jobs.erase.known import KnownErasure
from frpipe.jobs.nightly import known_photos, photos
from frpipe.jobs.nightly.known_photos import KNOWN, unused
from frpipe.jobs.nightly.tables import read_table, write_table

FOLDERS = ScanStep(subject_from="folder")
Photo = tuple[int, str]


@dataclass
class Model:
    """What a night leaves: photos with size, version and person, and those that it could not try."""

    listed: dict[str, tuple[int, str, str | None]] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    @property
    def known(self) -> dict[str, tuple[int, str, str | None]]:
        return {name: facts for name, facts in self.listed.items() if name not in self.failed}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few photos fill many blocks, parts and runs."""
    for module in (id_order, known_photos):
        monkeypatch.setattr(module, "BLOCK_ROWS", 3)
    monkeypatch.setattr(listed, "BLOCK_FILES", 3)
    monkeypatch.setattr(known_photos, "PART_ROWS", 5)
    monkeypatch.setattr(id_order, "_RUN_ROWS", 4)


@pytest.mark.parametrize(
    "seed", [*range(2), *(pytest.param(n, marks=pytest.mark.slow) for n in range(2, 12))]
)
def test_a_history_of_nights_finds_what_a_plain_recomputation_finds(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    album: dict[str, Photo] = {}
    monkeypatch.setattr(Folder, "walk_blocks", lambda *_: _listed(album, chance))
    runs = Folder.at(str(tmp_path / "runs"))
    before: Folder | None = None
    model, folders = Model(), []
    for night in range(9):
        _live(album, chance)
        place = runs.child(f"2026-01-{night + 1:02d}/scan")
        folders.append(place)
        known = photos.known_of(before)
        if chance.random() < 0.3:
            _killed(album, place, known, monkeypatch)
        found = photos.look("memory://album", FOLDERS, known)
        found.write(place)
        now = {name: (*facts, _person(name)) for name, facts in album.items()}
        todo = sorted(name for name, facts in now.items() if model.known.get(name) != facts)
        gone = sorted(model.known.keys() - now.keys())
        assert read_table(place, photos.MANIFEST)["image_id"].to_pylist() == todo
        assert sorted(read_table(place, photos.VANISHED)["image_id"].to_pylist()) == gone
        facts = found.facts()
        new = sum(name not in model.known for name in todo)
        assert (facts["listed"], facts["new"], facts["changed"]) == (len(now), new, len(todo) - new)
        assert facts["known_before"] == len(model.known)
        people = {p for n in gone if (p := model.known[n][2])} - {who for *_, who in now.values()}
        assert photos.people_without_photos(place) == sorted(people)
        failed = {name for name in todo if chance.random() < 0.3}
        photos.write_again(place, _enrolled(place, todo, failed, chance), before)
        if chance.random() < 0.2:
            continue  # it never finished: the next one begins where this one did
        before, model = place, Model(now, failed)
        if chance.random() < 0.3 and model.listed:
            _erase(chance.choice(sorted(model.listed)), folders, model)
        if chance.random() < 0.3:
            # Retention keeps the newest night that has finished, and what came after it.
            for each in folders[: folders.index(before)]:
                runs.clear(_date(each))
            folders = folders[folders.index(before) :]
        dates = [_date(each) for each in folders]
        if chance.random() < 0.3:
            dates.clear()  # the nights were copied, and the list of them was not
        for level in unused(runs, dates, ["scan"]):
            runs.child(known_photos.STORE).clear(level)
        rows = [(r["image_id"], (r["bytes"], r["version"], r["subject_id"])) for r in _rows(before)]
        assert rows == sorted(model.listed.items())


@pytest.mark.slow
def test_few_levels_hold_many_nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    album = {f"p/{number:04d}.jpg": (1, "v") for number in range(400)}
    monkeypatch.setattr(Folder, "walk_blocks", lambda *_: in_blocks((n, *f) for n, f in album.items()))
    before, levels = None, []
    for night in range(25):
        album[f"q/{night:04d}.jpg"] = (1, "v")
        place = Folder.at(str(tmp_path / f"runs/n{night}/scan"))
        photos.look("memory://album", FOLDERS, photos.known_of(before)).write(place)
        photos.write_again(place, _enrolled(place, [f"q/{night:04d}.jpg"], set(), random.Random(1)))
        levels.append(photos.listing_of(place).levels)
        before = place
    assert max(map(len, levels)) <= 4
    # What is as it was is not written anew: the first level stays that of the first night.
    assert {each[0] for each in levels} == {levels[0][0]}
    assert photos.listing_of(place).table().num_rows == 425


def _date(place: Folder) -> str:
    return place.uri.split("/")[-2]


def _live(album: dict[str, Photo], chance: random.Random) -> None:
    """A day: photos come, change, move and go."""
    for _ in range(chance.randrange(6)):
        album[_name(chance)] = (chance.randrange(3), str(chance.randrange(3)))
    for name in [each for each in album if chance.random() < 0.15]:
        facts = album.pop(name)
        if chance.random() < 0.4:
            album[_name(chance)] = facts


def _name(chance: random.Random) -> str:
    person = chance.choice(["ann/", "bob/", "zoé/", ""])
    return f"{person}{chance.randrange(9)}.jpg"


def _person(name: str) -> str | None:
    return name.partition("/")[0] if "/" in name else None


def _listed(album: dict[str, Photo], chance: random.Random) -> Iterator[pa.Table]:
    """A store that lists in order, as most do, or in none."""
    names = sorted(album)
    if chance.random() < 0.5:
        chance.shuffle(names)
    return in_blocks([(name, *album[name]) for name in names])


def _killed(
    album: dict[str, Photo],
    place: Folder,
    known: known_photos.KnownPhotos | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A launch that has found another photo, and ended before it recorded what is known."""

    def refuse(folder: Folder, name: str, data: bytes) -> None:
        if name == KNOWN:
            raise StorageError("gone", "come again")
        write(folder, name, data)

    write = Folder.write
    album["bob/gone-again.jpg"] = (1, "v")
    with monkeypatch.context() as killed:
        killed.setattr(Folder, "write", refuse)
        with pytest.raises(StorageError):
            photos.look("memory://album", FOLDERS, known).write(place)
    del album["bob/gone-again.jpg"]


def _enrolled(place: Folder, todo: list[str], failed: set[str], chance: random.Random) -> Folder | None:
    """An enroll output of some photos; None where nothing was enrolled, and nothing failed but all."""
    out = place.child("out")
    reasons = ["fetch_failed" if name in failed else None for name in todo]
    images = pa.table(
        {
            "image_id": pa.array(todo, pa.string()),
            "reason": pa.array(reasons, pa.string()),
            "content_sha256": pa.nulls(len(todo), pa.string()),
        }
    )
    write_part(out, 0, images, images.select(["image_id"]).slice(0, 0), {})
    return out


def _erase(name: str, folders: list[Folder], model: Model) -> None:
    """Take a photo, or whose it is, out of all that the nights know."""
    person = _person(name)
    ids = ErasedIds.of("key", [person] if person else [], [name])
    KnownErasure(known_photos.store_of(folders[-1]), ids).run()
    for folder in folders:
        for table in (photos.AGAIN, photos.VANISHED, photos.MANIFEST):
            if folder.exists(table):
                write_table(folder, table, without(ids, read_table(folder, table)))
    for each in [
        each for each, facts in model.listed.items() if each == name or (person and facts[2] == person)
    ]:
        del model.listed[each]
        model.failed.discard(each)


def _rows(folder: Folder) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = photos.listing_of(folder).table().to_pylist()
    return rows
