"""Whom a suppression list names is in no published table, and a publication that obeys it reads no past."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_runs import Photo, made_dedup, made_run, made_search

from frpipe.cli.main import main
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.spec import GallerySpec
from frpipe.gallery.suppression import Names, SuppressionList, Suppressions
from frpipe.io.storage.folder import Folder
from frpipe.io.tables.table import Change, PublishedTable, edited
from frpipe.jobs.publish.job import Published, Publishing
from frpipe.jobs.publish.merge import Barred
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.schema import TABLES
from frpipe.jobs.publish.sources import Publication, result_at
from frpipe.testing.kills import Killed, at_change

MOMENTS = [
    ("parquet", 7),
    *(pytest.param(layout, 1, marks=pytest.mark.slow) for layout in ("parquet", "delta")),
]
"""Layouts, and which of the changes are tried: every n-th."""
WHO = "anna"
HERS = [Photo("1.jpg", WHO, "a1"), Photo("2.jpg", WHO, "a2")]
COPY = Photo("copy.jpg", "zoe", "a1")
"""Hers too: only its content says so, which `photos` alone knows."""
OTHERS = [Photo("3.jpg", "bob", "b3"), Photo("4.jpg", "cleo", "c4")]
NAMED = Names(frozenset({WHO}), contents=frozenset({hashlib.sha256(b"a1").hexdigest()}))


@pytest.fixture(autouse=True)
def _no_loss_of_power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(name="lists")
def _lists(tmp_path: Path) -> SuppressionList:
    return _list(tmp_path / "gallery")


def _list(place: Path) -> SuppressionList:
    return Gallery.create(str(place), GallerySpec(16, "e" * 64, "p" * 64, "d" * 64)).suppressions


def _publish(root: Path, *found: Publication, **options: Any) -> Published:
    return Publishing(str(root), lambda _: (found, ()), **options).run()


def _results(place: Path) -> list[Publication]:
    """Photos of two months, some of hers in both; searches of each that find her; and a cluster with her."""
    first = made_run(place / "first", [*HERS, COPY, OTHERS[0]])
    second = made_run(place / "second", [HERS[0], OTHERS[1]])
    second.write("run.json", second.read("run.json").replace(b"2026-05-01T", b"2026-06-01T"))
    found = [
        made_search(place / "search", first, "2026-05-02T00:00:00+00:00", WHO, "bob"),
        made_search(place / "later", second, "2026-06-02T00:00:00+00:00", "bob", WHO),
        made_dedup(place / "dedup", "2026-06-03T00:00:00+00:00", "cleo", WHO, "bob"),
    ]
    return [result_at(out.uri, "album") for out in (first, second, *found)]


def _as_night(suppressed: Suppressions, *sources: str) -> Barred:
    """The list as nights of a configuration obey it."""
    return Barred(suppressed, {each: [""] for each in sources or ("album",)}, galleries={"g": suppressed})


KINDS: dict[str, Callable[[Suppressions], Barred]] = {"night": _as_night, "obey": Barred}


def _rows(root: Path) -> dict[str, list[str]]:
    tables = Root.opened(str(root))
    assert tables is not None
    return {spec.name: sorted(map(repr, tables.table(spec).rows().to_pylist())) for spec in TABLES}


def _left(root: Path) -> list[str]:
    """The files that hold anything of hers."""
    vectors = [photo.vector.tobytes() for photo in (*HERS, COPY)]
    found = []
    for path in sorted(each for each in root.rglob("*") if each.is_file()):
        data = path.read_bytes()
        told = pq.read_table(pa.BufferReader(data)).to_pylist() if path.suffix == ".parquet" else data
        if any(vector in data for vector in vectors) or any(
            w in repr(told) for w in (f"'{WHO}'", "copy.jpg")
        ):
            found.append(str(path.relative_to(root)))
    return found


def _files(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@contextmanager
def _counted() -> Iterator[dict[str, int]]:
    """Count the ids that are digested, and the files of rows that are opened."""
    counts = {"ids": 0, "files": 0}
    among, opened = Suppressions.among, Folder.open

    def asked(self: Suppressions, kind: str, values: Any) -> list[str]:
        told = list(values)
        counts["ids"] += len(told)
        return among(self, kind, told)

    def looked(self: Folder, name: str) -> Any:
        counts["files"] += name.endswith(".parquet")
        return opened(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Suppressions, "among", asked)
        patch.setattr(Folder, "open", looked)
        yield counts


@pytest.mark.parametrize("kind", KINDS)
def test_a_publication_digests_its_own_rows_and_none_that_are_there(
    tmp_path: Path, lists: SuppressionList, kind: str
) -> None:
    lists.suppress([NAMED])
    barred = KINDS[kind](lists.read())
    told = []
    for number, past in enumerate((3, 40)):
        tables = tmp_path / f"tables-{number}"
        photos = [Photo(f"past/{n}.jpg", f"p{n}", f"past {n}") for n in range(past)]
        _publish(tables, result_at(made_run(tmp_path / f"past-{number}", photos).uri, "album"), barred=barred)
        with _counted() as unfiltered:
            _publish(tables)
        with _counted() as again:
            _publish(tables, barred=barred)
        assert again == {**unfiltered, "ids": 0}
        out = result_at(made_run(tmp_path / f"new-{number}", OTHERS).uri, "album")
        with _counted() as new:
            _publish(tables, out, barred=barred)
        told.append(new["ids"])
    assert told[0] == told[1] > 0
    with _counted() as after:
        _publish(tables, barred=barred, compact=True)
        _publish(tables, barred=barred)
    assert after["ids"] == 0


def test_two_configurations_of_one_root_leave_each_others_records(tmp_path: Path) -> None:
    one, two = (_list(tmp_path / name) for name in ("one", "two"))
    for each in (one, two):
        each.suppress([NAMED])
    barred = {
        name: Barred(each.read(), {name: [""]}, galleries={name: each.read()})
        for name, each in (("one", one), ("two", two))
    }
    tables, told = tmp_path / "tables", []
    for night in range(3):
        for name, each in barred.items():
            photos = [Photo(f"{night}-{n}.jpg", f"p{n}", f"{name}{night}{n}") for n in range(3)]
            out = made_run(tmp_path / f"{name}-{night}", photos)
            search = made_search(
                tmp_path / f"s-{name}-{night}", out, "2026-05-02T00:00:00", "p1", gallery=name
            )
            found = [result_at(made.uri, name) for made in (out, search)]
            with _counted() as counts:
                _publish(tables, *found, barred=each)
            told.append(counts["ids"])
    assert len(set(told[2:])) == 1
    assert {name for row in _rows(tables)["matches"] for name in barred if f"'{name}'" in row} == {*barred}


def _without_list(place: Path, tables: Path, hers: Publication) -> None:
    _publish(tables, hers)


def _with_another_list(place: Path, tables: Path, hers: Publication) -> None:
    other = _list(place / "other")
    other.suppress([Names(frozenset({"somebody"}))])
    _publish(tables, hers, barred=Barred(other.read()))


def _of_a_source_that_is_moved(place: Path, tables: Path, hers: Publication) -> None:
    other = replace(hers, source="other")
    _publish(tables, other)
    _publish(tables, move=("other", "album"))


def _by_an_older_frpipe(place: Path, tables: Path, hers: Publication) -> None:
    root = Root.opened(str(tables))
    assert root is not None
    _publish(tables, hers)
    for table in root.tables():
        none = {name: 0 for name in table.head().applied if name.startswith("obeyed")}
        table.transact(lambda base, none=none: Change(edited(base, applied=none)))  # type: ignore[misc]


def _killed_between_tables(place: Path, tables: Path, hers: Publication) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr("frpipe.jobs.publish.job.Publishing._record", _dies)
        _publish(tables, hers)


def _dies(*_: object, **__: object) -> None:
    raise Killed


BETWEEN = (
    _without_list,
    _with_another_list,
    _of_a_source_that_is_moved,
    _by_an_older_frpipe,
    _killed_between_tables,
)


@pytest.mark.parametrize("kind", ["night", pytest.param("obey", marks=pytest.mark.slow)])
@pytest.mark.parametrize("between", BETWEEN)
def test_what_others_publish_in_between_is_asked_about(
    tmp_path: Path, lists: SuppressionList, between: Callable[..., None], kind: str
) -> None:
    lists.suppress([NAMED])
    barred, tables = KINDS[kind](lists.read()), tmp_path / "tables"
    _publish(tables, result_at(made_run(tmp_path / "out", OTHERS).uri, "album"), barred=barred)
    wanted = _rows(tables)
    between(tmp_path, tables, result_at(made_run(tmp_path / "hers", [*HERS, COPY]).uri, "album"))
    assert _rows(tables) != wanted
    assert _publish(tables, barred=barred).suppressed > 0
    now = _rows(tables)
    assert {name: now[name] for name in wanted if name not in {"runs"}} == {
        name: wanted[name] for name in wanted if name != "runs"
    }
    assert _left(tables) == []
    with _counted() as counts:
        _publish(tables, barred=barred)
    assert counts["ids"] == 0


@pytest.mark.parametrize("kind", [pytest.param("night", marks=pytest.mark.slow), "obey"])
def test_whom_a_list_names_later_goes_from_the_past_too(
    tmp_path: Path, lists: SuppressionList, kind: str
) -> None:
    tables, found = tmp_path / "tables", _results(tmp_path)
    lists.suppress([Names(frozenset({"nobody"}))])
    _publish(tables, *found, barred=KINDS[kind](lists.read()))
    assert len(_rows(tables)["photos"]) == 5
    lists.suppress([NAMED])
    assert _publish(tables, barred=KINDS[kind](lists.read())).suppressed > 0
    assert _left(tables) == []
    # In whatever order they come: of the match of a copy nothing but the row of its photo says whose it is.
    for number, order in enumerate(
        (found, [found[0], found[2], *found[1::2], found[4]], [*found[1:], found[0]])
    ):
        for each in order:
            _publish(tmp_path / f"fresh-{number}", each, barred=KINDS[kind](lists.read()))
        assert _left(tmp_path / f"fresh-{number}") == []
        fresh = _rows(tmp_path / f"fresh-{number}")
        for name in ("photos", "faces", "matches", "people", "duplicate_members"):
            assert _rows(tables)[name] == fresh[name], (name, number)
    lists.allow(Names(frozenset({WHO})))
    lists.suppress([Names(frozenset({"bob"}))])
    _publish(tables, barred=KINDS[kind](lists.read()))
    assert [name for name, rows in _rows(tables).items() if "'bob'" in repr(rows)] == []


@pytest.mark.parametrize(("layout", "step"), MOMENTS)
def test_a_publication_that_is_killed_while_it_takes_people_out_is_completed_by_the_next(
    tmp_path: Path, lists: SuppressionList, layout: Any, step: int
) -> None:
    found = _results(tmp_path)
    lists.suppress([NAMED])
    barred = _as_night(lists.read())
    _publish(tmp_path / "before", *found, layout=layout)
    # What a publisher leaves that is killed in the middle of a table.
    again = replace(found[0], content="0" * 64)
    with at_change(6), pytest.raises(Killed):
        _publish(tmp_path / "before", again)
    (tmp_path / f"before/faces/.part-{24 * '0'}.parquet.x.tmp").write_bytes(HERS[0].vector.tobytes())
    assert _left(tmp_path / "before")
    calm = Path(shutil.copytree(tmp_path / "before", tmp_path / "calm"))
    with at_change(None) as changes:
        _publish(calm, barred=barred)
    wanted = _rows(calm)
    assert _left(calm) == []
    for moment in range(step, changes[0] + 1, step):
        tables = Path(shutil.copytree(tmp_path / "before", tmp_path / f"killed-{moment}"))
        with at_change(moment), pytest.raises(Killed):
            _publish(tables, barred=barred)
        _publish(tables, barred=barred)
        assert _rows(tables) == wanted, moment
        assert _left(tables) == [], moment
        files = _files(tables)
        _publish(tables, barred=barred)
        assert _files(tables) == files, moment
        shutil.rmtree(tables)


def test_files_of_older_versions_that_are_owed_go_with_any_publication(
    tmp_path: Path, lists: SuppressionList, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = tmp_path / "tables"
    lists.suppress([NAMED])
    _publish(tables, *_results(tmp_path))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(PublishedTable, "vacuum", _dies)
        _publish(tables, barred=_as_night(lists.read()))
    assert not any(WHO in repr(rows) for rows in _rows(tables).values())
    assert _left(tables)
    assert _publish(tables).purged_files > 0
    assert _left(tables) == []


@pytest.mark.parametrize("layout", ["delta", "parquet"])
def test_who_is_taken_out_is_in_no_file_and_nobody_elses_history_goes_before_its_hours(
    tmp_path: Path, lists: SuppressionList, layout: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    tables, found = tmp_path / "tables", _results(tmp_path)
    _publish(tables, found[0], layout=layout)
    _publish(tables, *found[1:], keep_hours=168)
    lists.suppress([Names(frozenset({"nobody"}))])
    before = {path.name for path in tables.rglob("part-*.parquet")}
    done = _publish(tables, barred=_as_night(lists.read()), keep_hours=168)
    assert (done.suppressed, done.purged_files) == (0, 0)
    assert {path.name for path in tables.rglob("part-*.parquet")} >= before
    assert len(_left(tables / "photos")) == 3, "the row of the first month, its replacement, and that one's"
    lists.suppress([NAMED])
    gallery, first = str(tmp_path / "gallery"), tmp_path / "first"
    words = ["run", "publish", "--tables", str(tables), "--results", str(first), "--source", "album"]
    assert main([*words, "--obey", gallery, "--keep-hours", "168"]) == 0
    told = capsys.readouterr().out
    assert "taken out: the gallery's list names them" in told
    assert "files of older versions" in told
    assert _left(tables) == []
    assert main([*words, "--obey", gallery, "--keep-hours", "168", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["purged_files"] == 0


def _raced(place: Path, outer: Publishing, inner: Publishing, step: int) -> Iterator[tuple[int, Path]]:
    """Have one publication happen within the other, before each of its changes: the moment, the tables."""
    moment = 1
    while True:
        tables = Path(shutil.copytree(place / "before", place / f"{moment}"))
        mine, other = (replace(each, root=str(tables), tallies={}) for each in (outer, inner))
        with at_change(moment, other.run) as changes:
            mine.run()
        if changes[0] < moment:
            return
        yield moment, tables
        shutil.rmtree(tables)
        moment += step


@pytest.mark.parametrize(("layout", "step"), [("delta", 9), pytest.param("delta", 1, marks=pytest.mark.slow)])
def test_a_publisher_without_the_list_may_come_at_any_moment(
    tmp_path: Path, lists: SuppressionList, layout: Any, step: int
) -> None:
    first, second, search, *_ = _results(tmp_path)
    lists.suppress([NAMED])
    _publish(tmp_path / "before", first, layout=layout)
    obeys = Publishing("", lambda _: ((first, second), ()), _as_night(lists.read()))
    other = Publishing("", lambda _: ((second, replace(first, content="0" * 64), search), ()))
    late = []
    for moment, tables in _raced(tmp_path, obeys, other, step):
        late += [moment] if "rows" in _hers(tables) else []
        replace(obeys, root=str(tables)).run()
        assert _left(tables) == [], moment
    # Only who comes once the lists were asked for the last time, as files go, is left to the next.
    assert late == [each for each in range(1, moment + 1, step) if late and each >= late[0]]
    assert len(late) < moment / step / 2


@pytest.mark.parametrize(("layout", "step"), [("delta", 9), pytest.param("delta", 1, marks=pytest.mark.slow)])
def test_a_publication_that_obeys_may_come_at_any_moment_of_one_without_the_list(
    tmp_path: Path, lists: SuppressionList, layout: Any, step: int
) -> None:
    first, second, search, later, dedup = _results(tmp_path)
    lists.suppress([NAMED])
    _publish(tmp_path / "before", first, layout=layout)
    obeys = Publishing("", lambda _: ((first,), ()), _as_night(lists.read()))
    found = (replace(first, content="0" * 64), second, search, later, dedup)
    for moment, tables in _raced(tmp_path, Publishing("", lambda _: (found, ())), obeys, step):
        replace(obeys, root=str(tables)).run()
        assert _left(tables) == [], moment


@pytest.mark.parametrize("kind", ["night", pytest.param("obey", marks=pytest.mark.slow)])
def test_photos_that_come_unasked_are_followed_out_though_the_tables_obey_already(
    tmp_path: Path, lists: SuppressionList, kind: str
) -> None:
    """Once `photos` has lost a row that its content alone names, nothing says whose its other rows are."""
    lists.suppress([NAMED])
    obeys = Publishing("", lambda _: ((), ()), KINDS[kind](lists.read()))
    calm = result_at(made_run(tmp_path / "calm", OTHERS[:1]).uri, "album")
    _publish(tmp_path / "before", calm, barred=obeys.barred)
    unasked = result_at(made_run(tmp_path / "unasked", [COPY, OTHERS[1]]).uri, "album")
    other = Publishing("", lambda _: ((unasked,), ()))
    for moment, tables in _raced(tmp_path, other, obeys, 1):
        replace(obeys, root=str(tables)).run()
        assert not _hers(tables), moment
        assert "4.jpg" in repr(_rows(tables)["faces"]), moment


def test_a_search_of_photos_that_were_published_under_another_source_stays(
    tmp_path: Path, lists: SuppressionList
) -> None:
    lists.suppress([NAMED])
    out = made_run(tmp_path / "out", OTHERS)
    search = made_search(tmp_path / "search", out, "2026-05-02T00:00:00+00:00", "bob")
    _publish(tmp_path / "tables", result_at(out.uri, "album"))
    for barred in (Barred(), _as_night(lists.read(), "album", "out.csv"), Barred(lists.read())):
        _publish(tmp_path / "tables", result_at(search.uri, None), barred=barred)
        assert len(_rows(tmp_path / "tables")["matches"]) == len(OTHERS)


def _hers(root: Path) -> list[str]:
    return ["rows" for rows in _rows(root).values() if f"'{WHO}'" in repr(rows) or "copy.jpg" in repr(rows)]
