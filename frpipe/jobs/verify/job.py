"""Verify pairs: read a list of pairs, look their faces up in an enroll output, compare, decide, publish."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from frpipe.core.errors import InvariantError, OutputError
from frpipe.core.threshold import Threshold
from frpipe.io import threshold_file
from frpipe.io.output import run
from frpipe.io.output.units import Units
from frpipe.io.storage.folder import Folder
from frpipe.jobs.features import FeatureRun, card_name
from frpipe.jobs.output_place import output_place, refuse_relative
from frpipe.jobs.subject_faces import SubjectPolicy
from frpipe.jobs.verify.named_faces import FACE_NAMES, IMAGE_NAMES, NamedFaces, compared
from frpipe.jobs.verify.pair_list import PairList, PairNames
from frpipe.jobs.verify.report import PairCounts, VerificationPlan, Verified
from frpipe.jobs.verify.schema import A, B
from frpipe.matching.threshold import threshold_of
from frpipe.models.registry import Registry

Say = Callable[[str], None]
PAIRS = "pairs"
UNIT_PAIRS = 65_536
MEMORY_MB = 4096
_VERSION = 1
_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class PairVerification:
    """Which pairs of which output, and where to draw the line.

    faces: which face of a photo is compared.  threshold: a similarity; None takes the threshold card, and
    without one the embedder's card.  memory_mb: what the embeddings of all named photos may take.
    """

    pairs: str
    features: str
    output: str
    faces: SubjectPolicy = "centre-largest"
    threshold: float | None = None
    threshold_card: str | None = None
    memory_mb: int = MEMORY_MB
    say: Say = lambda _: None

    def run(self) -> Verified:
        """Do it, or what is left of it.

        Raises OutputError: the enroll run has not ended, or the output is another run's; ManifestError: the
        list of pairs; ConfigError: no threshold, or too many photos for the memory; GalleryMismatch: a
        threshold card of another embedder.
        """
        work = self._prepared()
        stored = run.complete(work.out)
        if stored is not None:
            self.say("this run is complete already: nothing to do")
            return Verified.stored(stored)
        names = PairNames.read(work.pairs, work.source.spec.dim, self.memory_mb)
        run.claim(work.out, work.identity, self._facts(work))
        run.reopen(work.out)
        work.out.sweep()
        return self._seal(work, names, self._compare(work, names))

    def dry_run(self) -> VerificationPlan:
        """What would be done: the list is read to its end, and nothing is written."""
        work = self._prepared()
        names = PairNames.read(work.pairs, work.source.spec.dim, self.memory_mb)
        return VerificationPlan(
            pairs=names.pairs,
            files=-(-names.pairs // UNIT_PAIRS),
            columns=work.pairs.schema.names,
            photos=len(names.number),
            photos_mb=round(names.mb, 3),
            threshold=work.limit.as_dict(),
            faces=self.faces,
            features=self.features,
            feature_run=work.source.run_id,
            output=self.output,
        )

    def _prepared(self) -> _Work:
        refuse_relative("--features", self.features)
        out = output_place(self.output)
        source, pairs = FeatureRun.open(self.features), PairList.open(self.pairs)
        limit = self._limit(source)
        work = _Work(out, source, pairs, limit, self._identity(source, pairs, limit))
        run.check_claim(out, work.identity)
        return work

    def _limit(self, source: FeatureRun) -> Threshold:
        spec, name = source.spec, card_name(source.spec.embedder_hash)
        return threshold_of(
            spec.embedder_hash,
            given=self.threshold,
            card=threshold_file.load(self.threshold_card) if self.threshold_card else None,
            embedder_card=Registry.default().card(name) if name else None,
            preprocessing_hash=spec.preprocessing_hash,
        )

    def _identity(self, source: FeatureRun, pairs: PairList, limit: Threshold) -> dict[str, Any]:
        return {
            "job": "verify",
            "version": _VERSION,
            "pairs": pairs.digest,
            "features": run.digest(source.folder),
            "threshold_similarity": limit.similarity,
            "faces": self.faces,
        }

    def _facts(self, work: _Work) -> dict[str, Any]:
        return {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "pairs": self.pairs,
            "features": self.features,
            "threshold": work.limit.as_dict(),
        }

    def _compare(self, work: _Work, names: PairNames) -> PairCounts:
        units, tally, faces = Units(work.out, PAIRS), PairCounts(), None
        done, said, count = units.done(), time.monotonic(), 0
        for unit, block in enumerate(work.pairs.blocks(UNIT_PAIRS)):
            table = units.read_own(unit) if unit in done else None
            if table is None:
                faces = faces or self._load(work, names)
                table = compared(block, names.numbers(block[A]), names.numbers(block[B]), faces, work.limit)
                units.publish(unit, table, work.metadata)
            if table.num_rows != block.num_rows:
                raise _unbalanced(f"file {unit}")
            tally.add(table)
            count += table.num_rows
            if time.monotonic() - said >= _EVERY_S or count == names.pairs:
                said = time.monotonic()
                self.say(f"{count:,} of {names.pairs:,} pairs done")
        return tally

    def _load(self, work: _Work, names: PairNames) -> NamedFaces:
        source, count, said = work.source, 0, time.monotonic()
        faces = NamedFaces(names.number, source.spec.dim, self.faces)
        for images, found in source.features.tables(IMAGE_NAMES, FACE_NAMES):
            faces.add(images, found)
            count += found.num_rows
            if time.monotonic() - said >= _EVERY_S or count == source.faces:
                said = time.monotonic()
                self.say(f"{count:,} of {source.faces:,} faces read")
        if count != source.faces:
            raise OutputError(
                f"the enroll output holds {count:,} faces, its report says {source.faces:,}",
                f"see what is wrong with it: frpipe check {source.folder.uri}",
            )
        return faces

    def _seal(self, work: _Work, names: PairNames, tally: PairCounts) -> Verified:
        files = Units(work.out, PAIRS).files()
        if not names.pairs == tally.status.total() == sum(file.rows for file in files):
            raise _unbalanced("the run")
        report = Verified.of(
            tally,
            work.limit,
            faces=self.faces,
            photos=len(names.number),
            features=self.features,
            feature_run=work.source.run_id,
            embedder_hash=work.source.spec.embedder_hash,
            preprocessing_hash=work.source.spec.preprocessing_hash,
            output=self.output,
        )
        run.seal(work.out, files, report.as_dict(), report.text() + "\n")
        return report


@dataclass(frozen=True, slots=True)
class _Work:
    out: Folder
    source: FeatureRun
    pairs: PairList
    limit: Threshold
    identity: dict[str, Any]

    @property
    def metadata(self) -> dict[str, str]:
        """What stands in every file of the result."""
        spec = self.source.spec
        hashes = {
            name: getattr(spec, name) for name in ("embedder_hash", "preprocessing_hash", "detector_hash")
        }
        facts = {
            **hashes,
            "feature_run": self.source.run_id,
            "threshold_similarity": repr(self.limit.similarity),
        }
        return {f"frpipe.{name}": value for name, value in facts.items()}


def _unbalanced(what: str) -> InvariantError:
    return InvariantError(f"{what}: pairs in are not pairs out", "keep the output and report this")
