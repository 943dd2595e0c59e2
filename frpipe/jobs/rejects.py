"""List rejected photos of an enroll run: which were rejected, at which stage and why."""

from __future__ import annotations

import difflib
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.config import RunConfig
from frpipe.core.errors import ConfigError, ManifestError, RejectRatioError
from frpipe.core.held import NO_COLOUR
from frpipe.core.left_out import reasons_of, subjects_lost
from frpipe.core.reasons import STAGE_OF, Reason, Status
from frpipe.core.report import Report
from frpipe.core.subject import LEFT_OUT_BY
from frpipe.io.manifest.columns import LOCATION, URI
from frpipe.io.manifest.list_files import SUFFIXES
from frpipe.io.manifest.manifest_writer import write_manifest
from frpipe.io.output import run
from frpipe.io.output.features import Features, no_output
from frpipe.io.output.held import is_held
from frpipe.io.output.plan import load_plan, read_part
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.in_order import in_order

NO_FACE = Status.NO_FACE.value
_EVERY_REASON = frozenset(reason.value for reason in Reason)
# Photos that are suppressed are not done again unless that is asked for by name.
_WORTH_IT = _EVERY_REASON - {Reason.SUPPRESSED.value}


_HELD = ("image_id", "held_reason")
_COLUMNS = ("image_id", "image_uri", "status", "reason", "detail", "faces", *LEFT_OUT_BY.values())
STAGE_OF_CAUSE = {**{reason.value: stage for reason, stage in STAGE_OF.items()}, NO_FACE: "detect"}


_TOP = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice of photos. causes: reasons for a rejection, and `no_face`."""

    causes: frozenset[str]

    @classmethod
    def of(cls, reasons: Sequence[str] = (), no_face: bool = False, staged: Collection[str] = ()) -> Choice:
        """Choose by reasons: names, `no_face` among them; without any, every reason.

        staged: the reasons of the run's further stages (`stage_reasons`).

        Raises ConfigError for a name that is no reason, with the nearest that is one.
        """
        every = _EVERY_REASON | set(staged)
        for name in reasons:
            if name not in every | {NO_FACE}:
                near = difflib.get_close_matches(name, sorted(every), n=1, cutoff=0.0)[0]
                raise ConfigError(f"{name!r} is no reason for a rejection", f"did you mean {near}?")
        return cls((frozenset(reasons) or every) | ({NO_FACE} if no_face else set()))

    @classmethod
    def again(
        cls, reasons: Sequence[str] = (), no_face: bool = False, staged: Collection[str] = ()
    ) -> Choice:
        """Choose what is done again, as `of`; without any, every reason but `suppressed`."""
        return cls.of(reasons or sorted(_WORTH_IT | set(staged)), no_face, staged)

    @property
    def is_any(self) -> bool:
        """Whether every reason is meant that is worth doing a photo again for."""
        return self.causes >= _WORTH_IT

    def __str__(self) -> str:
        if self.is_any:
            return "any reason" + (" or no face" if NO_FACE in self.causes else "")
        return ", ".join(sorted(self.causes))

    def mask(self, images: pa.Table) -> pa.ChunkedArray:
        """Mark the images that are meant, (rows,) bool. images: at least `status` and `reason`."""
        return pc.is_in(causes_of(images), value_set=pa.array(sorted(self.causes), pa.string()))

    def in_part(self, run: Features, part: int) -> pa.ChunkedArray:
        """Mark the images of a published part that are meant.

        So are those that have a face held back for such a cause, or have lost for it the face that is meant.
        """
        images = run.images(part, ("image_id", "status", "reason", *LEFT_OUT_BY.values()))
        if not run.holds:
            return self._with_lost(images)
        return self._with_held(images, Features(run.folder, held=True).faces(part, _HELD))

    def among(self, images: pa.Table, faces: pa.Table) -> pa.ChunkedArray:
        """Mark the images of a part's tables. faces: held ones, with their reasons, among them."""
        held = is_held(faces)
        return (
            self._with_held(images, faces.filter(pa.array(held))) if held.any() else self._with_lost(images)
        )

    def _with_lost(self, images: pa.Table) -> pa.ChunkedArray:
        hit, causes = self.mask(images), pa.array(sorted(self.causes), pa.string())
        for reasons in reasons_of(images):
            hit = pc.or_(hit, pc.is_in(reasons, value_set=causes))
        return hit

    def _with_held(self, images: pa.Table, held: pa.Table) -> pa.ChunkedArray:
        hit = pc.is_in(held["held_reason"], value_set=pa.array(sorted(self.causes), pa.string()))
        theirs = held["image_id"].filter(hit).combine_chunks()
        return pc.or_(self._with_lost(images), pc.is_in(images["image_id"], value_set=theirs))


