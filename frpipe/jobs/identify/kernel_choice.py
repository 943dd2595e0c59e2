"""Choose the kernel of an identification on a sample of its probes and of the gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from frpipe.io.output.features import Features
from frpipe.jobs.identify.worker import SearchSpec
from frpipe.jobs.low_forms import evenly, typical_rows
from frpipe.matching.choice import (
    SAMPLE_PROBES,
    Choice,
    Sample,
    Stored,
    Task,
    choose,
    named,
    timed,
    worth_a_look,
)
from frpipe.matching.kernel import Floats


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a search. rows: templates.  uses: probes that a worker compares with each of them."""

    rows: int
    probes: int
    uses: int


def chosen(
    spec: SearchSpec,
    probes: tuple[Features, Sequence[int]],
    shape: Shape,
    stored: Stored | None,
) -> Choice:
    """Choose the kernel of a search.

    probes: with their parts, in order.  stored: as of `choose`.
    Raises ConfigError: this machine cannot run the kernel that is asked for.
    """
    if not worth_a_look(spec.kernel, shape.probes * shape.rows):
        return named(spec.kernel)
    task = Task(shape.rows, spec.k, spec.at_least, shape.uses)
    return choose(spec.kernel, _sample(spec, probes), task, stored=stored)


def tried(spec: SearchSpec, choice: Choice, probes: tuple[Features, Sequence[int]], shape: Shape) -> Choice:
    """Time a kernel that was named, on a sample, if the search is large enough for that."""
    if not worth_a_look("auto", shape.probes * shape.rows):
        return choice
    return timed(choice, _sample(spec, probes), Task(shape.rows, spec.k, spec.at_least, shape.uses))


def _sample(spec: SearchSpec, probes: tuple[Features, Sequence[int]]) -> Sample:
    """Sample the templates that are searched, and the probes."""
    # Means of people have about the directions of their templates, and these are there without a count.
    view = replace(spec, score="max", hold_mb=0).search_view()
    features, parts = probes
    found: list[Floats] = []
    for part in parts:
        if sum(map(len, found)) >= SAMPLE_PROBES:
            break
        found.append(features.vectors([part]))
    return Sample(typical_rows(view), evenly(found, SAMPLE_PROBES))
