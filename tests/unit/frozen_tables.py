"""Published tables of earlier code, kept in tests/fixtures/tables, and the results that they are of.

The results are drawn anew where they are needed: no model, no photo. Each column of theirs that the code has
today holds values, names and times of runs are given, and so the same results can be published again, into
the kept tables and into new ones.

    PYTHONPATH=. python tests/unit/frozen_tables.py     # with frpipe of the commit that expected.json names

DO NOT RUN IT AGAIN. The tables are frozen: they stand for what users have, and all later code must read them
and publish into them. Made anew by later code, they would test nothing.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.report import PhotoCounts, Report
from frpipe.core.schema import WITH_CAPTURE_TIMES, face_schema, image_schema, later_image_fields
from frpipe.io.output import run
from frpipe.io.output.parts import check_part, part_file, to_parquet, write_part
from frpipe.io.output.plan import plan
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.io.tables.table import Layout
from frpipe.jobs.dedup.schema import CLUSTER_SCHEMA
from frpipe.jobs.dedup.since import CLUSTERS
from frpipe.jobs.identify.schema import PROBE_SCHEMA
from frpipe.jobs.identify.worker import PROBES
from frpipe.jobs.publish import schema
from frpipe.jobs.publish.job import Publishing
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.sources import NIGHT, Publication, result_at

PLACE = Path(__file__).parent.parent / "fixtures/tables"
ARCHIVE = PLACE / "tables.tar.xz"
LAYOUTS: tuple[Layout, ...] = ("delta", "parquet")
DIM = 8
OLD = ("first", "searched", "doubles", "night")
"""The results that are in the kept tables."""
Row = dict[str, Any]

_EXTRA = pa.schema([pa.field("department", pa.string())])
_HASHES = {"embedder_hash": "e" * 64, "preprocessing_hash": "p" * 64, "detector_hash": "d" * 64}
_STATUS = {"ok": 1, "no_face": 0, "rejected": 0}
STAGED = tuple(field.name for field in later_image_fields())
"""Columns of `photos` that outputs have and others lack."""


@dataclass(frozen=True)
class _Gone:
    """Photos that a night did not find."""

    ids: pa.Array

    def among(self, ids: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.is_in(ids, value_set=self.ids)

    def few(self) -> tuple[pa.Array, ...]:
        return (self.ids,)


def results(place: Path) -> dict[str, Publication]:
    """Draw all results: those of OLD, and what is published into their tables afterwards.

    anna, bob, cleo and dora have photos; one of cleo is rejected, and accepted by the replay; bob's vanish.
    """
    first = [("a1", "anna", "ok"), ("b1", "bob", "ok"), ("b2", "bob", "ok"), ("c1", "cleo", "rejected")]
    photos = {
        "first": ([*first, ("n1", None, "no_face")], "2026-05-01"),
        "night": ([("a2", "anna", "ok"), ("d1", "dora", "ok"), ("d3", "dora", "rejected")], "2026-05-03"),
        "second": ([("a1", "anna", "ok"), ("d2", "dora", "rejected")], "2026-06-01"),
        "late": ([("c2", "cleo", "ok")], "2026-06-03"),
        "replay": ([("c1", "cleo", "ok")], "2026-05-01"),
    }
    found = {name: _enrolled(place, name, *facts) for name, facts in photos.items()}
    more = {"replayed": "2026-06-05T00:00:00+00:00", "replay_of": f"{place}/first"}
    found["replay"] = _result(place, "replay", _again(place / "replay", more))
    found["searched"] = _searched(place, "searched", "first", "2026-05-02", "anna", "bob")
    found["searched again"] = _searched(place, "searched again", "second", "2026-06-02", "anna", "dora")
    found["doubles"] = _doubles(place, "doubles", "2026-05-02", "anna", "bob")
    for name, day, gone in (("night", date(2026, 5, 3), "b2"), ("late", date(2026, 6, 3), "b1")):
        own = _searched(place, f"{name} searched", name, f"{day}", "bob", "anna")
        alike = _doubles(place, f"{name} doubles", f"{day}", "anna", "dora", gallery="people")
        found[name] = _night(found[name], day, own, alike, gone)
    return found


def publish(root: Path, found: Iterable[Publication], layout: Layout | None = None) -> int:
    """Publish results; returns how many were published before."""
    return Publishing(str(root), lambda _: ([*found], ()), layout=layout).run().known


def rows(root: Path) -> dict[str, list[Row]]:
    """All rows of all tables as JSON has them, in an order that does not depend on how they lie in files."""
    opened = Root.opened(str(root))
    assert opened is not None
    told = {spec.name: opened.table(spec).rows().to_pylist() for spec in schema.TABLES}
    plain = {name: [json.loads(json.dumps(row, default=str)) for row in each] for name, each in told.items()}
    return {
        name: sorted(each, key=lambda row: json.dumps(row, sort_keys=True)) for name, each in plain.items()
    }


def columns_of(found: pa.Schema) -> list[list[Any]]:
    """Name, type and nullability of each column, as JSON has them."""
    return [[each.name, str(each.type), each.nullable] for each in found]


def _filled(fields: pa.Schema, seed: str, own: Mapping[str, Any]) -> Row:
    """A row with a value in each column; own: those that are given."""
    return {each.name: own.get(each.name, _value(each.type, f"{each.name} {seed}")) for each in fields}


def _value(kind: pa.DataType, seed: str) -> Any:
    number = hashlib.sha256(seed.encode()).digest()[0]
    if pa.types.is_struct(kind):
        return {each.name: _value(each.type, f"{seed} {each.name}") for each in kind}
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        length = kind.list_size if pa.types.is_fixed_size_list(kind) else 2
        return [_value(kind.value_type, f"{seed} {n}") for n in range(length)]
    if pa.types.is_timestamp(kind):
        return datetime(2026, 1, 1, tzinfo=UTC if kind.tz else None) + timedelta(hours=number)
    for is_kind, made in (
        (pa.types.is_boolean, number % 2 == 0),
        (pa.types.is_integer, number % 100),
        (pa.types.is_floating, (number - 128) / 128),
    ):
        if is_kind(kind):
            return made
    return seed


def _enrolled(place: Path, name: str, photos: list[tuple[str, str | None, str]], day: str) -> Publication:
    manifest, uri = place / f"{name}.csv", "s3://album/{}.jpg"
    place.mkdir(parents=True, exist_ok=True)
    lines = [f"{each},{uri.format(each)},{who or ''},of {who}" for each, who, _ in photos]
    manifest.write_text("\n".join(("image_id,image_uri,subject_id,department", *lines)) + "\n")
    out = Folder.at(str(place / name))
    cut = plan(str(manifest), out, len(photos))
    identity = {"schema_version": WITH_CAPTURE_TIMES, "manifest": cut.fingerprint, "recipe": {}}
    _claim(out, name, identity, day, manifest=str(manifest))
    known = {
        each: {
            "image_id": each,
            "image_uri": uri.format(each),
            "subject_id": who,
            "department": f"of {who}",
            "status": status,
            "reason": "truncated" if status == "rejected" else None,
            "faces": _STATUS[status],
            "faces_held": 0,
            "content_sha256": hashlib.sha256(f"{each} of {name}".encode()).hexdigest(),
            "face_id": f"{each}#0",
            "face_index": 0,
            "is_subject": True,
            **_HASHES,
        }
        for each, who, status in photos
    }
    with_face = [facts for facts in known.values() if facts["faces"]]
    staged = later_image_fields()
    fields = (
        image_schema(_EXTRA, WITH_CAPTURE_TIMES, staged),
        face_schema(DIM, _EXTRA, WITH_CAPTURE_TIMES),
    )
    images, faces = (
        pa.Table.from_pylist([_filled(each, f"{facts['image_id']} {name}", facts) for facts in some], each)
        for each, some in zip(fields, (known.values(), with_face), strict=True)
    )
    write_part(out, 0, images, faces, {f"frpipe.{each}": value for each, value in _HASHES.items()})
    *files, table = check_part(out, 0)
    tally = PhotoCounts()
    tally.add(table)
    numbers = {"parts": 1, "launch_rows": len(photos), "wall_s": 2.0, "rows_per_s": len(photos) / 2}
    models = {"detector": "drawn dddddddd", "embedder": "drawn eeeeeeee"}
    report = Report.of(tally, pools=[], models=models, output=out.uri, **numbers)
    run.seal(out, files, report.as_dict(), report.text())
    return _result(place, name, out)


def _searched(place: Path, name: str, probes: str, day: str, *people: str) -> Publication:
    """A search for the photos of an output: each has these people for candidates."""
    out = Folder.at(str(place / name))
    _claim(out, name, {"job": "identify"}, day, probes=f"{place}/{probes}")
    images = pa.concat_tables(result_at(f"{place}/{probes}", "album").features.features.all_images())
    found = []
    for row in images.to_pylist():
        known = {each: row[each] for each in ("image_id", "image_uri", "status", "reason")}
        given = {
            **known,
            "face_id": f"{row['image_id']}#0" if row["faces"] else None,
            "probe_subject_id": row["subject_id"],
            "decision": "identified" if row["faces"] else None,
            "gallery_id": "g",
            "rank1_subject_id": people[0],
            **_HASHES,
            "candidates": [
                {"rank": n, "subject_id": who, "similarity": 1 - n / 8, "distance": n / 8}
                for n, who in enumerate(people, 1)
            ],
        }
        found.append(_filled(PROBE_SCHEMA, f"{row['image_id']} {name}", given))
    units = Units(out, PROBES)
    units.publish(0, pa.Table.from_pylist(found, PROBE_SCHEMA), {})
    report = {"gallery_id": "g", "probes": len(found), "identified": len(found), "wall_s": 1.0}
    run.seal(out, units.files(), report, "")
    return _result(place, name, out)


def _doubles(place: Path, name: str, day: str, *people: str, gallery: str = "g") -> Publication:
    """A cluster of these people."""
    out = Folder.at(str(place / name))
    _claim(out, name, {"job": "dedup", "source": {"gallery_id": gallery}}, day)
    known = {"cluster_id": "c", "component_id": "c", "size": len(people), "weak": False}
    given = [{**known, "subject_id": who, "keeper": who == people[0]} for who in people]
    found = [_filled(CLUSTER_SCHEMA, row["subject_id"], row) for row in given]
    data = to_parquet(pa.Table.from_pylist(found, CLUSTER_SCHEMA), {})
    out.write(CLUSTERS, data)
    run.seal(out, [part_file(CLUSTERS, data)], {"clusters": 1, "wall_s": 1.0}, "")
    return _result(place, name, out)


def _night(
    enrolled: Publication, day: date, searched: Publication, doubles: Publication, *gone: str
) -> Publication:
    """The night of some results, that did not find some photos; it has a value for all of `runs`."""
    known = {**_filled(schema.RUNS.schema(), f"{day}", {}), **enrolled.facts, "replay_of": None}
    known |= {"vanished": len(gone), "gallery_prefix": "", "nodes": 1, "cost": 0.5, "currency": "EUR"}
    (search,) = searched.searches
    assert search.faces is not None
    return replace(
        enrolled,
        kind=NIGHT,
        night=day,
        vanished=_Gone(pa.array([*gone])),
        searches=(replace(search, name="gallery", faces=replace(search.faces, night=day), probes=None),),
        dedup=doubles.dedup,
        facts=known,
    )


def _claim(out: Folder, name: str, identity: Mapping[str, Any], day: str, **facts: Any) -> None:
    created = f"{day}T00:00:00+00:00"
    run.claim(out, {**identity}, {"claim": _digest(name)[:32], "created": created, **facts})


def _again(path: Path, facts: Mapping[str, Any]) -> Folder:
    """The same output with further facts in its run.json."""
    out = Folder.at(str(path))
    out.write(run.RUN, json.dumps({**json.loads(out.read(run.RUN)), **facts}).encode())
    return out


def _result(place: Path, name: str, out: Folder) -> Publication:
    """A result with nothing in it that depends on where and with what it was drawn."""
    found = result_at(out.uri, "album")
    places = {each: found.facts.get(each) for each in ("output", "replay_of")}
    told = {each: uri.replace(str(place), "outputs") for each, uri in places.items() if uri}
    return replace(found, content=_digest(f"content of {name}"), facts={**found.facts, **told})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def unpacked(place: Path) -> Path:
    """The kept tables in a folder, which has a folder for each layout."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(place, filter="data")
    return place


