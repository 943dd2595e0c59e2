"""Systems that were run on trials: the evaluation of each, and how two of them differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from frpipe.core.errors import ConfigError
from frpipe.evaluation.compare import differences, judged
from frpipe.evaluation.difference import Difference
from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.pairs import Labels, Mask, PairTrials
from frpipe.evaluation.presentations import PadTrials
from frpipe.evaluation.sample import CurveMeasure, numbered
from frpipe.evaluation.searches import SearchTrials
from frpipe.jobs.dedup.source import FeatureSource
from frpipe.jobs.evaluate.output import file_name
from frpipe.jobs.evaluate.photo_facts import PhotoFacts
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.thumbnails import Thumbnails
from frpipe.metrics.scores import Indices

Trials = PairTrials | SearchTrials


@dataclass(frozen=True, slots=True)
class System:
    """A system that was run on trials.

    evaluation: of all its trials.  estimates: what is compared with another system.  features: the enroll
    output that holds its photos.  bases: names of the systems that it is compared with; none: the first.
    """

    evaluation: Evaluation
    trials: Trials | PadTrials
    estimates: Sequence[CurveMeasure]
    features: str
    bases: Sequence[str] = ()


def named(results: Sequence[str], names: Sequence[str]) -> list[str]:
    """A name for each result: those given, else the last part of its URI.

    Raises ConfigError: not one for each, or two that would be one in the name of a file.
    """
    found = list(names) or [uri.rstrip("/").rsplit("/", 1)[-1] for uri in results]
    if len(found) != len(results) or len(set(map(file_name, found))) != len(found):
        raise ConfigError(
            f"{len(results)} results and the names {', '.join(found)}",
            "give --names, one for each, all different",
        )
    return found


def compared(systems: Sequence[System]) -> list[Difference]:
    """Compare each system with the first, or its bases, on trials that both completed; no presentations."""
    found: list[Difference] = []
    by_name = {system.evaluation.name: system for system in systems}
    pairs = [
        (by_name[base], other)
        for other in systems[1:]
        for base in other.bases or (systems[0].evaluation.name,)
    ]
    measures = len(pairs) * len(systems[0].estimates)
    for first, second in pairs:
        if isinstance(first.trials, PadTrials) or isinstance(second.trials, PadTrials):
            continue
        mine, theirs = _shared(first.trials, second.trials)
        found += differences(
            (first.evaluation.name, mine.sample()),
            (second.evaluation.name, theirs.sample()),
            first.estimates,
            measures,
        )
    return judged(found)


def _shared(first: Trials, second: Trials) -> tuple[Trials, Trials]:
    """The trials that both completed, in one order. Raises ConfigError: there are none."""
    done = [_done(trials) for trials in (first, second)]
    ours, others = (keys[mask] for keys, mask in zip(_keys(first, second), done, strict=True))
    _, mine, theirs = np.intersect1d(ours, others, return_indices=True)
    if not len(mine):
        raise ConfigError(
            "the results have no trial in common", "compare results of the same list of pairs, or of probes"
        )
    rows = [np.flatnonzero(mask)[place] for mask, place in zip(done, (mine, theirs), strict=True)]
    return _of_one_people(first.some(rows[0]), second.some(rows[1]))


def _of_one_people(first: Trials, second: Trials) -> tuple[Trials, Trials]:
    """Number the people of both alike, so that they can be drawn alike; one result may know fewer of them."""
    if isinstance(first, PairTrials) and isinstance(second, PairTrials):
        second = replace(second, person_a=first.person_a, person_b=first.person_b)
    return first, second


def _done(trials: Trials) -> Mask:
    if isinstance(trials, PairTrials):
        return trials.completed
    return trials.done_mated | trials.done_strangers


def _keys(first: Trials, second: Trials) -> list[Indices]:
    """Numbers, (n,), for each trial of either: of photos, or probe and person, and whether it is mated."""
    sides = [*_sides(first), *_sides(second)]
    numbers = numbered(*sides)
    people = 1 + max(int(part.max(initial=0)) for part in numbers)
    return [
        (left * people + right) * 2 + trials.mated
        for trials, left, right in zip((first, second), numbers[::2], numbers[1::2], strict=True)
    ]


def _sides(trials: Trials) -> tuple[Labels, Labels]:
    if isinstance(trials, PairTrials):
        return trials.a, trials.b
    return trials.image, trials.truth


def worst_pictures(systems: Sequence[System]) -> dict[str, bytes]:
    """Pictures as JPEGs, by what the list of pairs calls the photo; of the first system that has it."""
    found: dict[str, bytes] = {}
    for system in systems:
        ids = {side for trial in system.evaluation.worst for side in (trial.a, trial.b)} - found.keys()
        named = np.array(sorted(ids), object)
        images = PhotoFacts.of(system.features).of_photos("image_id", named)
        features = FeatureRun.open(system.features)
        source = FeatureSource(features.folder.uri, features.created, 1)
        # It finds photos by ids of faces; which face is all one.
        faces = [f"{image}#0" for image in images]
        thumbnails = Thumbnails(source.locations(dict.fromkeys(faces)))
        shown = zip(named, map(thumbnails.of, faces), strict=True)
        found |= {name: data for name, data in shown if data is not None}
    return found
