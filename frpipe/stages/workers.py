"""The workers of the pools, free of Ray: a table of one row in, one out.

Locate   a part's number -> its photos' faces, aligned
Embed    aligned faces   -> unit vectors
Publish  the finished tables of a part -> its two files, and a receipt
Enroll   all three, one after the other
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

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
from frpipe.runtime.host import ALONE, LOCATED, Host, Report
from frpipe.runtime.telemetry import record, record_photos, timed
from frpipe.stages.chain import StageChain
from frpipe.stages.embedders import Embedders
from frpipe.stages.locate import Located, locator_of
from frpipe.stages.part_batch import PartBatch
from frpipe.stages.quarantine.attempts import AttemptLog, Poison
from frpipe.stages.quarantine.sandbox import find_poison
from frpipe.stages.run_spec import RunSpec
from frpipe.stages.tabulate import ROW, tabulate

T = TypeVar("T")
_EVERY_S = 1.0
STALLED_EXIT = 75


def told(part: int, outcomes: Iterable[T], report: Report, count: int = 0) -> Iterator[T]:
    """Pass outcomes on, and tell how many there were: with the first, now and then, and at the end.

    count: of those before them.
    """
    said = -math.inf
    for outcome in outcomes:
        count += 1
        if time.monotonic() - said >= _EVERY_S:
            said = time.monotonic()
            report(part, {LOCATED: count})
        yield outcome
    report(part, {LOCATED: count})


class Headway:
    """Count the embedded faces of a part, and tell now and then how its photos ended.

    A photo has ended when its last face is embedded, and those before it.
    """

    def __init__(self, part_batch: PartBatch, report: Report) -> None:
        self._part, self._report = part_batch.part, report
        self._statuses = part_batch.images["status"]
        self._rows: np.ndarray = part_batch.faces[ROW].to_numpy()
        self._said = -math.inf

    def __call__(self, faces: int) -> None:
        if time.monotonic() - self._said < _EVERY_S:
            return
        self._said = time.monotonic()
        photos = len(self._statuses)
        ended = int(self._rows[faces]) if faces < len(self._rows) else photos
        counts = Counter(self._statuses.slice(0, ended).to_pylist())
        self._report(self._part, {**counts, LOCATED: photos, "faces": faces})


class Watchdog:
    """End this process if nothing happens for `timeout_s` between `with` and its end.

    Native code that loops can be ended in no other way. Ray then starts the worker anew (see `attempts`).
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._fed = time.monotonic()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self.feed()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    def feed(self) -> None:
        """Note that something has happened."""
        self._fed = time.monotonic()

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Pass items on, and note each as something that has happened."""
        for item in items:
            self.feed()
            yield item
        self.feed()

    def _watch(self) -> None:
        while not self._over.wait(max(0.0, self._fed + self._timeout_s - time.monotonic())):
            if time.monotonic() - self._fed >= self._timeout_s:
                os._exit(STALLED_EXIT)


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
        later = self._spec.columns
        found = tabulate(part, plan, outcomes, attempts, policy, version=version, later=later)
        return self._staged(found).pack()

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
