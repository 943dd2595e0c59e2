"""The report of a run, in numbers: counted from its published images, never from what workers said."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.counted import counted
from frpipe.core.errors import OutputError
from frpipe.core.held import FACES_HELD
from frpipe.core.left_out import subjects_lost
from frpipe.core.reasons import Reason, Status
from frpipe.core.schema import stage_of, staged_fields, version_of

STAGES = {
    "fetch": "fetch_ms",
    "decode": "decode_ms",
    "detect": "detect_ms",
    "align": "align_ms",
    "embed": "embed_ms",
}


@dataclass(slots=True)
class PhotoCounts:
    """Sums over published images. faces_held, subjects_left_out: None where images have no such column."""

    rows: int = 0
    faces: int = 0
    faces_held: int | None = None
    subjects_left_out: int | None = None
    faces_refused: int = 0
    photos_turned: int = 0
    least_face_px: float | None = None
    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    stage_rows: Counter[str] = field(default_factory=Counter)
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def add(self, images: pa.Table) -> None:
        """Count the images of one part."""
        self.rows += images.num_rows
        self.faces += pc.sum(images["faces"]).as_py() or 0
        if FACES_HELD.name in images.column_names and stage_of(images.schema.field(FACES_HELD.name)):
            self.faces_held = (self.faces_held or 0) + (pc.sum(images[FACES_HELD.name]).as_py() or 0)
        if (lost := subjects_lost(images)) is not None:
            self.subjects_left_out = (self.subjects_left_out or 0) + pc.count(lost).as_py()
        if version_of(images.schema) > 1:
            self.faces_refused += pc.sum(images["faces_refused"]).as_py() or 0
            self.photos_turned += pc.sum(pc.not_equal(images["turn_deg"], 0)).as_py() or 0
            least = pc.max(images["least_face_px"]).as_py()
            self.least_face_px = max(filter(None, (self.least_face_px, least)), default=None)
        self.statuses.update(_counts(images["status"]))
        self.reasons.update(_counts(images["reason"]))
        for stage, column in (STAGES | _staged(images.schema)).items():
            self.stage_rows[stage] += pc.count(images[column]).as_py()
            self.stage_seconds.setdefault(stage, 0.0)
            self.stage_seconds[stage] += (pc.sum(images[column]).as_py() or 0) / 1000

    def merge(self, other: Self) -> None:
        """Add the counts of the parts that follow."""
        self.rows += other.rows
        self.faces += other.faces
        self.faces_refused += other.faces_refused
        self.photos_turned += other.photos_turned
        if other.faces_held is not None:
            self.faces_held = (self.faces_held or 0) + other.faces_held
        if other.subjects_left_out is not None:
            self.subjects_left_out = (self.subjects_left_out or 0) + other.subjects_left_out
        least = filter(None, (self.least_face_px, other.least_face_px))
        self.least_face_px = max(least, default=None)
        for mine, theirs in (
            (self.statuses, other.statuses),
            (self.reasons, other.reasons),
            (self.stage_rows, other.stage_rows),
        ):
            mine.update(theirs)
        for stage, seconds in other.stage_seconds.items():
            self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + seconds


@dataclass(frozen=True, slots=True)
class Report:
    """The report of a finished run.

    wall_s and rows_per_s are of the last launch alone, which did `launch_rows` of the `rows`.
    stages: name -> rows, busy seconds over all workers, rows per busy second.
    faces_refused: implausible, or on no photograph.  faces_held: held back, and in none of the `faces`; None
    where no stage of the run may hold any.  held_without_colour: of them, those held by `pad` that have no
    colour, where its networks need it; None where it holds none.  subjects_left_out: photos that have faces,
    but not the one that is meant, since it was left out; None where their columns do not say so.
    photos_turned: that lay otherwise than their EXIF says.  least_face_px: the width from which faces were
    looked for in every photo; None where it is not known.
    rows: of the manifest, less those that were `erased` since; rows = ok + no_face + rejected.
    """

    rows: int
    ok: int
    no_face: int
    rejected: int
    faces: int
    reasons: dict[str, int]
    stages: dict[str, dict[str, float]]
    pools: list[str]
    models: dict[str, str]
    parts: int
    launch_rows: int
    wall_s: float
    rows_per_s: float
    output: str
    erased: int = field(default=0, kw_only=True)
    faces_refused: int = field(default=0, kw_only=True)
    photos_turned: int = field(default=0, kw_only=True)
    least_face_px: float | None = field(default=None, kw_only=True)
    faces_held: int | None = field(default=None, kw_only=True)
    held_without_colour: int | None = field(default=None, kw_only=True)
    subjects_left_out: int | None = field(default=None, kw_only=True)

    @property
    def suppressed(self) -> int:
        """The number of rejected photos that a suppression list names: nothing is wrong with them."""
        return self.reasons.get(Reason.SUPPRESSED.value, 0)

    @classmethod
    def of(cls, tally: PhotoCounts, **facts: Any) -> Report:
        return cls(**_counted(tally), **facts)

    @classmethod
    def stored(cls, data: dict[str, Any]) -> Self:
        """Read a report from what `as_dict` made. Raises OutputError where this version has other fields."""
        try:
            return cls(**data)
        except TypeError:
            raise OutputError(
                "the output's report was written by another version of frpipe", "read its report.md"
            ) from None

    def recounted(self, tally: PhotoCounts, erased: int, held_without_colour: int | None = None) -> Self:
        """The report of the same run after people were erased from it."""
        return replace(self, **_counted(tally), erased=erased, held_without_colour=held_without_colour)

    def as_dict(self) -> dict[str, Any]:
        facts = asdict(self)
        for name in ("faces_held", "held_without_colour", "subjects_left_out"):
            if facts[name] is None:
                del facts[name]
        return facts

    def text(self) -> str:
        """The report in Markdown, for people."""
        percent = 100 / max(1, self.rows)
        lines = [
            "# Enroll report",
            "",
            f"{counted(self.rows, 'photos')}, {counted(self.faces, 'faces')}, "
            f"{counted(self.parts, 'parts')}. "
            f"{counted(self.launch_rows, 'photos')} in this launch: {self.wall_s:.1f} s, "
            f"{self.rows_per_s:.1f}/s.",
            *(
                [f"{counted(self.erased, 'photos more were')} erased since (erased.json)."]
                if self.erased
                else ()
            ),
            "",
            "| status | photos | share |",
            "|---|---|---|",
            *(
                f"| {status.value} | {count:,} | {count * percent:.2f} % |"
                for status, count in zip(Status, (self.ok, self.no_face, self.rejected), strict=True)
            ),
            "",
            *self._look_lines(),
            *self._held_lines(),
            *self._left_out_lines(),
            *self._reason_lines(),
            "| stage | photos | busy s | photos per busy s |",
            "|---|---|---|---|",
            *(
                f"| {name} | {stage['rows']:,} | {stage['busy_s']:,.1f} | {stage['rows_per_busy_s']:,.0f} |"
                for name, stage in self.stages.items()
            ),
            "",
            *(f"- {pool}" for pool in self.pools),
            *(f"- {role}: {name}" for role, name in self.models.items()),
            "",
        ]
        return "\n".join(lines)

    def _look_lines(self) -> list[str]:
        if self.least_face_px is None:
            return []
        return [
            f"{counted(self.photos_turned, 'photos')} lay turned. "
            f"{counted(self.faces_refused, 'faces were')} refused: "
            "implausible, or on no photograph.",
            f"In every photo faces were looked for from {self.least_face_px:.0f} pixels of width on.",
            "",
        ]

    def _held_lines(self) -> list[str]:
        if self.faces_held is None:
            return []
        lines = [f"{counted(self.faces_held, 'faces are')} held back (held/)."]
        if self.held_without_colour:
            lines.append(
                f"{counted(self.held_without_colour, 'of them have')} no colour, which the networks of the "
                "stage pad take for an attack. Judge them by one that does not, in a new run with "
                "--set pad.model=minifas_se_128 --set pad.second_model=null; or let them in: "
                f"frpipe run enroll --replay {self.output} --replay-reasons presentation_attack "
                "--set pad.policy=flag (docs/pad.md)."
            )
        return [*lines, ""]

    def _left_out_lines(self) -> list[str]:
        if not self.subjects_left_out:
            return []
        return [
            f"{counted(self.subjects_left_out, 'photos have')} faces, but not that of their person: it was "
            "left out, and none of the others stands for it (`centre_largest_left_out` in images/).",
            "",
        ]

    def _reason_lines(self) -> list[str]:
        if not self.reasons:
            return []
        rows = [f"| {reason} | {count:,} |" for reason, count in self.reasons.items()]
        return ["| rejected because | photos |", "|---|---|", *rows, ""]


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    """How often each text occurs, in the order of their first; empty ones are none."""
    found = pc.value_counts(column).to_pylist()
    return {each["values"]: each["counts"] for each in found if each["values"]}


def _staged(images: pa.Schema) -> dict[str, str]:
    """The further stages of a table of images, each with the column of its time."""
    columns = [field.name for field in staged_fields(images) if field.name.endswith("_ms")]
    return {name.removesuffix("_ms"): name for name in columns}


def _counted(tally: PhotoCounts) -> dict[str, Any]:
    """The numbers of a report that are counted from published images."""
    stages = {
        name: {
            "rows": tally.stage_rows[name],
            "busy_s": round(tally.stage_seconds[name], 3),
            "rows_per_busy_s": round(tally.stage_rows[name] / max(tally.stage_seconds[name], 1e-9), 1),
        }
        for name in tally.stage_seconds
    }
    counts = {status.value: tally.statuses[status.value] for status in Status}
    reasons = dict(tally.reasons.most_common())
    looks = {
        "faces_refused": tally.faces_refused,
        "photos_turned": tally.photos_turned,
        "least_face_px": None if tally.least_face_px is None else round(tally.least_face_px, 1),
    }
    faces = {
        "faces": tally.faces,
        "faces_held": tally.faces_held,
        "subjects_left_out": tally.subjects_left_out,
    }
    return {"rows": tally.rows, **counts, **faces, "reasons": reasons, "stages": stages, **looks}
