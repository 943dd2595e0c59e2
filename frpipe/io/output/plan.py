"""Plan a run: the manifest checked, normalised and cut into parts, which are the units of work.

_plan/part-000000.parquet ...   the rows of each part
_plan/plan.json                 written last: without it the pass over the manifest is made again
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from frpipe.core.errors import ConfigError, FileDamaged, ManifestError, OutputError
from frpipe.core.pulse import Pulse, Say, silent
from frpipe.io.manifest.admission import admitted
from frpipe.io.manifest.columns import ID, LOCATION, SUBJECT, URI
from frpipe.io.manifest.manifest import Manifest
from frpipe.io.manifest.row_list import fingerprint
from frpipe.io.manifest.survey import Survey
from frpipe.io.output.part_writer import PartWriter
from frpipe.io.output.parts import part_name
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import as_table, read_json, read_whole

FORMAT_VERSION = 1
PLAN = "_plan"
# To load the models takes a worker as long as so many photos.
_ROWS_OF_A_START = 16
_INDEX = "plan.json"
_OWN = frozenset({ID, URI, LOCATION, SUBJECT})

# What handing out and publishing a part costs, in photos that a worker does meanwhile. See ADR 17.
_PART_COST_ROWS = 6
# A part of web photos may have to wait for those of slow servers, while nothing else is done.
_WEB_PART_COST_ROWS = 2000
# One driver hands out all parts: a part must keep a worker busy until its turn comes round.
_LEAST_ROWS, _LEAST_ROWS_A_WORKER = 16, 4
# The aligned crops of a part (37 KB a face) are in memory at once, and a crash costs a part.
_MOST_ROWS = 2048


@dataclass(frozen=True, slots=True)
class ManifestPlan:
    """A manifest as it was cut. `extra` are its own columns, which travel to the output.

    rows: of the manifest, less those of people who were erased since.  erased: how many, by part.
    """

    rows: int
    parts: int
    part_rows: int
    embedded: bool
    fingerprint: str
    extra: pa.Schema
    erased: Mapping[int, int] = field(default_factory=dict)

    def rows_of(self, part: int) -> int:
        """The number of rows in a part: only the last may be smaller, and those where rows were erased."""
        cut = min(self.part_rows, self.rows + self.erased_rows - part * self.part_rows)
        return cut - self.erased.get(part, 0)

    @property
    def erased_rows(self) -> int:
        """The number of erased rows of all parts."""
        return sum(self.erased.values())


@dataclass(frozen=True, slots=True)
class Draft:
    """A manifest that is opened and identified, but neither checked nor cut yet."""

    manifest: Manifest
    fingerprint: str
    files: list[dict[str, Any]]

    @classmethod
    def of(
        cls,
        manifest_uri: str,
        reserved: frozenset[str] = frozenset(),
        nobody: Iterable[str] = (),
        say: Say = silent,
    ) -> Draft:
        """Open and identify a manifest. reserved, nobody, say: as in `Manifest.open`.

        Raises ManifestError: it cannot be opened, or its columns will not do.
        """
        manifest = Manifest.open(manifest_uri, reserved, nobody, say=say)
        return cls(manifest, *fingerprint(manifest, say))

    @property
    def rows_estimate(self) -> int:
        """The estimated number of rows."""
        return self.manifest.rows_estimate()

    def part_rows(self, workers: int, roots: tuple[str, ...] = ()) -> int:
        """The number of rows of a part, where it is left to us."""
        return auto_part_rows(self.rows_estimate, workers, roots)


def plan(
    manifest_uri: str,
    out: Folder,
    part_rows: int | Literal["auto"] = "auto",
    roots: tuple[str, ...] = (),
    reserved: frozenset[str] = frozenset(),
    *,
    workers: int = 1,
) -> ManifestPlan:
    """Open a manifest and plan the run: `Draft.of`, then `plan_of`."""
    draft = Draft.of(manifest_uri, reserved)
    return plan_of(draft, out, draft.part_rows(workers, roots) if part_rows == "auto" else part_rows, roots)


def plan_of(
    draft: Draft,
    out: Folder,
    part_rows: int,
    roots: tuple[str, ...] = (),
    say: Say = silent,
) -> ManifestPlan:
    """Check the whole manifest and write its parts to `out`, or find that this was done.

    say: told how far it is, and what is doubtful in the manifest. The size of parts is settled by the first
    run on an output.
    Raises ManifestError (nothing usable is left behind), ConfigError (roots, part_rows), StorageError, and
    OutputError where the output holds the plan of another manifest.
    """
    if part_rows < 1:
        raise ConfigError("resources.part_rows must be 1 or more", "leave it at auto")
    existing = _existing(out)
    if existing is not None:
        if existing.fingerprint != draft.fingerprint:
            raise OutputError(
                "the output folder belongs to another manifest, or the manifest has changed",
                "use another output folder",
            )
        return existing
    survey = Survey(draft.manifest.nobody)
    rows, parts = _write_parts(_told(draft, roots, survey, say), out.child(PLAN), part_rows)
    for remark in (*draft.manifest.remarks, *survey.remarks()):
        say(remark)
    index = {
        "format_version": FORMAT_VERSION,
        "rows": rows,
        "parts": parts,
        "part_rows": part_rows,
        "embedded": draft.manifest.columns.embedded,
        "fingerprint": draft.fingerprint,
        "files": draft.files,
        "extra": [{"name": field.name, "type": str(field.type)} for field in draft.manifest.columns.extra],
    }
    out.write(f"{PLAN}/{_INDEX}", (json.dumps(index, indent=1) + "\n").encode())
    return load_plan(out)


def load_plan(out: Folder) -> ManifestPlan:
    """Read the plan of an output folder.

    Raises FileNotFoundError: there is none; FileDamaged: it is damaged; OutputError: it is of another
    version, or not understood.
    """
    try:
        index = read_json(out, f"{PLAN}/{_INDEX}")
        version = index["format_version"]
        known = {name: index[name] for name in ("parts", "part_rows", "embedded", "fingerprint")}
        erased = {int(part): int(rows) for part, rows in index.get("erased", {}).items()}
        known |= {"rows": index["rows"] - sum(erased.values()), "erased": erased}
    except (FileDamaged, ValueError, KeyError, TypeError, AttributeError):
        raise _damaged() from None
    if version != FORMAT_VERSION:
        raise OutputError(
            f"the output folder's plan is of version {version}, this program's is {FORMAT_VERSION}",
            "use another output folder, or the version of frpipe that began it",
        )
    return ManifestPlan(**known, extra=pa.schema([f for f in read_part(out, 0).schema if f.name not in _OWN]))


def read_part(out: Folder, part: int) -> pa.Table:
    """The rows of a part: image_id, image_uri, location, subject_id, then the manifest's own columns."""
    name = f"{PLAN}/{part_name(part)}"
    try:
        table = read_whole(out, name, as_table)
    except FileDamaged:
        if out.exists(name):
            raise _damaged() from None
        raise FileDamaged(
            "the plan in the output folder is not to be found from here",
            "use an output that every node sees under the same name: a shared folder, or s3://",
        ) from None
    if not _OWN.issubset(table.column_names):
        raise _damaged()
    return table.replace_schema_metadata(None)