def stage_reasons(out: Folder) -> dict[str, str]:
    """The reasons for which the further stages of a run may leave out a face, each with its stage."""
    recipe = run.begun(out).get("identity", {}).get("recipe", {})
    return {reason: name for name, stage in recipe.get("stages", {}).items() for reason in stage["reasons"]}


def held_reasons(features: Features) -> Counter[str] | None:
    """Count the held faces of an enroll output by reason; None where no stage of it holds any."""
    if not features.holds:
        return None
    back, counts = Features(features.folder, held=True), Counter[str]()
    for faces in in_order(lambda part: back.faces(part, ["held_reason"]), features.parts()):
        counts.update(faces["held_reason"].to_pylist())
    return counts


def held_without_colour(features: Features) -> int | None:
    """Count the faces that `pad` holds back and that have no colour; None where it holds none back."""
    recipe = run.begun(features.folder).get("identity", {}).get("recipe", {})
    if "pad" not in recipe.get("stages", {}) or not features.holds:
        return None
    back = Features(features.folder, held=True)
    flags = (faces["pad_flags"] for faces in in_order(_flags_of(back), features.parts()))
    return sum(pc.sum(pc.match_substring(each, NO_COLOUR)).as_py() or 0 for each in flags)


def _flags_of(held: Features) -> Callable[[int], pa.Table]:
    return lambda part: held.faces(part, ["pad_flags"])


def causes_of(images: pa.Table) -> pa.ChunkedArray:
    """The cause why each row has no face of its own: its reason, `no_face`, or null where it is `ok`."""
    return pc.if_else(pc.equal(images["status"], NO_FACE), NO_FACE, images["reason"])


@dataclass(slots=True)
class Rejects:
    """The chosen rows of a run, counted.

    photos: rows so far, of the `planned`.  counts: chosen rows by cause.  samples: the first of each.
    staged: the reasons of the run's further stages, each with its stage.  held: faces that are held back, by
    reason, also those of photos that have kept others; None where no stage holds any.  subjects_left_out:
    photos that are not rejected and have faces, but have lost that of their person, by reason; None where the
    output does not say so.
    """

    run: str
    planned: int
    photos: int = 0
    rejected: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    finished: bool = False
    staged: dict[str, str] = field(default_factory=dict)
    held: Counter[str] | None = None
    subjects_left_out: Counter[str] | None = None

    def as_dict(self) -> dict[str, Any]:
        reasons = [
            {
                "reason": cause,
                "stage": (STAGE_OF_CAUSE | self.staged)[cause],
                "photos": count,
                "share": count / max(1, self.photos),
                "samples": self.samples.get(cause, []),
            }
            for cause, count in self.counts.most_common()
        ]
        facts = {name: getattr(self, name) for name in ("run", "finished", "planned", "photos", "rejected")}
        beside = {
            name: dict(counts.most_common())
            for name in ("held", "subjects_left_out")
            if (counts := getattr(self, name)) is not None
        }
        return {**facts, "reasons": reasons, **beside}


def rejects_of(uri: str, choice: Choice, limit: int = 3) -> Rejects:
    """Count the chosen rows of an enroll output; the first `limit` of each cause are kept as samples.

    An unfinished run is counted as far as it is published. Raises OutputError where there is no run.
    """
    features = Features.at(uri)
    try:
        planned = load_plan(features.folder).rows
    except FileNotFoundError:
        raise no_output(uri) from None
    out = features.folder
    found = Rejects(uri, planned, finished=run.complete(out) is not None, staged=stage_reasons(out))
    for images in features.all_images(_COLUMNS, features.parts()):
        _add(found, images, choice, limit)
    found.held = held_reasons(features)
    return found


