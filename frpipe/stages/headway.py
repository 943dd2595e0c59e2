"""Tell how far a part is while its photos are located, and while their faces are embedded."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

from frpipe.runtime.host import LOCATED, Report
from frpipe.stages.part_batch import PartBatch
from frpipe.stages.tabulate import ROW

T = TypeVar("T")
_EVERY_S = 1.0


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
