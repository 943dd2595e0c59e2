"""Files of an output folder that concern the whole run: its identity, its file list, its end.

run.json      what decides the content, written before any work; a different run is refused
files.json    every published file with rows, bytes and SHA-256, written when all parts are there
report.json   what happened;  report.md the same for people
_SUCCESS      last of all, empty
erasing.json  there while people are taken out of it (frpipe.io.erasure.journal)
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import pyarrow as pa

from frpipe.core.errors import FileDamaged, OutputError
from frpipe.io.output.parts import PartFile
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import as_table, read_if_there, read_json, read_whole

RUN = "run.json"
FILES = "files.json"
REPORT = "report.json"
REPORT_TEXT = "report.md"
SUCCESS = "_SUCCESS"
ERASING = "erasing.json"
CLAIM = "claim"

T = TypeVar("T")
# The lists of files of finished runs, by the run's place: read once in a process, as they hardly change.
_records: dict[str, dict[str, PartFile]] = {}
_MOST_RECORDS = 16


_CHANGED_REMEDY = (
    "see what else is damaged with `frpipe check`, mend it with --mend, then run the job that made it again; "
    "a file that was changed by hand cannot be used"
)


def refuse_foreign(out: Folder, own: str = "_plan/") -> None:
    """Raise OutputError where the folder holds files, and none of them says that it is a run's.

    own: what a run may leave there before it claims the folder.
    """
    if not out.exists(RUN) and next((n for n in out.walk() if not n.startswith(own)), None) is not None:
        raise OutputError("the output folder holds other files, and no run", "use a new or an empty folder")


def claim(out: Folder, identity: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Make the folder this run's, or find that it already is. Returns the run's facts, as first claimed.

    identity: what decides the content.  facts: what is good to know beside it.  The claim gets a random name
    (see `refuse_other_claim`).
    Raises OutputError where the folder belongs to a run of another identity, with what differs.
    """
    mine = {"identity": identity, CLAIM: uuid.uuid4().hex, **facts}
    if out.create(RUN, _pretty(mine)):
        return mine
    return check_claim(out, identity) or mine


def begun(out: Folder) -> dict[str, Any]:
    """Read the facts of the run that an output folder belongs to; empty if it belongs to no run.

    Raises OutputError where that cannot be read.
    """
    try:
        return read_json(out, RUN)
    except FileNotFoundError:
        return {}
    except FileDamaged:
        raise _nobodys() from None


