"""The result of a dry run, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class DryRun:
    """The result of a dry run.

    lines: for people, one a fact.  facts: the same for programs; JSON can hold them.
    """

    lines: Sequence[str]
    facts: Mapping[str, Any]

    def text(self) -> str:
        """The lines, and that nothing was written."""
        return "\n".join((*self.lines, "dry run: nothing was written"))

    def as_dict(self) -> dict[str, Any]:
        """The facts, marked as of a dry run."""
        return {"dry_run": True, **self.facts}
