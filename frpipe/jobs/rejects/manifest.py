"""A manifest of the rejected rows of an enroll output, for other tools or a run of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.errors import ManifestError
from frpipe.io.manifest.columns import LOCATION, URI
from frpipe.io.manifest.manifest import SUFFIXES
from frpipe.io.manifest.manifest_writer import write_manifest
from frpipe.io.output.features import Features
from frpipe.io.output.plan import load_plan, read_part
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.in_order import in_order
from frpipe.jobs.rejects.choice import Choice


def write_rejects(output: str, choice: Choice, target: str) -> None:
    """Write the chosen rows of an enroll output as a manifest, photos by their absolute locations.

    target: .parquet, .csv or .jsonl, local or remote.
    Raises ManifestError: no such row, photos embedded in the manifest (they have no location), a target of
    no known format, or local photos for a remote target.
    """
    features, (parent, name) = Features.at(output), uris.parent(uris.canonical(target))
    format = SUFFIXES.get(PurePosixPath(name).suffix.lower())
    if format is None:
        raise ManifestError(f"{name} is no manifest's name", "end it in .parquet, .csv or .jsonl")
    if load_plan(features.folder).embedded:
        raise ManifestError(
            "the photos lie inside the run's own manifest, and no other can name them",
            f"do them again with: python jobs/enroll.py --replay {output} --output NEW",
        )
    tables = _chosen(features, choice, may_be_local=uris.is_local(target))
    first = next(tables, None)
    if first is None:
        raise ManifestError(
            f"no row of the run was rejected for {choice}", "see its reasons without --manifest"
        )
    batches = (batch for table in chain([first], tables) for batch in table.to_batches())
    with tempfile.TemporaryDirectory(prefix="frpipe-rejects-") as scratch:
        finished = Path(scratch) / "manifest"
        write_manifest(finished, format, first.schema, batches)
        Folder.at(parent).publish(name, finished)


def _chosen(features: Features, choice: Choice, may_be_local: bool) -> Iterator[pa.Table]:
    def rows(part: int) -> pa.Table | None:
        mask = choice.in_part(features, part)
        return read_part(features.folder, part).filter(mask) if pc.any(mask).as_py() else None

    for found in in_order(rows, features.parts()):
        if found is None:
            continue
        if not may_be_local and any(map(uris.is_local, found[LOCATION].to_pylist())):
            raise ManifestError(
                "a remote manifest may not name local photos", "write the manifest to a local file"
            )
        yield found.set_column(found.column_names.index(URI), URI, found[LOCATION]).drop_columns(LOCATION)
