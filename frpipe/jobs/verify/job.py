"""Verify pairs: read a list of pairs, look their faces up in an enroll output, compare, decide, publish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from frpipe.core.calibration import CalibrationMap
from frpipe.core.counted import counted
from frpipe.core.errors import InvariantError, OutputError
from frpipe.core.sizing import reading_bytes
from frpipe.core.threshold import Threshold, ThresholdCard
from frpipe.io import calibration_file, threshold_file
from frpipe.io.output import run
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.contract import Launch, Plan, Startable
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.estimate import Estimate, bytes_below
from frpipe.jobs.features import FeatureRun, card_name
from frpipe.jobs.output_place import output_place, refuse_relative
from frpipe.jobs.progress import Progress
from frpipe.jobs.ratios import calibration_fact, calibration_for, refuse_own, with_ratios
from frpipe.jobs.reading_back import UnitsRead, read_units
from frpipe.jobs.subject_faces import SubjectPolicy
from frpipe.jobs.verify.named_faces import FACE_NAMES, IMAGE_NAMES, NamedFaces, compared
from frpipe.jobs.verify.pair_list import PairList, PairNames
from frpipe.jobs.verify.report import PairCounts, Verified, dry_run_of
from frpipe.jobs.verify.schema import A, B
from frpipe.matching.threshold import threshold_of
from frpipe.models.registry import Registry
from frpipe.runtime.executor import Executor
from frpipe.runtime.runtime import Runtime

Say = Callable[[str], None]
PAIRS = "pairs"
UNIT_PAIRS = 65_536
MEMORY_MB = 4096
_VERSION = 1
# Memory of the job before it holds any data.
_PROCESS_MB = 155.0


@dataclass(frozen=True, slots=True)
class PairVerification(Startable[Verified]):
    """A comparison of pairs: which, of which output, and at which threshold.

    faces: which face of a photo is compared.  threshold: a similarity; None takes the threshold card, and
    without one the embedder's card.  memory_mb: what the embeddings of all named photos may take.
    embedder: of the output; None: its first.  calibration: a calibration card, whose ratios stand beside the
    similarities; None takes that of the threshold card, where it has one.

    `run` raises OutputError: the enroll run has not ended, or the output is another run's; ManifestError: the
    list of pairs; ConfigError: no threshold, or too many photos for the memory; GalleryMismatch: a card of
    another embedder.
    """

    pairs: str
    features: str
    output: str
    faces: SubjectPolicy = "centre-largest"
    threshold: float | None = None
    threshold_card: str | None = None
    memory_mb: int = MEMORY_MB
    say: Say = lambda _: None
    embedder: str | None = None
    calibration: str | None = None

    @property
    def runtime(self) -> Runtime:
        """The runtime, this process: to look vectors up takes longer than to compare them."""
        return Runtime(choice="local")

    def place(self) -> Folder:
        """The output folder. Refuses what makes no sense."""
        refuse_relative("--features", self.features)
        return output_place(self.output)

    def plan(self, out: Folder, *, dry: bool = False) -> VerifyPlan:
        """Plan the comparison; the list of pairs is opened, and not read."""
        source, pairs = FeatureRun.open(self.features, self.embedder), PairList.open(self.pairs)
        card = threshold_file.load(self.threshold_card) if self.threshold_card else None
        limit = self._limit(source, card)
        known = calibration_file.load(self.calibration) if self.calibration else None
        ratios = calibration_for(source.spec, known, card)
        refuse_own(pairs.schema.names, ratios)
        content = {**self._identity(source, pairs, limit), **calibration_fact(ratios)}
        return VerifyPlan(self, source, pairs, limit, content, ratios)

    def _limit(self, source: FeatureRun, card: ThresholdCard | None) -> Threshold:
        spec, name = source.spec, card_name(source.spec.embedder_hash)
        return threshold_of(
            spec.embedder_hash,
            given=self.threshold,
            card=card,
            embedder_card=Registry.default().card(name) if name else None,
            preprocessing=spec.preprocessing_hashes,
        )

    def _identity(self, source: FeatureRun, pairs: PairList, limit: Threshold) -> dict[str, Any]:
        return {
            "job": "verify",
            "version": _VERSION,
            "pairs": pairs.digest,
            "features": source.digest,
            "threshold_similarity": limit.similarity,
            "faces": self.faces,
        }


@dataclass
class VerifyPlan(Plan[UnitsRead[PairCounts]]):
    """The pairs, and the output that they are looked up in. content: what decides the content."""

    job: PairVerification
    source: FeatureRun
    pairs: PairList
    limit: Threshold
    content: dict[str, Any]
    ratios: CalibrationMap | None = None

    @property
    def identity(self) -> dict[str, Any]:
        return self.content

    @property
    def small(self) -> bool:
        return True

    @cached_property
    def names(self) -> PairNames:
        """The names in the list. Reads it to its end."""
        return PairNames.read(self.pairs, self.source.spec.dim, self.job.memory_mb, self.job.say)

    @property
    def remarks(self) -> Sequence[str]:
        return (*self.pairs.rows_of.remarks, *self.names.remarks())

    def check(self) -> None:
        """Read the list: it may be no list, or name too many photos."""
        _ = self.names

    def facts(self) -> dict[str, Any]:
        return {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "pairs": self.job.pairs,
            "features": self.job.features,
            "threshold": self.limit.as_dict(),
        }

    def work(self, out: Folder, executor: Executor) -> int:
        units, faces, rows = Units(out, PAIRS), None, 0
        done = units.done()
        with Progress(self.names.pairs, "pairs", self.job.say) as progress:
            for unit, block in enumerate(self.pairs.blocks(UNIT_PAIRS)):
                if unit not in done:
                    faces = faces or self._load()
                    numbers = self.names.numbers(block[A]), self.names.numbers(block[B])
                    found = compared(block, *numbers, faces, self.limit)
                    units.publish(unit, with_ratios(found, self.ratios), self.metadata)
                    rows += block.num_rows
                progress.add(block.num_rows)
        return rows

    def read_back(self, out: Folder, executor: Executor) -> tuple[UnitsRead[PairCounts], int]:
        units = Units(out, PAIRS)
        found, damaged = read_units(units, PairCounts(), PairCounts.of_file, executor, self.job.say)
        for unit, file in found.files.items():
            if file.rows != min(UNIT_PAIRS, self.names.pairs - unit * UNIT_PAIRS):
                raise _unbalanced(f"file {unit}")
        return found, damaged

    def publish(self, out: Folder, found: UnitsRead[PairCounts], launch: Launch) -> Verified:
        if not self.names.pairs == found.counts.status.total() == found.rows:
            raise _unbalanced("the run")
        report = Verified.of(
            found.counts,
            self.limit,
            faces=self.job.faces,
            photos=len(self.names.number),
            features=self.job.features,
            feature_run=self.source.run_id,
            embedder_hash=self.source.spec.embedder_hash,
            preprocessing_hash=self.source.spec.preprocessing_hash,
            output=self.job.output,
        )
        run.seal(out, [*found.files.values()], report.as_dict(), report.text() + "\n")
        return report

    def stored(self, out: Folder, report: dict[str, Any]) -> Verified:
        return Verified.stored(report)

    def describe(self) -> DryRun:
        return dry_run_of(
            pairs=self.names.pairs,
            files=-(-self.names.pairs // UNIT_PAIRS),
            columns=self.pairs.schema.names,
            photos=len(self.names.number),
            photos_mb=round(self.names.mb, 3),
            threshold=self.limit.as_dict(),
            faces=self.job.faces,
            features=self.job.features,
            feature_run=self.source.run_id,
            output=self.job.output,
        )

    def estimate(self) -> Estimate:
        """Estimate the work without its time, which is that of reading."""
        read = bytes_below(self.source.folder, "faces") + bytes_below(self.source.folder, "images")
        parts = [each.faces for each in self.source.features.rows().values()]
        reading = reading_bytes(sum(parts), max(parts, default=0), self.source.spec.dim)
        return Estimate(memory_mb=_PROCESS_MB + reading / 1e6 + self.names.mb, read_bytes=read)

    def _load(self) -> NamedFaces:
        source, count = self.source, 0
        faces = NamedFaces(self.names.number, source.spec.dim, self.job.faces)
        progress = Progress(source.faces, "faces read", self.job.say)
        for images, found in source.features.tables(IMAGE_NAMES, FACE_NAMES):
            faces.add(images, found)
            count += found.num_rows
            progress.add(found.num_rows)
        if count != source.faces:
            raise OutputError(
                f"the enroll output holds {counted(count, 'faces')}, its report says {source.faces:,}",
                f"see what is wrong with it: frpipe check {source.folder.uri}",
            )
        return faces

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of every file of the result."""
        spec = self.source.spec
        hashes = {
            name: getattr(spec, name) for name in ("embedder_hash", "preprocessing_hash", "detector_hash")
        }
        facts = {
            **hashes,
            "feature_run": self.source.run_id,
            "threshold_similarity": repr(self.limit.similarity),
            **calibration_fact(self.ratios),
        }
        return {f"frpipe.{name}": value for name, value in facts.items()}


def _unbalanced(what: str) -> InvariantError:
    return InvariantError(f"{what}: pairs in are not pairs out", "keep the output and report this")
