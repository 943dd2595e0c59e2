"""What calibration, fusion and score normalisation gain on one enroll output of LFW by several embedders.

    frpipe manifest scan ../shared/data/lfw/images -o lfw.parquet
    python jobs/enroll.py --manifest lfw.parquet --output out/lfw --set detect.policy=centre-largest \\
        --set 'embed=[{model: sface_2021dec}, {model: edgeface_xs_q}, {model: mobilefacenet_faceplugin}]'
    python benchmarks/evaluation_gains.py out/lfw --plot reliability.png

Tested are all people with two photos and more: mated pairs are all pairs of photos of one of them,
non-mated ones all pairs of their first photos. People with one photo are the cohort of normalisation, and in
no pair. Fusion and calibration are cross-fitted by subject (five parts). A gain is the change of FNMR at an
FMR, against the best of what went in; its interval holds 95 % of 1,000 paired draws of the people. The last
line printed is one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from frpipe.evaluation.plots.reliability import reliability_plot
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.features import FeatureRun
from frpipe.metrics.bootstrap import draws, percentiles
from frpipe.metrics.calibration import fit_isotonic, fit_logistic
from frpipe.metrics.costs import cllr
from frpipe.metrics.cross_fit import Parts, cross_fitted
from frpipe.metrics.fusion import cross_fitted_fusion
from frpipe.metrics.hull import Hull
from frpipe.metrics.normalisation import NORMALISATIONS, cohort_scores, normalised
from frpipe.metrics.operating import RULE_OF_3, Insufficient
from frpipe.metrics.reliability import reliability
from frpipe.metrics.scores import Scores
from frpipe.metrics.verification import eer

Array = np.ndarray[Any, Any]
TARGETS = (1e-3, 1e-4, 1e-5)
REPLICATES = 1000
# The most alike of non-mated pairs: enough to find the threshold of the largest target in every draw.
_MOST_ALIKE = 6.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", help="of jobs/enroll.py with several embedders, subject_id known")
    parser.add_argument("--people", type=int, help="so many of those tested, drawn (default: all)")
    parser.add_argument("--plot", type=Path, help="write the reliability of the ratios: a PNG")
    options = parser.parse_args()
    vectors = read(options.output)
    names, people = next(iter(vectors.values()))[0], Pairs.of(next(iter(vectors.values()))[0], options.people)
    report: dict[str, Any] = {"people": people.count, "mated": len(people.mate), "nonmated": len(people.a)}
    report["cohort"] = len(people.cohort)
    print(f"{len(names):,} photos: {report}", file=sys.stderr)
    singles = {name: people.similarity(rows) for name, (_, rows) in vectors.items()}
    systems = {name: people.system(score) for name, score in singles.items()}
    bases: dict[str, tuple[str, ...]] = {}
    ratios: dict[str, Array] = {}
    for amount in range(2, len(singles) + 1):
        for some in itertools.combinations(singles, amount):
            name = " + ".join(some)
            both = np.stack([singles[one] for one in some], axis=1)
            found = cross_fitted_fusion(both, people.mated, people.parts)
            assert not isinstance(found, Insufficient)
            ratios[name], systems[name], bases[name] = found, people.system(found), some
    for one, (_, rows) in vectors.items():
        known = cohort_scores(rows, rows[people.cohort])
        for how in NORMALISATIONS:
            sides = known.some(people.left), known.some(people.right)
            name = f"{one}, {how}"
            systems[name] = people.system(normalised(singles[one], *sides, how))
            bases[name] = (one,)
    report["systems"] = rates(people, systems)
    report["gains"] = gains(report["systems"], people.targets, bases)
    report["calibration"], plotted = calibrations(people, singles, ratios)
    if options.plot:
        options.plot.write_bytes(reliability_plot(plotted).png())
    for part in ("systems", "gains", "calibration"):
        for name, found in report[part].items():
            print(f"{name}: {json.dumps({k: v for k, v in found.items() if k != 'drawn'})}", flush=True)
    for found in report["systems"].values():
        found.pop("drawn")
    print(json.dumps(report))


def read(output: str) -> dict[str, tuple[Array, Array]]:
    """By embedder: the person of each photo with one face, and its vector; in the order of the photos."""
    recipe = run.begun(Folder.at(output))["identity"]["recipe"]
    found = {}
    for further in (None, *recipe.get("embedders", {})):
        source = FeatureRun.open(output, further)
        tables = [faces for _, faces in source.features.tables(["image_id"], ["subject_id", "embedding"])]
        names = np.concatenate([table["subject_id"].to_numpy() for table in tables]).astype(str)
        rows = [table["embedding"].combine_chunks().flatten().to_numpy() for table in tables]
        embed = recipe["settings"]["embed"]
        first = (embed[0] if isinstance(embed, list) else embed)["model"]
        vectors = np.concatenate(rows).reshape(len(names), -1).astype(np.float64)
        found[further or first] = names, vectors
    return found


@dataclass(frozen=True)
class Pairs:
    """Rows of photos of the pairs: mated ones first. mate: (m,) person of each; a, b: (n,) of the others."""

    left: Array
    right: Array
    mate: Array
    a: Array
    b: Array
    count: int
    cohort: Array

    @classmethod
    def of(cls, names: Array, most: int | None = None) -> Pairs:
        people, own, counts = np.unique(names, return_inverse=True, return_counts=True)
        tested = np.flatnonzero(counts > 1)
        if most is not None and most < len(tested):
            tested = np.sort(np.random.default_rng(0).permutation(tested)[:most])
        place = np.full(len(people), -1)
        place[tested] = np.arange(len(tested))
        photos = [np.flatnonzero(own == person) for person in tested]
        mated = [pair for rows in photos for pair in itertools.combinations(rows, 2)]
        left, right = np.array(mated).T
        firsts = np.array([rows[0] for rows in photos])
        a, b = np.triu_indices(len(tested), 1)
        return cls(
            np.concatenate([left, firsts[a]]),
            np.concatenate([right, firsts[b]]),
            place[own[left]],
            a,
            b,
            len(tested),
            np.flatnonzero(counts[own] == 1),
        )

    @property
    def mated(self) -> Array:
        return np.arange(len(self.left)) < len(self.mate)

    @property
    def parts(self) -> Parts:
        a, b = (np.concatenate([self.mate, other]) for other in (self.a, self.b))
        return Parts.of_people(a, b)

    @property
    def targets(self) -> list[float]:
        """Those that the non-mated pairs carry, by the rule of 3."""
        return [target for target in TARGETS if target * len(self.a) >= RULE_OF_3]

    def similarity(self, vectors: Array) -> Array:
        found = np.empty(len(self.left))
        for start in range(0, len(found), 1 << 15):
            some = slice(start, start + (1 << 15))
            found[some] = np.einsum("ij,ij->i", vectors[self.left[some]], vectors[self.right[some]])
        return found

    def system(self, score: Array) -> System:
        m = len(self.mate)
        others = score[m:]
        some = np.argsort(-others)[: int(_MOST_ALIKE * TARGETS[0] * len(others))]
        return System(score, others[some], self.mate, self.a[some], self.b[some])


@dataclass(frozen=True)
class System:
    """score: of all pairs.  top: the highest of non-mated pairs, falling; a, b: their people."""

    score: Array
    top: Array
    mate: Array
    a: Array
    b: Array

    def fnmr(self, weight: Array, target: float) -> float:
        """At the most lenient threshold that keeps to the FMR. weight: how often each person is drawn."""
        total = (weight.sum() ** 2 - (weight**2).sum()) / 2
        accepted = np.cumsum(weight[self.a] * weight[self.b])
        kept = int(np.searchsorted(accepted, target * total * (1 + 1e-12), "right"))
        assert kept < len(self.top), "too few of the most alike are kept"
        # The score of the first pair too many is not accepted.
        mine = weight[self.mate]
        return float(mine[self.score[: len(self.mate)] <= self.top[kept]].sum() / mine.sum())


def rates(people: Pairs, systems: dict[str, System]) -> dict[str, Any]:
    once, found = np.ones(people.count), {}
    blocks = list(draws(people.count, REPLICATES))
    m = len(people.mate)
    for name, system in systems.items():
        drawn = np.array(
            [[system.fnmr(row, target) for target in people.targets] for block in blocks for row in block]
        )
        equal = eer(Scores.of(system.score[:m], system.score[m:]))
        found[name] = {
            "EER": round(getattr(equal, "value", float("nan")), 5),
            "FNMR": {f"{target:g}": round(system.fnmr(once, target), 5) for target in people.targets},
            "interval": {f"{t:g}": interval(drawn[:, n]) for n, t in enumerate(people.targets)},
            "drawn": drawn,
        }
    return found


def gains(
    measured: dict[str, Any], targets: list[float], bases: dict[str, tuple[str, ...]]
) -> dict[str, Any]:
    """Of each derived system the change of FNMR against the best of its bases at each target."""
    found: dict[str, Any] = {}
    for name, some in bases.items():
        found[name] = {}
        for place, target in enumerate(targets):
            key = f"{target:g}"
            best = min(some, key=lambda one: measured[one]["FNMR"][key])
            drawn = measured[name]["drawn"][:, place] - measured[best]["drawn"][:, place]
            change = measured[name]["FNMR"][key] - measured[best]["FNMR"][key]
            found[name][key] = {"against": best, "change": round(change, 5), "interval": interval(drawn)}
    return found


def calibrations(
    people: Pairs, singles: dict[str, Array], fused: dict[str, Array]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cllr of cross-fitted ratios, the least possible, and their reliability."""
    found: dict[str, Any] = {}
    plotted: dict[str, Any] = {}
    mated = people.mated
    for name, score in singles.items():
        least = Hull.of(Scores.of(score[mated], score[~mated])).min_cllr()
        found[name] = {"min_cllr": round(least, 5)}
        for method, fit in (("logistic", fit_logistic), ("isotonic", fit_isotonic)):
            ratios = cross_fitted(score, mated, people.parts, fit)
            assert not isinstance(ratios, Insufficient)
            found[name][method] = round(cllr(ratios[mated], ratios[~mated]), 5)
            plotted[f"{name}, {method}"] = reliability(ratios[mated], ratios[~mated])
    for name, ratios in fused.items():
        least = Hull.of(Scores.of(ratios[mated], ratios[~mated])).min_cllr()
        cost = cllr(ratios[mated], ratios[~mated])
        found[name] = {"min_cllr": round(least, 5), "logistic": round(cost, 5)}
        plotted[name] = reliability(ratios[mated], ratios[~mated])
    return found, plotted


def interval(values: Array) -> list[float]:
    between = percentiles(values)
    return [round(between.low, 5), round(between.high, 5)]


if __name__ == "__main__":
    main()
