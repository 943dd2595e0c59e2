"""Rows of published tables by their definition: of all publications at once, in plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from frpipe.io.output import run
from frpipe.jobs.publish import schema
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.sources import Publication

Keys = dict[str, Any]
Row = dict[str, Any]


def by_definition(found: Sequence[Publication]) -> Keys:
    """Of each table its keys, with the run that each row is of.

    A photo has the row of the last run that processed it, with the first night after it that did not find it.
    What was said of its faces stands where it was said of those of that row, or of later ones: of two
    searches in a gallery the one of the later faces, and of the same faces the later one.
    """
    photos: dict[tuple[str, str], tuple[Publication, Row]] = {}
    for each in sorted(found, key=lambda one: one.order):
        for row in _rows(each, "images"):
            photos[each.source, row["image_id"]] = each, row
    vanished: dict[tuple[str, str], str] = {}
    for each in sorted(found, key=lambda one: one.order):
        for ids in (each.vanished.few() or ()) if each.vanished else ():
            for name in ids.to_pylist():
                key = each.source, name
                if key in photos and photos[key][0].order < each.order:
                    vanished.setdefault(key, str(each.night))
    stands = {key: each.run_id for key, (each, _) in photos.items()}
    faces = [(each.source, row, each.run_id) for each in found for row in _rows(each, "faces")]
    people = Counter((key[0], row["subject_id"]) for key, (_, row) in photos.items() if key not in vanished)
    return {
        "photos": {key: (name, vanished.get(key)) for key, name in stands.items()},
        "faces": sorted(
            (s, row["face_id"], name) for s, row, name in faces if stands[s, row["image_id"]] == name
        ),
        "rejects": sorted(
            (*key, each.run_id) for key, (each, row) in photos.items() if row["status"] == "rejected"
        ),
        "matches": _matches(found, {key: each.order for key, (each, _) in photos.items()}),
        "duplicate_members": _members(found),
        "people": {key: count for key, count in people.items() if key[1] is not None},
        "runs": sorted({each.run_id for each in found}),
    }


def published(uri: str) -> Keys:
    """The same of tables."""
    root = Root.opened(uri)
    assert root is not None
    told = {spec.name: root.table(spec).rows().to_pylist() for spec in schema.TABLES}

    def keys(name: str, *columns: str) -> list[tuple[Any, ...]]:
        return sorted((tuple(row[each] for each in (*columns, "run_id")) for row in told[name]), key=repr)

    marks = {row["image_id"]: row["vanished"] for row in told["photos"]}
    for name in ("faces", "rejects"):
        assert all(row["vanished"] == marks[row["image_id"]] for row in told[name]), name
    return {
        "photos": {
            (row["source"], row["image_id"]): (row["run_id"], row["vanished"] and str(row["vanished"]))
            for row in told["photos"]
        },
        "faces": keys("faces", "source", "face_id"),
        "rejects": keys("rejects", "source", "image_id"),
        "matches": keys("matches", *_MATCH),
        "duplicate_members": keys("duplicate_members", "scope", "cluster_id", "subject_id"),
        "people": {(row["source"], row["subject_id"]): row["photos"] for row in told["people"]},
        "runs": sorted(row["run_id"] for row in told["runs"]),
    }


_MATCH = ("source", "search", "gallery_id", "image_id", "face_id")


def _matches(found: Sequence[Publication], photos: dict[tuple[str, str], Any]) -> list[tuple[Any, ...]]:
    orders = {each.run_id: each.order for each in found}
    best: dict[tuple[Any, ...], tuple[Any, list[tuple[Any, ...]]]] = {}
    for each in found:
        for search in each.searches:
            # Of faces that the search found by itself it says what it says of their photos.
            of = orders.get(search.faces.run_id, each.order) if search.faces else each.order
            for path in _parts(search.folder.uri, "probes"):
                for told in pq.read_table(path).to_pylist():
                    row = {**told, "source": search.source, "search": search.name}
                    if of < photos.get((search.source, row["image_id"]), of):
                        continue
                    key, rank = tuple(row[name] for name in _MATCH[:4]), (of, each.order)
                    if key not in best or best[key][0] < rank:
                        best[key] = rank, []
                    if best[key][0] == rank:
                        best[key][1].append((*(row[name] for name in _MATCH), each.run_id))
    return sorted((row for _, rows in best.values() for row in rows), key=repr)


def _members(found: Sequence[Publication]) -> list[tuple[Any, ...]]:
    newest: dict[str, tuple[Publication, Any]] = {}
    for each in sorted((one for one in found if one.dedup), key=lambda one: one.order):
        assert each.dedup is not None
        scope = run.begun(each.dedup)["identity"]["source"]["gallery_id"]
        newest[scope] = each, run.read_table(each.dedup, "clusters.parquet").to_pylist()
    return sorted(
        (scope, row["cluster_id"], row["subject_id"], each.run_id)
        for scope, (each, rows) in newest.items()
        for row in rows
    )


def _rows(each: Publication, sub: str) -> Iterator[Row]:
    for path in _parts(each.features.folder.uri, sub) if each.features else ():
        names = {"image_id", "face_id", "subject_id", "status"}
        there = [name for name in pq.read_schema(path).names if name in names]
        yield from pq.read_table(path, columns=there).to_pylist()


def _parts(uri: str, sub: str) -> list[Path]:
    return sorted(Path(uri, sub).glob("*.parquet"))
