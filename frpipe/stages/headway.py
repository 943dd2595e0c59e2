"""Tell how far a part is while it is located."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator

from frpipe.stages.host import Report
from frpipe.stages.locate import Located

FACES = "faces"
_EVERY_S = 1.0


def told(part: int, outcomes: Iterable[Located], report: Report) -> Iterator[Located]:
    """The same outcomes, counted by status; the counts are told with the first, and then now and then."""
    counts: Counter[str] = Counter()
    said = -math.inf
    for located in outcomes:
        counts[located.status.value] += 1
        counts[FACES] += len(located.crops)
        if time.monotonic() - said >= _EVERY_S:
            said = time.monotonic()
            report(part, counts)
        yield located
    report(part, counts)
