"""The report of a run that was made from another by doing its rejected rows again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from frpipe.core.counted import counted
from frpipe.core.reasons import Status
from frpipe.core.report import PhotoCounts, Report


@dataclass(frozen=True, slots=True)
class ReplayRecord:
    """The record of one replay. tried = ok + no_face + rejected.

    source: the run that it began from.  when: it began.  choice: what was done again.  settings: what of the
    recipe changed for it.  reasons: of those that are rejected still.  carried: what of another recipe was
    taken over as it was, since this one would have found the same: photos, faces and the hashes of both.
    """

    source: str
    when: str
    choice: str
    settings: dict[str, Any]
    tried: int
    ok: int
    no_face: int
    rejected: int
    reasons: dict[str, int]
    carried: dict[str, Any] | None = None

    @classmethod
    def of(cls, tally: PhotoCounts, **facts: Any) -> ReplayRecord:
        """Make a record from the tally of the replayed rows alone."""
        counts: dict[str, Any] = {status.value: tally.statuses[status.value] for status in Status}
        return cls(tried=tally.rows, reasons=dict(tally.reasons.most_common()), **counts, **facts)


@dataclass(frozen=True, slots=True)
class ReplayReport(Report):
    """The report of the new output as a whole. replays: records, oldest first."""

    replays: list[dict[str, Any]]

    def text(self) -> str:
        """Write the report of the whole, then a line for each replay."""
        rows = (
            f"| {r['when'][:16]} | {r['choice']} | {r['tried']:,} | {r['ok']:,} | {r['no_face']:,} "
            f"| {r['rejected']:,} |"
            for r in self.replays
        )
        head = ("| replayed | why | tried | ok | no_face | rejected |", "|---|---|---|---|---|---|")
        return "\n".join((Report.text(self), *head, *rows, "", *self._carried()))

    def _carried(self) -> Iterator[str]:
        for record in self.replays:
            if carried := record.get("carried"):
                yield (
                    f"{counted(carried['photos'], 'photos')} with "
                    f"{counted(carried['faces'], 'faces')} carried over from the "
                    f"recipe {carried['recipe_hash'][:12]}, which looked once: these faces would have "
                    "come out the same (docs/adr/0019).\n"
                )