def _add(found: Rejects, images: pa.Table, choice: Choice, limit: int) -> None:
    found.photos += images.num_rows
    found.rejected += pc.sum(pc.equal(images["status"], Status.REJECTED.value)).as_py() or 0
    if (lost := subjects_lost(images)) is not None:
        found.subjects_left_out = (found.subjects_left_out or Counter()) + Counter(
            lost.drop_null().to_pylist()
        )
    chosen = images.filter(choice.mask(images))
    causes = causes_of(chosen).to_pylist()
    found.counts.update(causes)
    for row, cause in enumerate(causes):
        samples = found.samples.setdefault(cause, [])
        if len(samples) < limit:
            samples.append({n: chosen[n][row].as_py() for n in ("image_id", "image_uri", "detail")})


def write_rejects(output: str, choice: Choice, target: str) -> None:
    """Write the chosen rows of an enroll output as a manifest, photos by their absolute locations.

    target: .parquet, .csv or .jsonl, local or remote.
    Raises ManifestError: no such row, photos embedded in the manifest (they have no location), a target of
    no known format, or local photos for a remote target.
    """
    features, (parent, name) = Features.at(output), uris.parent(uris.canonical(target))
    format = SUFFIXES.get(PurePosixPath(name).suffix.lower())
    if format is None:
        raise ManifestError(f"{name} is no manifest's name", "end it in .parquet, .csv or .jsonl")
    if load_plan(features.folder).embedded:
        raise ManifestError(
            "the photos lie inside the run's own manifest, and no other can name them",
            f"do them again with: frpipe run enroll --replay {output} --output NEW",
        )
    tables = _chosen(features, choice, may_be_local=uris.is_local(target))
    first = next(tables, None)
    if first is None:
        raise ManifestError(
            f"no row of the run was rejected for {choice}", "see its reasons without --manifest"
        )
    batches = (batch for table in chain([first], tables) for batch in table.to_batches())
    with tempfile.TemporaryDirectory(prefix="frpipe-rejects-") as scratch:
        finished = Path(scratch) / "manifest"
        write_manifest(finished, format, first.schema, batches)
        Folder.at(parent).publish(name, finished)


def _chosen(features: Features, choice: Choice, may_be_local: bool) -> Iterator[pa.Table]:
    def rows(part: int) -> pa.Table | None:
        mask = choice.mask(features.images(part, ("status", "reason")))
        return read_part(features.folder, part).filter(mask) if pc.any(mask).as_py() else None

    for found in in_order(rows, features.parts()):
        if found is None:
            continue
        if not may_be_local and any(map(uris.is_local, found[LOCATION].to_pylist())):
            raise ManifestError(
                "a remote manifest may not name local photos", "write the manifest to a local file"
            )
        yield found.set_column(found.column_names.index(URI), URI, found[LOCATION]).drop_columns(LOCATION)


def too_many_rejected(report: Report, limits: RunConfig) -> RejectRatioError | None:
    """Make the error, with what was rejected most, where a share is above its limit."""
    broken = "; ".join(_broken(report, limits))
    if not broken:
        return None
    counts = [(reason, count) for reason, count in report.reasons.items() if reason != Reason.SUPPRESSED]
    top = ", ".join(f"{reason} {count:,}" for reason, count in counts[:_TOP])
    return RejectRatioError(
        f"the run is complete and all of it is published, but {broken}. Most: {top}",
        f"see them with: frpipe rejects {report.output}; once mended, do them again with: "
        f"frpipe run enroll --replay {report.output} --output NEW",
    )


def _broken(report: Report, limits: RunConfig) -> Iterator[str]:
    rows, rejected = max(1, report.rows - report.suppressed), report.rejected - report.suppressed
    most = limits.max_reject_ratio
    if most is not None and rejected / rows > most:
        yield _line("rejected", rejected, rows, "max_reject_ratio", most)
    for reason, share in limits.max_reject_ratio_by_reason.items():
        count, of = (
            report.reasons.get(reason, 0),
            max(1, report.rows) if reason == Reason.SUPPRESSED else rows,
        )
        if count / of > share:
            yield _line(reason, count, of, f"max_reject_ratio_by_reason.{reason}", share)


def _line(what: str, count: int, rows: int, setting: str, most: float) -> str:
    return f"{what} are {count:,} of {rows:,} photos ({count / rows:.2%}, run.{setting} is {most:.2%})"
