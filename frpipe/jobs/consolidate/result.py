"""The result of a consolidation, as a value and in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from frpipe.core.counted import counted
from frpipe.gallery.likeness import Doubts
from frpipe.jobs.consolidate.agreeing import Agreement
from frpipe.jobs.consolidate.gated import GatedFaces
from frpipe.jobs.consolidate.room import PassPlan
from frpipe.jobs.likeness import doubts_text
from frpipe.jobs.low_forms import MadeForms


@dataclass(frozen=True, slots=True)
class Consolidated:
    """Counts of a consolidation.

    faces = used + the sum of left_out; templates were offered to the gallery. superseded: older templates
    that are gone, because their photo has become something else.  incomplete: those of them that were derived
    from photos beside, which the run does not hold.  unread: photos that could not be read this time;
    unnamed: with a face, and nobody says whose. Of both the gallery keeps what it has.  disputed: by
    attribute, people whose photos do not agree on it, so that their derived template has none.  version: of
    the gallery afterwards; None of a dry run.  agreement: where faces are not the rule's; None where the rule
    was to choose.  gated: the faces that a gate has kept out, which are `gate` in left_out; None where there
    was no gate.  forms: None where none were asked for, and of a dry run.  plan: of passes; None where a run
    went at once.
    """

    photos: int
    photos_without_face: int
    faces: int
    used: int
    left_out: dict[str, int]
    templates: int
    added: int
    replaced: int
    skipped: int
    unchanged: int
    superseded: int
    incomplete: int
    unread: int
    unnamed: int
    suppressed: int
    version: int | None
    gallery: str
    doubts: Doubts | None = None
    disputed: dict[str, int] = field(default_factory=dict)
    agreement: Agreement | None = None
    gated: GatedFaces | None = None
    forms: MadeForms | None = None
    plan: PassPlan | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        """Lines for people."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        lines = [
            f"photos     {self.photos:,}, {self.photos_without_face:,} of them without a face",
            f"faces      {self.faces:,}: {self.used:,} used, {self.faces - self.used:,} left out"
            + (f" ({reasons})" if reasons else ""),
            f"templates  {self.templates:,}: {self.added:,} added, {self.replaced:,} replaced, "
            f"{self.unchanged:,} unchanged, {self.skipped:,} skipped"
            + (f", {self.suppressed:,} suppressed" if self.suppressed else ""),
        ]
        if self.agreement is not None:
            lines += self.agreement.lines()
        if self.gated is not None:
            lines += self.gated.lines()
        lines += self._stays_and_goes()
        if self.disputed:
            names = ", ".join(f"{name} ({count:,})" for name, count in self.disputed.items())
            lines.append(
                f"disputed   attributes left empty, as the photos of so many people do not agree: {names}"
            )
        if self.forms is not None:
            lines.append(self.forms.line())
        if self.plan is not None:
            lines.append(f"passes     {self.plan.line()}")
        last = "dry run: nothing was written" if self.version is None else f"version {self.version}"
        return "\n".join((*lines, f"gallery    {self.gallery}: {last}"))

    def _stays_and_goes(self) -> Iterator[str]:
        if self.superseded:
            yield f"superseded {self.superseded:,} older templates of photos, which are not so any more"
        if self.incomplete:
            yield (
                f"           {self.incomplete:,} of them were derived from other photos too, which this run "
                "does not hold: enroll all photos of these people together"
            )
        if self.unread:
            yield f"unread     {counted(self.unread, 'photos')} this time; what the gallery has of them stays"
        if self.unnamed:
            yield (
                f"unnamed    {counted(self.unnamed, 'photos')} with a face; what the gallery has "
                "of them stays"
            )
        if self.version is not None:
            yield from doubts_text(self.doubts) if self.doubts or self.added + self.replaced else ()
