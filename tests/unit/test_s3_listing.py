"""What S3 lists comes whole and in its order, wherever a listing is begun at the same time."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
from careless_s3 import careless_s3
from s3server import forget_clients

from frpipe.io.storage import s3_listing, s3_page
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.s3_listing import S3Listing


@dataclass
class Store:
    """A store with three keys a page. order: of its keys.  failing: requests, by number, that fail."""

    order: list[str]
    requests: list[dict[str, str]] = field(default_factory=list)
    failing: frozenset[int] = frozenset()
    denies: bool = False
    begins: bool = True
    filters: bool = False
    refuses: str = ""
    moves: random.Random | None = None

    @property
    def s3(self) -> Any:
        events = SimpleNamespace(register=lambda *_, **__: None)
        return SimpleNamespace(meta=SimpleNamespace(events=events))

    def call_s3(self, _: str, **request: str) -> dict[str, Any]:
        self.requests.append(request)
        if len(self.requests) in self.failing:
            raise OSError("a bad day")
        if self.refuses in {*request} - {""}:
            raise NotImplementedError(self.refuses)
        if self.moves is not None:
            return self._moved(self.moves, **request)
        keys = [key for key in self.order if key.startswith(request["Prefix"])]
        place, _, behind = request.get("ContinuationToken", f"0 {request.get('StartAfter', '')}").partition(
            " "
        )
        at = int(place)
        if self.filters:
            keys = [key for key in keys if key > behind]
        if self.begins and not self.filters and (after := request.get("StartAfter")):
            # A store that does not sort by bytes goes on from where the key stands, or would stand.
            at = sum(_folders_first(key) <= _folders_first(after) for key in keys)
        if "Delimiter" in request:
            if self.denies:
                raise PermissionError("only this prefix")
            cut = len(request["Prefix"])
            below = sorted({f"{key[:cut]}{key[cut:].partition('/')[0]}/" for key in keys if "/" in key[cut:]})
            return {"IsTruncated": False, "CommonPrefixes": [{"Prefix": each} for each in below]}
        page = [{"Key": key, "Size": len(key), "ETag": f'"{key}"'} for key in keys[at : at + 3]]
        return {
            "Contents": page,
            "IsTruncated": at + 3 < len(keys),
            "NextContinuationToken": f"{at + 3} {behind}",
        }

    def _moved(self, chance: random.Random, **request: str) -> dict[str, Any]:
        """Answer by keys alone, as what came and went is in no place."""
        came = {key for key in self.order if key.endswith("-")}
        there = {*self.order} - {*chance.sample(sorted(came), len(came) // 2)}
        self.order = sorted(there | {f"{key}-" for key in chance.sample(sorted(there - came), 3)})
        behind = request.get("ContinuationToken") or request.get("StartAfter", "")
        keys = [key for key in self.order if key > behind]
        page = [{"Key": key, "Size": 1, "ETag": "e"} for key in keys[:3]]
        return {
            "Contents": page,
            "IsTruncated": len(keys) > 3,
            "NextContinuationToken": keys[2:3] and keys[2],
        }


def _folders_first(key: str) -> list[str]:
    """A store that keeps folders sorts them by their names: `a/1` before `a-b/1`."""
    return key.split("/")


def _listed(store: Store, guesses: list[str] | None) -> list[str]:
    blocks = S3Listing(store, "photos", "album/").at_once(guesses)
    return [key for block in blocks for key in block["name"].to_pylist()]


def _album(chance: random.Random) -> list[str]:
    names = {f"album/{chance.choice(['a', 'a-b', 'b', 'ü'])}/{chance.randrange(60):02d}" for _ in range(80)}
    return sorted(names)


@pytest.mark.parametrize("seed", range(12))
def test_guesses_change_nothing_about_what_is_listed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_listing, "_MOST_PAGES", 4)
    chance = random.Random(seed)
    keys = _album(chance)
    for order in (keys, sorted(keys, key=_folders_first)):
        known = [key.removeprefix("album/") for key in keys]
        guesses = [*chance.sample(known, chance.randrange(12)), "", "a", "a-b/1", "zz", "a/99", "é"]
        assert _listed(Store(order), guesses) == order
    assert _listed(Store([]), ["a", "b"]) == []


def test_a_store_that_does_not_sort_is_listed_from_its_beginning() -> None:
    names = ["a/1", "a/3", "a/2", "b/1", "c/1", "c/2", "b/2", "c/3", "d/1"]
    keys = [f"album/{name}" for name in names]
    for guess in names:
        assert _listed(Store(keys, filters=True), [guess]) == keys


def test_a_store_that_begins_at_no_given_key_is_listed_once() -> None:
    keys = _album(random.Random(1))
    assert _listed(Store(keys, begins=False), ["a/20", "b/20"]) == keys
    express = Store(keys)
    blocks = S3Listing(express, "photos--use1-az4--x-s3", "album/").at_once(["a/20", "b/20"])
    assert sum(map(len, blocks)) == len(keys)
    assert not any("StartAfter" in request for request in express.requests)


def test_stretches_are_read_at_once_and_no_page_twice_but_where_they_meet() -> None:
    keys = [f"album/{number:03d}" for number in range(90)]
    store = Store(keys)
    assert _listed(store, [f"{number:03d}" for number in range(9, 90, 10)]) == keys
    # Without guesses there are 30 pages; each stretch ends with a page that the next one has, too.
    assert len(store.requests) <= 30 + 2 * 10
    assert len([request for request in store.requests if "StartAfter" in request]) == 9


def test_folders_below_the_root_are_guesses_where_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_MOST_PAGES", 4), ("STRETCH_KEYS", 6)):
        monkeypatch.setattr(s3_listing, name, value)
    keys = [f"album/all/{folder}/{number}" for folder in "abcdefghij" for number in range(4)]
    store = Store(keys)
    assert _listed(store, None) == keys
    # Twelve keys in three folders: so every second folder, where some pages are between.
    begun = [request["StartAfter"] for request in store.requests if "StartAfter" in request]
    assert sorted(begun) == ["album/all/d/", "album/all/f/", "album/all/h/", "album/all/j/"]
    assert _listed(Store(keys, denies=True), None) == keys
    few = Store(keys[:9])
    assert _listed(few, None) == keys[:9]
    assert len(few.requests) == 3


def test_a_request_that_fails_loses_nothing() -> None:
    keys = _album(random.Random(2))
    ended = 0
    for number in range(1, 60):
        try:
            assert _listed(Store(keys, failing=frozenset({number})), ["a/10", "a/30", "b/10", "b/30"]) == keys
        except OSError:
            ended += 1
    # Of the listing itself; where a guess fails, it goes on without.
    assert 0 < ended < 59


def test_a_store_that_refuses_to_begin_at_a_key_or_to_name_folders_is_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3_listing, "_MOST_PAGES", 2)
    keys = [f"album/{folder}/{number}" for folder in "abcdefghij" for number in range(4)]
    for refused, guesses in product(
        ("StartAfter", "Delimiter"), (["a/2", "c/1", "zz"], [*"abcdefghij"] * 9, None)
    ):
        store = Store(keys, refuses=refused)
        assert _listed(store, guesses) == keys
        # Not one guess after the other, where none is answered.
        assert len(store.requests) < 80


def test_what_comes_and_goes_while_it_is_listed_costs_nothing_that_stays() -> None:
    chance = random.Random(5)
    for _ in range(20):
        stays = _album(chance)
        store = Store([*stays], moves=chance)
        guesses = [key.removeprefix("album/") for key in chance.sample(stays, 8)]
        found = _listed(store, guesses)
        assert [key for key in found if key in stays] == stays
        assert len(found) == len({*found})


KEYS = (
    "a/1.jpg",
    "a/&2.jpg",
    "a/<3>.jpg",
    "a/%34.jpg",
    "a/5+5 5.jpg",
    "b/u\u0308.jpg",
    "b/ü.jpg",
    "b/",
    ".c/1.jpg",
)


@pytest.mark.parametrize("by_botocore", [True, False])
def test_keys_are_read_as_they_are_written(by_botocore: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    keys = [key for key in KEYS if by_botocore or not {"&", "<"} & {*key}]
    if not by_botocore:
        monkeypatch.setattr(s3_page, "_of_botocore", lambda _: pytest.fail("read by botocore"))
    forget_clients()
    with careless_s3("honoured") as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        for key in keys:
            store.objects[f"/photos/album/{key}"] = key.encode()
        folder = Folder.at("s3://photos/album")
        rows = [row for block in folder.walk_blocks() for row in block.to_pylist()]
        assert [row["name"] for row in rows] == sorted(key for key in keys if not key.endswith("/"))
        assert [row["bytes"] for row in rows] == [len(row["name"].encode()) for row in rows]
        assert {len(row["version"]) for row in rows} == {32}
        assert [entry.name for entry in folder.list(hidden=True)] == [row["name"] for row in rows]
        assert [entry.version for entry in folder.list(hidden=True)] == [row["version"] for row in rows]