def expected() -> dict[str, Any]:
    """What was true of the kept tables when they were made: columns and rows by table."""
    found: dict[str, Any] = json.loads((PLACE / "expected.json").read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Make the tables, once."""
    if PLACE.exists():
        sys.exit("the tables are frozen: they are not made again")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    PLACE.mkdir()
    with tempfile.TemporaryDirectory() as drawn, tempfile.TemporaryDirectory() as made:
        found, place = results(Path(drawn)), Path(made)
        for layout in LAYOUTS:
            for name in OLD:
                publish(place / layout, [found[name]], layout)
        opened = Root.opened(str(place / LAYOUTS[0]))
        assert opened is not None
        columns = {each.name: columns_of(opened.table(each).head().schema) for each in schema.TABLES}
        known = {"made_by": commit.stdout.strip(), "columns": columns, "rows": rows(place / LAYOUTS[0])}
        with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
            for layout in LAYOUTS:
                archive.add(place / layout, layout, filter=_of_nobody)
    text = json.dumps(known, default=str).replace("}, {", "},\n{").replace("], [", "],\n[")
    (PLACE / "expected.json").write_text(text + "\n", encoding="utf-8")


def _of_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    return member.replace(mtime=0, uid=0, gid=0, uname="", gname="", deep=False)


if __name__ == "__main__":
    main()
