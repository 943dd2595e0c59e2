"""In whatever order results are published, tables hold what they hold by definition."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from made_runs import Photo, made_dedup, made_run, made_search
from table_oracle import by_definition, published

from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.io.tables.state import State
from frpipe.io.tables.table import Change, conformed, edited
from frpipe.jobs.publish.job import Publishing
from frpipe.jobs.publish.merge import FACES
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.schema import MATCHES
from frpipe.jobs.publish.sources import Publication, result_at
from frpipe.testing.kills import at_change

ORDERS = int(os.environ.get("FRPIPE_PUBLICATION_ORDERS", "1"))
"""Orders that are tried."""
LAYOUTS = ("delta", "parquet")


def _begun(out: Folder, **facts: Any) -> Folder:
    out.write(run.RUN, json.dumps({**json.loads(out.read(run.RUN)), **facts}).encode())
    return out


@pytest.fixture(scope="module", name="found")
def _found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Publication]:
    """Photos, some of them processed again, a replay of the first, searches of each, and clusters."""
    place = tmp_path_factory.mktemp("results")
    first = made_run(place / "first", [Photo(f"{n}.jpg", "anna", f"a{n}") for n in (1, 2, 3)])
    second = _begun(
        made_run(place / "second", [Photo(f"{n}.jpg", "bob", f"b{n}") for n in (1, 2, 4)]),
        created="2026-06-01T00:00:00+00:00",
    )
    replay = _begun(
        made_run(place / "replay", [Photo(f"{n}.jpg", "anna", f"a{n}") for n in (1, 2, 3)]),
        replayed="2026-06-09T00:00:00+00:00",
        replay_of=first.uri,
    )
    outputs = {
        "first": first,
        "second": second,
        "replay": replay,
        "of the first": made_search(place / "f", first, "2026-05-02T00:00:00+00:00", "anna"),
        "of the first, late": made_search(place / "l", first, "2026-06-20T00:00:00+00:00", "late"),
        "of the second": made_search(place / "s", second, "2026-06-10T00:00:00+00:00", "bob"),
        "of the replay": made_search(place / "r", replay, "2026-06-11T00:00:00+00:00", "anna"),
        "of its own": _begun(
            made_search(place / "o", first, "2026-05-20T00:00:00+00:00", "own"), probes="photos.csv"
        ),
        "alike": made_dedup(place / "d", "2026-05-03T00:00:00+00:00", "anna", "bob"),
        "not alike": made_dedup(place / "n", "2026-05-04T00:00:00+00:00"),
    }
    return {name: result_at(out.uri, "album") for name, out in outputs.items()}


@pytest.fixture(autouse=True)
def _no_loss_of_power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def _publish(root: Path, found: Sequence[Publication], **how: Any) -> None:
    Publishing(str(root), lambda _: (found, ()), **how).run()


def _orders(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Some orders that begin with photos, as tables do."""
    made = random.Random(3)
    while True:
        order = made.sample(names, len(names))
        if "of" not in order[0] and "alike" not in order[0]:
            yield tuple(order)


SEARCHES = ("first", "second", "of the first", "of the second", "of the first, late")


def test_a_search_of_older_faces_takes_none_of_the_newer_ones_out(
    found: dict[str, Publication], tmp_path: Path
) -> None:
    wanted = by_definition([found[name] for name in SEARCHES])
    orders = [order for order in permutations(SEARCHES) if order[0] in {"first", "second"}]
    for number, order in enumerate([SEARCHES, *random.Random(1).sample(orders, min(ORDERS, len(orders)))]):
        for name in order:
            _publish(tmp_path / str(number), [found[name]])
        assert published(str(tmp_path / str(number))) == wanted, order


@pytest.mark.parametrize("layout", [pytest.param("delta", marks=pytest.mark.slow), "parquet"])
def test_the_order_of_publications_does_not_matter(
    found: dict[str, Publication], tmp_path: Path, layout: str
) -> None:
    wanted = by_definition([*found.values()])
    _publish(tmp_path / "at-once", [*found.values()], layout=layout)
    assert published(str(tmp_path / "at-once")) == wanted
    assert len(wanted["matches"]) == 4
    for number, order in zip(range(ORDERS), _orders([*found]), strict=False):
        for name in order:
            _publish(tmp_path / str(number), [found[name]], layout=layout)
        assert published(str(tmp_path / str(number))) == wanted, order


def test_a_search_whose_photos_are_processed_again_meanwhile_leaves_nothing_stale(
    found: dict[str, Publication], tmp_path: Path
) -> None:
    wanted = by_definition([found[name] for name in ("first", "second", "of the first")])
    moment, changes = 0, [1]
    while moment < changes[0]:
        moment += 1
        root = tmp_path / str(moment)
        _publish(root, [found["first"]])
        with at_change(moment, lambda root=root: _publish(root, [found["second"]])) as changes:
            _publish(root, [found["of the first"]])
        _publish(root, [found["second"]])
        assert published(str(root)) == wanted, moment
    assert moment > 3


def test_a_search_looks_again_where_the_files_of_its_photos_are_replaced_and_removed(
    found: dict[str, Publication], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, meanwhile = Folder.open, [found["second"]]

    def late(folder: Folder, name: str) -> Any:
        while meanwhile and folder.uri.endswith("/photos"):
            _publish(tmp_path, [meanwhile.pop()])
        return opened(folder, name)

    _publish(tmp_path, [found["first"]], layout="parquet")
    monkeypatch.setattr(Folder, "open", late)
    _publish(tmp_path, [found["of the first"]])
    assert not meanwhile
    assert published(str(tmp_path)) == by_definition([found[n] for n in ("first", "second", "of the first")])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tables_of_an_earlier_frpipe_know_the_faces_of_their_searches(
    found: dict[str, Publication], tmp_path: Path, layout: str
) -> None:
    orders = (SEARCHES, ("first", "of the first, late", "of the first", "second", "of the second"))
    for number, order in enumerate(orders):
        place = tmp_path / str(number)
        _publish(place, [found[name] for name in order[:2]], layout=layout)
        _without_times(place)
        for name in order[2:]:
            _publish(place, [found[name]])
        assert published(str(place)) == by_definition([found[name] for name in SEARCHES])


def _without_times(place: Path) -> None:
    root = Root.opened(str(place))
    assert root is not None
    table = root.table(MATCHES)

    def change(base: State) -> Change:
        older = pa.schema([field for field in base.schema if field.name not in FACES[:3]])
        rows = [conformed(found, older) for _, found in table.scan(base)]
        return Change(edited(base, base.files, table.write(older, rows), schema=older))

    assert not {*FACES[:3]} & {*table.transact(change).schema.names}
