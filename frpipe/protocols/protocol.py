"""A protocol: `protocol.json` beside its lists says what these are, where from, and how to use them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from frpipe.core.counted import counted
from frpipe.core.errors import ManifestError, OutputError
from frpipe.io.manifest.columns import URI
from frpipe.io.manifest.list_files import SUFFIXES
from frpipe.io.manifest.manifest_writer import write_manifest
from frpipe.io.manifest.row_list import RowList, fingerprint
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder

FILE = "protocol.json"
Count = Annotated[int, Field(ge=0)]
# Where the threshold for a fold comes from: the other folds; the fold `train`, for `test`; the other folds of
# another protocol with the same folds; or elsewhere (a card, or a target FPIR). A closed set has none.
ThresholdRule = Literal["other-folds", "train-fold", "other-protocol", "outside", "none"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SourceFile(_Part):
    """A list that the protocol was made of. hashed: `ends`, the first and last MiB of a large one."""

    name: str
    bytes: Count
    sha256: str
    hashed: Literal["whole", "ends"] = "whole"


def sources_of(rows: RowList) -> list[SourceFile]:
    """The files of a list."""
    known = ("name", "bytes", "sha256", "hashed")
    files = fingerprint(rows)[1]
    return [SourceFile(**{key: file[key] for key in known if key in file}) for file in files]


class Protocol(_Part):
    """A protocol. rules: how it is scored.  counts: of the whole.  folds: the same of each fold or repeat.

    files: rows of each list beside it.  settings: what decided a split.  notes: what the numbers can show.
    warnings: what is wrong with the lists, or may be.
    """

    format: Literal["frpipe-protocol/1"] = "frpipe-protocol/1"
    kind: Literal["verification", "identification"]
    name: str = Field(min_length=1)
    threshold: ThresholdRule
    rules: list[str]
    counts: dict[str, Count]
    folds: dict[str, dict[str, Count]]
    files: dict[str, Count]
    sources: list[SourceFile]
    settings: dict[str, Any] = {}
    notes: list[str] = []
    warnings: list[str] = []

    @classmethod
    def load(cls, uri: str) -> Protocol:
        """Read the protocol in a folder. Raises ManifestError: there is none, or it cannot be read."""
        try:
            return cls.model_validate_json(Folder.at(uri).read(FILE))
        except FileNotFoundError:
            raise ManifestError(f"{uri} holds no {FILE}", "make one: frpipe protocol --help") from None
        except ValidationError as error:
            first = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise ManifestError(
                f"{FILE} is not of the form frpipe-protocol/1: {first or 'no JSON'}",
                "make the protocol again",
            ) from None

    def json_text(self) -> str:
        """The protocol as its file holds it: the same for the same lists and settings."""
        return self.model_dump_json(indent=1) + "\n"

    def words(self) -> str:
        """Describe the protocol for people."""
        lines = [f"{self.name}: {self.kind}", *(f"  {rule}" for rule in self.rules)]
        lines += [f"  {_spoken(key):<26}{count:>10,}" for key, count in self.counts.items()]
        if len(self.folds) > 1:
            lines += ["in each:", *_table(self.folds)]
        lines += ["files:", *(f"  {name}, {counted(rows, 'rows')}" for name, rows in self.files.items())]
        lines += ["from:", *(f"  {one.name}, sha256 {one.sha256[:16]}" for one in self.sources)]
        if self.settings:
            lines.append("split: " + ", ".join(f"{key} {value}" for key, value in self.settings.items()))
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines + [f"warning: {warning}" for warning in self.warnings])


def _table(folds: dict[str, dict[str, int]]) -> list[str]:
    keys = list(next(iter(folds.values())))
    widths = [max(len(_spoken(key)), 9) for key in keys]
    rows = [("", [_spoken(key) for key in keys])]
    rows += [(label, [f"{counts.get(key, 0):,}" for key in keys]) for label, counts in folds.items()]
    return [
        f"  {label:<8}" + "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        for label, cells in rows
    ]


def _spoken(key: str) -> str:
    return key.replace("_", " ").replace("nonmated", "non-mated")


def resolution(trials: int, trial: str, rate: str) -> str:
    """Say what so many non-mated trials can show (rule of 3: ISO/IEC 19795-1)."""
    if not trials:
        return f"no {trial}: {rate} cannot be measured"
    return (
        f"{trials:,} {trial}: the smallest {rate} above 0 is {1 / trials:.1e}, "
        f"and without one error it is below {min(3 / trials, 1):.1e} (rule of 3)"
    )


def publish(protocol: Protocol, tables: Mapping[str, pa.Table], place: str, *, csv: bool = False) -> None:
    """Write `NAME.parquet` for each table, with csv also `NAME.csv`, then `protocol.json`.

    Raises OutputError: the folder holds another protocol, or files of these names that are of none;
    ManifestError: a remote list of local photos.
    """
    out = Folder.at(place)
    suffixes = (".parquet", ".csv") if csv else (".parquet",)
    _refuse_foreign(out, protocol, [name + suffix for name in tables for suffix in suffixes])
    if not out.is_local and any(_has_local(table) for table in tables.values()):
        raise ManifestError("a remote list may not name local photos", "write the protocol to a local folder")
    with tempfile.TemporaryDirectory(prefix="frpipe-protocol-") as scratch:
        for name, table in tables.items():
            for suffix in suffixes:
                finished = Path(scratch) / f"list{suffix}"
                write_manifest(finished, SUFFIXES[suffix], table.schema, table.to_batches())
                out.publish(name + suffix, finished)
    out.write(FILE, protocol.json_text().encode())


def _refuse_foreign(out: Folder, protocol: Protocol, names: list[str]) -> None:
    try:
        if out.read(FILE) == protocol.json_text().encode():
            return
    except FileNotFoundError:
        if not any(out.exists(name) for name in names):
            return
    raise OutputError("the output folder holds another protocol, or lists of none", "use a new folder")


def _has_local(table: pa.Table) -> bool:
    return URI in table.column_names and any(uris.is_local(uri.as_py()) for uri in table[URI])
