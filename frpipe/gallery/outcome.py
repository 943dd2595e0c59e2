"""What a change to a gallery did."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts of templates, and the version that holds the result.

    Of an enroll: added + replaced + skipped + unchanged + suppressed = rows given; a row whose key came twice
    in the same call counts as skipped, one that the suppression list names as suppressed. Of a rollback,
    `suppressed` counts templates of the older version that stay out of sight. `deleted` counts older
    templates that are no longer visible, `subjects` the people whom a delete or clear took away, `unknown`
    ids that were not there. `version` is the head where nothing had to be done.
    """

    version: int
    added: int = 0
    replaced: int = 0
    skipped: int = 0
    unchanged: int = 0
    deleted: int = 0
    subjects: int = 0
    unknown: int = 0
    suppressed: int = 0
    shards: int = 0

    def as_dict(self) -> dict[str, int]:
        """All counts, for JSON."""
        return asdict(self)
