"""Erase people from finished results of identify and dedup, as if they had not been there."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from frpipe.core.errors import FrpipeError, OutputError
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.output import run
from frpipe.io.output.parts import PartFile, to_parquet
from frpipe.io.output.run import ListedFiles
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dedup import report as dedup_report
from frpipe.jobs.dedup.blocks import Counts
from frpipe.jobs.dedup.clusters import LINK_COLUMNS, Subjects, clusters_of, links_of
from frpipe.jobs.dedup.schema import SAME_PERSON, SAME_PHOTO
from frpipe.jobs.dedup.since import CLUSTERS
from frpipe.jobs.dedup.worker import PAIRS
from frpipe.jobs.erase.columns import people_of, rows_of, without
from frpipe.jobs.erase.parts import as_written
from frpipe.jobs.identify import report as identify_report
from frpipe.jobs.identify.candidates import without_candidates
from frpipe.jobs.identify.worker import PROBES

_OWN_MARK = json.dumps({"erasures": []}).encode()
_FACTS = ["subject_id", "quality", "enrolled_at"]


def erase_result(out: Folder, ids: ErasedIds, check: Callable[[], None] = lambda: None) -> bool:
    """Erase people from a finished result; returns whether it named any.

    Killed anywhere, it is completed by another call.

    check: called before writes. Raises OutputError where the result is not finished or a file is damaged.
    """
    facts = run.begun(out)
    if not facts:
        return False
    under_way = out.exists(run.ERASING)
    if not under_way and run.complete(out) is None:
        raise OutputError(
            f"{out.uri} is not finished, or lacks files: people cannot be taken out of it",
            "run the command that made it again, or delete the folder; then this command",
        )
    job = facts["identity"].get("job")
    struck = {"identify": _Identified, "dedup": _Duplicates}.get(str(job))
    if struck is None:
        raise OutputError(f"{out.uri} is of an unknown job", "delete the folder, or use a newer frpipe")
    result = struck(out, ids)
    if not under_way and not result.names_any():
        return False
    check()
    out.create(run.ERASING, _OWN_MARK)
    run.reopen(out)
    result.strike(check)
    out.delete(run.ERASING)
    return True


class _Result:
    """A finished result: a folder of units, its list of files and its report."""

    sub = ""

    def __init__(self, out: Folder, ids: ErasedIds) -> None:
        self.out, self.ids = out, ids
        self.names = sorted(e.name for e in out.list(self.sub) if e.name.endswith(".parquet"))

    def names_any(self) -> bool:
        """Whether a row names one of these people. Raises OutputError where a file is not as it is listed."""
        files = ListedFiles.of(self.out, "delete that result, or restore it; then this command again")
        for name in files.sha256:
            files.read(name)
        return any(self.struck(table)[1] for table in map(self.read, self.names))

    def struck(self, table: pa.Table) -> tuple[pa.Table, int]:
        """Remove the people from a table; returns it, and the number of rows that changed."""
        raise NotImplementedError

    def rewritten(self, check: Callable[[], None]) -> Iterator[pa.Table]:
        """Iterate over all units without the people, and rewrite them on disk."""
        for name in self.names:
            table, changed = self.struck(self.read(name))
            if changed:
                check()
                self.out.write(name, to_parquet(table, {}))
            yield table

    def strike(self, check: Callable[[], None]) -> None:
        """Rewrite the units, then the list of files and the report."""
        raise NotImplementedError

    def read(self, name: str) -> pa.Table:
        """Read a file with its metadata. Raises OutputError where it cannot be read; deletes nothing."""
        try:
            return as_written(self.out.read(name))
        except FrpipeError:
            raise
        except (pa.ArrowInvalid, OSError, UnicodeError):
            raise OutputError(
                f"{name} of {self.out.uri} cannot be read", "delete that result, then this command again"
            ) from None

    def listed(self, names: list[str]) -> list[PartFile]:
        """Make the entries of some files for the list of a run."""
        files = []
        for name in names:
            data = self.out.read(name)
            rows = as_written(data).num_rows
            files.append(PartFile(name, rows, len(data), hashlib.sha256(data).hexdigest()))
        return files

    def report(self) -> dict[str, Any]:
        """Read the report as it is stored; `erased` counts what was erased before."""
        try:
            stored: dict[str, Any] = json.loads(self.out.read(run.REPORT))
        except (FileNotFoundError, ValueError):
            raise OutputError(
                f"{run.REPORT} of {self.out.uri} cannot be read", "delete that result"
            ) from None
        return stored


class _Identified(_Result):
    sub = PROBES

    def struck(self, table: pa.Table) -> tuple[pa.Table, int]:
        kept = without(self.ids, table)
        kept, changed = without_candidates(kept, lambda who: people_of(self.ids, who))
        return kept, table.num_rows - kept.num_rows + changed

    def strike(self, check: Callable[[], None]) -> None:
        tally = identify_report.ProbeCounts()
        for table in self.rewritten(check):
            tally.add(table)
        report = self.report() | {
            "rows": tally.rows,
            "probes": tally.statuses["ok"],
            "photos_without_probe": tally.rows - tally.statuses["ok"],
            "identified": tally.decisions["identified"],
            "strangers": tally.decisions["stranger"],
            "no_decision": tally.decisions["none"],
        }
        run.seal(self.out, self.listed(self.names), report, identify_report.report_text(report))


class _Duplicates(_Result):
    sub = PAIRS

    def names_any(self) -> bool:
        return super().names_any() or bool(rows_of(self.ids, self.read(CLUSTERS)).any())

    def struck(self, table: pa.Table) -> tuple[pa.Table, int]:
        kept = without(self.ids, table)
        changed = table.num_rows - kept.num_rows
        if changed:
            kinds, counts = Counter(kept["kind"].to_pylist()), Counts.of(table)
            counts.same_photo, counts.same_person = kinds[SAME_PHOTO], kinds[SAME_PERSON]
            metadata = {k.encode(): v.encode() for k, v in counts.metadata().items()}
            kept = kept.replace_schema_metadata({**(kept.schema.metadata or {}), **metadata})
        return kept, changed

    def strike(self, check: Callable[[], None]) -> None:
        """Recompute the clusters from the pairs that are left; they keep their ids."""
        report = self.report()
        counts, pairs, subjects = Counts(), [], Subjects()
        for table in self.rewritten(check):
            counts.merge(Counts.of(table))
            pairs.append(table.select(LINK_COLUMNS))
            for side in LINK_COLUMNS[:2]:
                subjects.add(table[side])
        old = self.read(CLUSTERS)
        rest = without(self.ids, old)
        before: dict[str, list[str]] = {}
        for cluster, who in zip(rest["cluster_id"].to_pylist(), rest["subject_id"].to_pylist(), strict=True):
            before.setdefault(cluster, []).append(who)
        threshold = report["threshold"]["similarity"]
        linked = subjects.sorted()
        links = links_of(pairs, linked)
        clusters = clusters_of(linked, links, [rest.select(_FACTS)], threshold, before)
        check()
        metadata = {k.decode(): v.decode() for k, v in (old.schema.metadata or {}).items()}
        self.out.write(CLUSTERS, to_parquet(clusters.replace_schema_metadata(None), metadata))
        report |= {
            "pairs": counts.pairs,
            "same_photo": counts.same_photo,
            "same_person": counts.same_person,
            **dedup_report.cluster_counts(clusters),
        }
        files = self.listed([*self.names, CLUSTERS])
        run.seal(self.out, files, report, dedup_report.report_text(report) + "\n")
