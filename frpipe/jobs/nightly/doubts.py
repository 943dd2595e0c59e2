"""Table of the new faces that do not fit their people, for the page: differences/doubts.parquet."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow as pa

from frpipe.gallery.likeness import Doubts
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly.tables import read_table, write_table

DOUBTS = "differences/doubts.parquet"
_KIND = "face_"
_SCHEMA = pa.schema(
    [
        ("kind", pa.string()),
        ("subject_id", pa.string()),
        ("face_id", pa.string()),
        ("similarity", pa.float64()),
        ("other_subject_id", pa.string()),
        ("other_face_id", pa.string()),
    ]
)


def write_doubts(night: Folder, doubts: Doubts) -> None:
    """Write the worst doubts; a launch that finds no new face keeps those of the launch before."""
    if doubts.new:
        rows = [asdict(doubt) for doubt in doubts.shown]
        write_table(night, DOUBTS, pa.Table.from_pylist(rows, _SCHEMA))


def doubted(night: Folder) -> dict[str, list[str]]:
    """Describe the doubts for the page, by kind."""
    found: dict[str, list[str]] = {}
    if night.exists(DOUBTS):
        for row in read_table(night, DOUBTS).to_pylist():
            other = f"{row['other_face_id']} of {row['other_subject_id']}"
            words = f"{row['subject_id']}: {row['face_id']}, {row['similarity']:.3f} to {other}"
            found.setdefault(f"{_KIND}{row['kind']}", []).append(words)
    return found


def still_doubted(night: Folder, lists: dict[str, list[str]]) -> dict[str, list[str]]:
    """Filter the lists of a page: without doubts that are in the table no more."""
    now = doubted(night)
    return {
        kind: [words for words in told if words in now.get(kind, ())] if kind.startswith(_KIND) else told
        for kind, told in lists.items()
    }
