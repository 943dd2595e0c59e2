"""Examine a gallery for what earlier changes left in it, with the runs that it was made from; mend it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frpipe.core.distinct import merged
from frpipe.gallery.catalog import entry_of
from frpipe.gallery.commit import Proposal, gone_digests, hide_rows, transact
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.snapshot import Snapshot
from frpipe.jobs.doctor.checks import CHECKS, Check, Finding
from frpipe.jobs.doctor.runs import RunOfGallery, runs_of


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The diagnosis of a gallery.

    version: that was examined, or that mending has made.  mended: templates that were taken out.
    """

    version: int
    templates: int
    runs: int
    findings: tuple[Finding, ...]
    mended: int = 0

    @property
    def to_mend(self) -> int:
        """The number of templates that --mend would remove."""
        return sum(each.count for each in self.findings if each.mend)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form of the diagnosis."""
        facts = {name: getattr(self, name) for name in ("version", "templates", "runs", "mended")}
        return {**facts, "findings": [each.as_dict() for each in self.findings]}


def examine(
    gallery: Gallery, uris: Sequence[str], most: int = 20, checks: Sequence[Check] = CHECKS
) -> Diagnosis:
    """Examine the newest version; nothing is written. uris: outputs of enroll runs.  most: listed of a kind.

    Raises OutputError for a run that has not ended, GalleryMismatch for one of another recipe.
    """
    runs = runs_of(gallery, uris)
    return _diagnosis(gallery.snapshot(), runs, most, checks)


def mend(
    gallery: Gallery, uris: Sequence[str], most: int = 20, checks: Sequence[Check] = CHECKS
) -> Diagnosis:
    """Remove superseded templates in one version with a receipt; return what was found, and how many went.

    Killed at any moment it has done all or nothing. The vectors stay in the files until `compact`.
    """
    runs = runs_of(gallery, uris)
    found: list[Diagnosis] = []
    written: set[str] = set()

    def change(snapshot: Snapshot) -> Proposal | None:
        found[:] = [_diagnosis(snapshot, runs, most, checks)]
        gone = _to_go(found[0])
        if not gone:
            return None
        shards = hide_rows(snapshot, gallery.shard_store, gone, written)
        rows = sum(map(len, gone.values()))
        digests = gone_digests(gallery.gallery_id, snapshot, shards)
        names = ", ".join(each.name for each in found[0].findings if each.mend and each.count)
        entry = entry_of("doctor", names, {"superseded": rows, "deleted": rows}, digests=digests)
        return Proposal(shards, entry)

    version = transact(gallery, change, written)
    seen = found[0]
    gone = sum(map(len, _to_go(seen).values()))
    return Diagnosis(version.number, seen.templates, seen.runs, seen.findings, gone)


def _diagnosis(
    snapshot: Snapshot, runs: Sequence[RunOfGallery], most: int, checks: Sequence[Check]
) -> Diagnosis:
    findings = tuple(check(snapshot, runs, most) for check in checks)
    return Diagnosis(snapshot.number, snapshot.rows, len(runs), findings)


def _to_go(diagnosis: Diagnosis) -> dict[str, NDArray[np.int64]]:
    gone: dict[str, NDArray[np.int64]] = {}
    for each in diagnosis.findings:
        for name, rows in each.rows.items() if each.mend else ():
            gone[name] = merged(gone[name], rows) if name in gone else rows
    return gone
