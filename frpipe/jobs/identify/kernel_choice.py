"""Choose the kernel of an identification on a sample of its probes and of the gallery."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from frpipe.gallery.catalog import ShardRef
from frpipe.io.output.features import Features
from frpipe.jobs.identify.worker import SearchSpec
from frpipe.matching.choice import (
    SAMPLE_PROBES,
    SAMPLE_ROWS,
    Choice,
    Sample,
    Stored,
    Task,
    choose,
    named,
    spread,
    timed,
    worth_a_look,
)
from frpipe.matching.kernel import Floats

# Shards that stand for all: where they are not mapped, each is fetched whole.
_SHARDS = 2


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of a search: templates, probes, and with how many of these a worker compares a template."""

    rows: int
    probes: int
    uses: int


def chosen(
    spec: SearchSpec,
    probes: tuple[Features, Sequence[int]],
    shape: Shape,
    stored: Stored | None,
) -> tuple[Choice, list[ShardRef]]:
    """The kernel of a search that is to be carried out as `spec` says, and the shards that it was tried on.

    probes: with their parts, in order.  stored: see `choose`.
    Raises ConfigError: the kernel that is asked for cannot be had.
    """
    if not worth_a_look(spec.kernel, shape.probes * shape.rows):
        return named(spec.kernel), []
    refs, rows = _rows(spec)
    task = Task(shape.rows, spec.k, spec.at_least, shape.uses)
    return choose(spec.kernel, Sample(rows, _probes(*probes)), task, stored=stored), refs


def tried(spec: SearchSpec, choice: Choice, probes: tuple[Features, Sequence[int]], shape: Shape) -> Choice:
    """A kernel that was named, with the time of a comparison on a sample, where it is worth that."""
    if not worth_a_look("auto", shape.probes * shape.rows):
        return choice
    sample = Sample(_rows(spec)[1], _probes(*probes))
    return timed(choice, sample, Task(shape.rows, spec.k, spec.at_least, shape.uses))


def _rows(spec: SearchSpec) -> tuple[list[ShardRef], Floats]:
    """Templates of some shards that stand for all, and these shards."""
    # Means of people have about the directions of their templates, and these are there without a count.
    view = replace(spec, score="max", hold_mb=0).search_view()
    refs = typical(view.shards)
    return refs, _spread([block[1] for _, _, block in view.located(refs)], SAMPLE_ROWS)


def typical(refs: Sequence[ShardRef]) -> list[ShardRef]:
    """Some large shards, which stand for all, and which compactions join with no others."""
    most = max((ref.live_rows for ref in refs), default=0)
    large = [ref for ref in refs if 2 * ref.live_rows >= most]
    places = sorted({len(large) * place // _SHARDS for place in range(_SHARDS)}) if large else []
    return [large[place] for place in places]


def _probes(probes: Features, parts: Sequence[int]) -> Floats:
    found: list[Floats] = []
    for part in parts:
        if sum(map(len, found)) >= SAMPLE_PROBES:
            break
        found.append(probes.vectors([part]))
    return _spread(found, SAMPLE_PROBES)


def _spread(parts: Iterable[Floats | None], count: int) -> Floats:
    known = [part for part in parts if part is not None and len(part)]
    each = -(-count // max(1, len(known)))
    if not known:
        return np.zeros((0, 1), np.float32)
    return np.concatenate([spread(part, each) for part in known])