def check_claim(out: Folder, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Read the facts of the run that the folder belongs to; None if it belongs to none.

    Raises OutputError as `claim`, and where an erasure is under way: nobody may write beside it.
    """
    try:
        run = read_json(out, RUN)
        theirs = run["identity"]
    except FileNotFoundError:
        return None
    except (FileDamaged, KeyError):
        raise _nobodys() from None
    found = _differences(theirs, json.loads(json.dumps(identity)))
    differences = sorted(found, key=lambda said: ".model was " not in said)  # all else of a card follows
    if differences:
        raise OutputError(
            "the output folder holds a run with other settings: " + "; ".join(differences[:5]),
            "use another output folder, or the settings of its run.json",
        )
    if out.exists(ERASING):
        raise OutputError(*erasure_under_way(out))
    return run


def erasure_under_way(out: Folder) -> tuple[str, str]:
    """The message and the remedy for an output whose erasure has not ended."""
    return (
        "people are being taken out of this output, or that broke off",
        f"let it end, or run the same `frpipe erase {out.uri} ...` again; then this command",
    )


def refuse_other_claim(out: Folder, claim: str) -> None:
    """Raise OutputError where the folder is not claimed any more as it was when a worker was told of it.

    Somebody has removed the output, perhaps to take people out, and may have begun it anew: what a worker
    that lives on has found must not come back. claim: of run.json; empty: of an output of older code, not
    compared.
    """
    if claim and begun(out).get(CLAIM) != claim:
        raise OutputError(
            f"{out.uri} was removed, or begun anew, while this run was at it", "run the same command again"
        )


def release(out: Folder) -> None:
    """Give up the claim on a folder: the run's manifest turned out to be unusable, and nothing was done."""
    out.delete(RUN)


def complete(out: Folder) -> dict[str, Any] | None:
    """Read the report if the run has ended and all its files are there, of the right size; else None.

    No file is read but the list and the report: whether the others hold what was written their readers
    check, and `frpipe check`.
    """
    if not out.exists(SUCCESS):
        return None
    try:
        listed = {file.name: file.bytes for file in file_list(out)}
        report = read_json(out, REPORT)
    except (FileNotFoundError, FileDamaged, KeyError, TypeError):
        return None
    folders = {name.rpartition("/")[0] for name in listed}
    present = {entry.name: entry.bytes for sub in folders for entry in out.list(sub)}
    return report if listed.items() <= present.items() else None


def digest(out: Folder) -> str:
    """Hash the file list of a finished run (SHA-256).

    The list holds the digests of all files, so it identifies the run.
    """
    return read_whole(out, FILES, _digest_of_list)


def file_list(out: Folder) -> list[PartFile]:
    """Read the list of files.

    FileNotFoundError where there is none; FileDamaged where it is no such list.
    """
    return read_if_there(out, FILES, _files_of)


def listed_files(out: Folder) -> dict[str, str]:
    """SHA-256 of each listed file, by name, of a run that has ended or had ended; empty without a list."""
    try:
        return {file.name: file.sha256 for file in file_list(out)}
    except FileNotFoundError:
        return {}


def recorded(out: Folder) -> dict[str, PartFile]:
    """The list of files by name, read once in a process; none where the run has not ended."""
    return _records.get(out.uri) or _record(out)


def read_table(out: Folder, name: str) -> pa.Table:
    """Read a Parquet file of any job's output, as the list of files has it if the run has ended.

    Raises FileDamaged, StorageError, OutOfMemory, OutputError.
    """

    def read(known: PartFile | None) -> pa.Table:
        return read_whole(out, name, as_table, known.sha256 if known else "")

    return read_recorded(out, name, read)


def read_recorded(out: Folder, name: str, read: Callable[[PartFile | None], T]) -> T:
    """Read a file with `read`, which is given the file's entry in the list; None: the run has not ended.

    Raises OutputError where the run is being changed, and what `read` does.
    """
    known = recorded(out)
    try:
        return read(known.get(name))
    except FileDamaged:
        _records.pop(out.uri, None)
        now = _record(out)
        if now.get(name) == known.get(name):
            raise
        if not now:
            raise OutputError(
                f"{out.uri} is being changed: it was finished, and is not any more",
                "let its job, or the erasure that is under way, end; then run again",
            ) from None
        # People were taken out of it, or it was mended, since the list was read.
        return read(now.get(name))


def reopen(out: Folder) -> None:
    """Take the mark of success away, before anything of a finished run is done again."""
    _records.pop(out.uri, None)
    out.delete(SUCCESS)


def refuse_sealed(out: Folder) -> None:
    """Raise OutputError where another process has ended the run: nothing may be withdrawn."""
    if out.exists(SUCCESS):
        raise OutputError(
            f"{out.uri} was finished by another process while this one was at it",
            "run the same command again",
        )


def seal(out: Folder, files: Sequence[PartFile], report: dict[str, Any], text: str) -> None:
    """Write the file list and the report, then the mark of success."""
    out.write(FILES, _pretty({"files": [asdict(file) for file in files]}))
    out.write(REPORT, _pretty(report))
    out.write(REPORT_TEXT, text.encode())
    out.write(SUCCESS, b"")


def _record(out: Folder) -> dict[str, PartFile]:
    """The list of files by name, kept for the next time; none where the run has not ended."""
    if not out.exists(SUCCESS):
        return {}
    try:
        found = {file.name: file for file in file_list(out)}
    except FileNotFoundError:
        return {}
    if len(_records) >= _MOST_RECORDS:
        _records.clear()
    _records[out.uri] = found
    return found


def _files_of(data: bytes) -> list[PartFile]:
    """Parse a list of files. Raises ValueError for bytes that are no such list."""
    try:
        listed = [PartFile(**file) for file in json.loads(data)["files"]]
    except (KeyError, TypeError):
        raise ValueError from None
    return listed


def _digest_of_list(data: bytes) -> str:
    json.loads(data)
    return hashlib.sha256(data).hexdigest()


def _nobodys() -> OutputError:
    return OutputError(f"{RUN} in the output folder cannot be read", "use another output folder")


def _pretty(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n").encode()


def _differences(theirs: Any, ours: Any, path: str = "") -> Iterator[str]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            yield from _differences(theirs.get(key), ours.get(key), f"{path}.{key}" if path else key)
    elif theirs != ours:
        yield f"{path} was {_short(theirs)}, is {_short(ours)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."


@dataclass(frozen=True, slots=True)
class ListedFiles:
    """Files that are read only as listed. sha256: by name.  remedy: for a file that is another."""

    folder: Folder
    sha256: Mapping[str, str]
    remedy: str = _CHANGED_REMEDY

    @classmethod
    def of(cls, folder: Folder, remedy: str = _CHANGED_REMEDY) -> ListedFiles:
        """Read the list of a finished run."""
        return cls(folder, {file.name: file.sha256 for file in file_list(folder)}, remedy)

    @classmethod
    def checked(cls, folder: Folder, files: Sequence[PartFile]) -> ListedFiles:
        """Take a list that has just been read back."""
        return cls(folder, {file.name: file.sha256 for file in files})

    def below(self, sub: str) -> list[str]:
        """The names of the files of a folder, in order."""
        return sorted(name for name in self.sha256 if name.startswith(f"{sub}/"))

    def read(self, name: str) -> bytes:
        """Read all bytes of a file.

        Raises OutputError where they are not those of the list; never deletes anything.
        """
        return self._checked(name, bytes)

    def table(self, name: str) -> pa.Table:
        """Read a Parquet file of the list as a table, without its key-value metadata."""
        return self._checked(name, as_table).replace_schema_metadata(None)

    def _checked(self, name: str, use: Callable[[bytes], T]) -> T:
        try:
            return read_whole(self.folder, name, use, self.sha256.get(name, "not listed"))
        except FileDamaged:
            raise OutputError(
                f"{name} in {self.folder.uri} is not the file that was checked when it was finished",
                self.remedy,
            ) from None