def worth_while(rows: int) -> int:
    """The most workers worth starting: to load its models takes each as long as a few photos."""
    return max(1, rows // _ROWS_OF_A_START)


def auto_part_rows(rows: int, workers: int, roots: tuple[str, ...] = ()) -> int:
    """Choose the rows of a part so that all workers do as many parts and photos.

    roots: parts are larger where web photos may be read.

    More parts cost more to hand out; fewer leave workers idle for longer at the end, for half a part each on
    average. Both cost the same where a part's rows are the square root of twice its cost times a worker's
    rows, and their sum is least there.
    """
    share = max(rows, 1) / workers
    cost = _WEB_PART_COST_ROWS if any(map(uris.is_web, roots)) else _PART_COST_ROWS
    size = max(math.sqrt(2 * cost * share), _LEAST_ROWS, _LEAST_ROWS_A_WORKER * workers)
    parts = max(1, round(share / size), math.ceil(share / _MOST_ROWS))
    return math.ceil(share / parts)


def slices(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Cut tables into tables of `rows` rows each; the last may be smaller."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += table.num_rows
        if count < rows:
            continue
        whole = pa.concat_tables(held)
        end = count - count % rows
        for start in range(0, end, rows):
            yield whole.slice(start, rows)
        held, count = [whole.slice(end)], count - end
    if count:
        yield pa.concat_tables(held)


def _existing(out: Folder) -> ManifestPlan | None:
    try:
        return load_plan(out)
    except FileNotFoundError:
        return None


def _told(draft: Draft, roots: tuple[str, ...], survey: Survey, say: Say) -> Iterator[pa.Table]:
    """Pass on the rows of the manifest, with a line now and then on how far their check is."""
    pulse, rows, about = Pulse(say), 0, draft.rows_estimate
    for table in admitted(draft.manifest, roots, survey=survey):
        yield table
        rows += table.num_rows
        pulse.beat(rows, f"{{}} of {about:,} rows of the manifest checked", about)


def _write_parts(tables: Iterable[pa.Table], folder: Folder, size: int) -> tuple[int, int]:
    rows = parts = 0
    try:
        with PartWriter(folder) as writer:
            for table in slices(tables, size):
                writer.write(part_name(parts), table)
                rows += table.num_rows
                parts += 1
    except ManifestError:
        _remove_parts(folder, 0)
        raise
    _remove_parts(folder, parts)
    return rows, parts


def _remove_parts(folder: Folder, first: int) -> None:
    """Remove parts from `first` on, this pass's own or those of an earlier one that was cut short."""
    for entry in folder.list():
        if entry.name.startswith("part-") and entry.name >= part_name(first):
            folder.delete(entry.name)


def _damaged() -> FileDamaged:
    return FileDamaged("the output folder's plan is damaged", "use another output folder")
