"""The workers of the pools, free of Ray: a table of one row in, one out.

Locate   a part's number -> its photos' faces, aligned
Embed    aligned faces   -> unit vectors
Publish  the finished tables of a part -> its two files, and a receipt
Enroll   all three, one after the other
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from frpipe.core.config import ResourcesConfig
from frpipe.core.reasons import Reason, Reject, Status
from frpipe.io.manifest.fetch import Fetcher
from frpipe.io.manifest.roots import folder_of
from frpipe.io.output import run
from frpipe.io.output.embeddings import split
from frpipe.io.output.held import divided
from frpipe.io.output.parts import write_part
from frpipe.io.output.plan import read_part
from frpipe.io.storage.folder import Folder
from frpipe.runtime.host import ALONE, Host
from frpipe.runtime.telemetry import record, record_photos, timed
from frpipe.stages.chain import StageChain
from frpipe.stages.embedders import Embedders
from frpipe.stages.headway import Headway, told
from frpipe.stages.locate import Located, locator_of
from frpipe.stages.part_batch import PartBatch
from frpipe.stages.quarantine.attempts import AttemptLog, Poison
from frpipe.stages.quarantine.sandbox import find_poison
from frpipe.stages.run_spec import RunSpec
from frpipe.stages.tabulate import tabulate
from frpipe.stages.watchdog import Watchdog


def attempt_log_of(spec: RunSpec, pool: str, host: Host) -> AttemptLog:
    """The log of attempts of a pool's workers."""
    limit = spec.config.resources.part_attempts
    return AttemptLog(Folder.at(spec.output), spec.launch, pool, limit, host)


def photos_of(
    fetcher: Fetcher, resources: ResourcesConfig, plan: pa.Table, rows: Sequence[int]
) -> Iterator[tuple[int, bytes | Reject]]:
    """Fetch the encoded photos of some rows of a part's plan ahead; late ones come out of order."""
    chosen = plan.select(["image_uri", "location"]).take(pa.array(rows, pa.int64()))
    locations = chosen["location"].to_pylist()
    folders = [folder_of(*names) for names in zip(chosen["image_uri"].to_pylist(), locations, strict=True)]
    found = fetcher.arrivals(locations, resources.fetch_threads, resources.prefetch_rows, folders)
    return ((rows[number], photo) for number, photo in found)


class Locate:
    """Fetch, decode, detect and align the photos of a part, and run the further stages over their faces.

    What is suppressed by id is not fetched.
    """

    def __init__(self, spec: RunSpec, host: Host = ALONE) -> None:
        self._spec = spec
        self._host = host
        self._out = Folder.at(spec.output)
        self._log = attempt_log_of(spec, "locate", host)
        self._fetcher = Fetcher.of(spec.config)
        self._chain = StageChain.of(spec.config, spec.stage_cards)
        barred = spec.obeyed.content_test()
        self._locator = locator_of(spec.config, spec.detector, spec.judge, barred, self._chain.enlarged)

    @timed("locate")
    def __call__(self, ticket: pa.Table) -> pa.Table:
        part = ticket.column("part")[0].as_py()
        plan = read_part(self._out, part)
        barred = self._spec.obeyed.rows(plan)
        rows = range(plan.num_rows)
        poison = self._poison_of(part, [row for row in rows if row not in barred])
        ended = {row: _rejected(each.reason, each.detail) for row, each in poison.items()}
        ended |= {row: _rejected(Reason.SUPPRESSED, "by id") for row in barred}
        located = self._located(plan, [row for row in rows if row not in ended])
        ended |= dict(told(part, located, self._host.report, len(ended)))
        outcomes = [ended[row] for row in rows]
        attempts = [poison[row].attempts if row in poison else 1 for row in rows]
        policy, version = self._spec.config.detect.policy, self._spec.recipe.schema_version
        return self._staged(tabulate(part, plan, outcomes, attempts, policy, version=version)).pack()

    def _staged(self, part_batch: PartBatch) -> PartBatch:
        if not self._chain:
            return part_batch
        with Watchdog(self._spec.config.resources.stall_timeout_s) as watchdog:
            return self._chain(part_batch, watchdog.feed)

    def _located(self, plan: pa.Table, rows: Sequence[int]) -> Iterator[tuple[int, Located]]:
        """Locate the faces of some rows; rows with their outcomes, in the order in which these came."""
        resources = self._spec.config.resources
        came: list[int] = []

        def noted(photos: Iterator[tuple[int, bytes | Reject]]) -> Iterator[bytes | Reject]:
            for row, photo in photos:
                came.append(row)
                yield photo

        with Watchdog(resources.stall_timeout_s) as watchdog:
            photos = watchdog.over(noted(photos_of(self._fetcher, resources, plan, rows)))
            for number, outcome in enumerate(watchdog.over(self._locator.locate(photos))):
                yield came[number], outcome

    def _poison_of(self, part: int, rows: Sequence[int]) -> dict[int, Poison]:
        attempt = self._log.begin(part)
        poison = self._log.poison(part)
        if attempt.number > 1:
            record("frpipe_retried_parts", 1)
        if attempt.suspect:
            poison = find_poison(self._spec, part, rows, poison, attempt.number)
            self._log.condemn(part, poison)
        return poison


class Embed:
    """Turn the aligned faces of a part into unit vectors, those of each embedder."""

    def __init__(self, spec: RunSpec, host: Host = ALONE) -> None:
        self._host = host
        self._log = attempt_log_of(spec, "embed", host)
        self._embedders = Embedders(spec.config, (spec.embedder, *spec.further), spec.recipe)

    @timed("embed")
    def __call__(self, packed: pa.Table) -> pa.Table:
        part_batch = PartBatch.unpack(packed)
        self._log.begin(part_batch.part)
        images, faces = self._embedders(part_batch, Headway(part_batch, self._host.report))
        return PartBatch(part_batch.part, images, faces, np.zeros((0,), np.uint8)).pack()


class Publish:
    """Write a part's files and say what they hold."""

    def __init__(self, spec: RunSpec, _host: Host = ALONE) -> None:
        self._out = Folder.at(spec.output)
        self._recipe = spec.recipe
        self._metadata = spec.recipe.metadata()
        self._check = partial(run.refuse_other_claim, self._out, spec.claim)

    @timed("publish")
    def __call__(self, packed: pa.Table) -> pa.Table:
        part_batch = PartBatch.unpack(packed)
        written, held = divided(part_batch.faces)
        faces, further = split(written, self._recipe)
        images, part = part_batch.images, part_batch.part
        write_part(self._out, part, images, faces, self._metadata, further, held=held, check=self._check)
        record_photos(part_batch.images)
        record("frpipe_faces", faces.num_rows)
        statuses = part_batch.images["status"].to_pylist()
        counts = {status.value: [statuses.count(status.value)] for status in Status}
        return pa.table({"part": [part_batch.part], **counts, "faces": [faces.num_rows]})


class Enroll:
    """Do a part from its photos to its files: nothing travels, and one process holds both models."""

    def __init__(self, spec: RunSpec, host: Host = ALONE) -> None:
        self._locate, self._embed, self._publish = Locate(spec, host), Embed(spec, host), Publish(spec, host)

    def __call__(self, ticket: pa.Table) -> pa.Table:
        return self._publish(self._embed(self._locate(ticket)))


def _rejected(reason: Reason, detail: str) -> Located:
    located = Located()
    located.reject(Reject(reason, detail))
    return located
