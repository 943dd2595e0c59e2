"""Fit the discriminants of `frpipe.vision.photograph`, and report what they refuse.

    python benchmarks/photograph.py fit --shared ../shared --cache out/photograph
    python benchmarks/photograph.py report --shared ../shared --cache out/photograph

People are split by name: every other person of LFW and the first half of CFP's fit weights and limits, the
others are reported. `fit` rewrites `frpipe/vision/photograph_weights.py`; it needs scikit-learn.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from photograph_data import (
    BAD,
    DRAWINGS,
    GOOD,
    NEGATIVES,
    ONE_BIT,
    SCALES,
    crops_of,
    lfw,
    pipeline,
    scaled,
)

from frpipe.vision import photograph
from frpipe.vision.photograph import NotPhotograph

THRESHOLD = 0.421
WEIGHTS_FILE = Path(photograph.__file__).with_name("photograph_weights.py")
LINES = tuple(name for name in DRAWINGS if name not in ("soft dodge", "pencil", "colour pencil"))
# The discriminants of texture: of which kind each is, and the effects that fit it.
TEXTURES: tuple[tuple[NotPhotograph, tuple[str, ...]], ...] = (
    (NotPhotograph.DRAWING, LINES),
    (NotPhotograph.DRAWING, ("soft dodge", "dodge")),
    (NotPhotograph.DRAWING, ("pencil", "colour pencil")),
    (NotPhotograph.ONE_BIT, (*ONE_BIT, "adaptive", "adaptive gauss")),
    (NotPhotograph.RUINED, ("q3", "q5")),
)
# Sets that do not bound the limits: light or noise in which a person would hardly be recognised either.
BEYOND = ("noise 25",)
# What a limit lies above the largest value of 99.9 % of the good faces of every set that fits, log odds.
MARGIN = 0.7
# The network of negatives: units, weight decay, passes, deviation of the noise on standardised measures.
# Slack: what its limit lies higher still, as a network knows the faces that fitted it better than others.
SLACK = 0.8
HIDDEN, DECAY, EPOCHS, NOISE = 16, 0.5, 16, 0.4


class Sets:
    """The pictures, by name: crops are made at their first use."""

    def __init__(self, shared: Path, cache: Path) -> None:
        self.cache = cache
        cache.mkdir(parents=True, exist_ok=True)
        self.people = lfw(shared)
        self.first = {"A": [p[0] for p in self.people[::2]], "B": [p[0] for p in self.people[1::2]]}
        self.cfp = sorted((shared / "data" / "cfp" / "images").glob("*/*/*.jpg"))
        self.subjects = sorted({path.parts[-3] for path in self.cfp})
        self.data = shared / "data"

    def lfw_as_is(self, half: str) -> np.ndarray:
        paths = [path for person in self.people for path in person]
        halves = np.array(["AB"[at % 2] for at, person in enumerate(self.people) for _ in person])
        crops, places = crops_of("all as is", paths, GOOD["as is"], self.cache)
        return crops[halves[places] == half]

    def cfp_as_is(self, half: str) -> np.ndarray:
        crops, places = crops_of("cfp", self.cfp, GOOD["as is"], self.cache)
        low = np.array([path.parts[-3] < self.subjects[50] for path in self.cfp])[places]
        return crops[low == (half == "A")]

    def good(self, half: str) -> dict[str, np.ndarray]:
        sets = {"LFW as is": self.lfw_as_is(half), "CFP": self.cfp_as_is(half)}
        for name, effect in GOOD.items():
            if name != "as is":
                paths = self.first[half][: 600 if half == "A" else 1000]
                sets[name] = crops_of(f"{half} {name}", paths, effect, self.cache)[0]
        if half == "B":
            groups = sorted((self.data / "groups" / "faces").glob("*.jpg"))
            sets["groups"] = crops_of("groups", groups, GOOD["as is"], self.cache, "all")[0]
            spoof = sorted((self.data / "spoof").glob("**/*.jpg"))
            sets["webcam and prints"] = crops_of("spoof", spoof, GOOD["as is"], self.cache)[0]
            small = sorted((self.data / "lfw" / "images_unaligned150").glob("**/*.jpg"))
            sets["LFW unaligned"] = crops_of("unaligned", small, GOOD["as is"], self.cache)[0]
        return sets

    def bad(self, kind: str) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
        """By scale, of people that fitted nothing: crops, places and how many photos there were."""
        sets = {}
        for scale in SCALES:
            count = {"1": 100, "4": 24}.get(scale, 50)
            paths = self.first["B"][:count]
            sets[scale] = (*crops_of(f"B {kind} {scale}", paths, scaled(BAD[kind], scale), self.cache), count)
        frontal = [path for path in self.cfp if path.parts[-2:] == ("frontal", "01.jpg")]
        sets["CFP"] = (*crops_of(f"cfp {kind}", frontal, BAD[kind], self.cache), len(frontal))
        return sets

    def bad_to_fit(self, kind: str) -> np.ndarray:
        found = []
        for scale in SCALES:
            paths = (
                self.first["A"][100:260]
                if scale == "1"
                else self.first["A"][300 : 324 if scale == "4" else 350]
            )
            found.append(crops_of(f"A {kind} {scale}", paths, scaled(BAD[kind], scale), self.cache)[0])
        if kind in NEGATIVES:
            cfp = [p for p in self.cfp if p.parts[-3] < self.subjects[50] and p.stem in ("02", "03")]
            found += [
                crops_of(f"A {kind} more", self.first["A"], BAD[kind], self.cache)[0],
                crops_of(f"A {kind} more2", self.first["A"][300:1200], scaled(BAD[kind], "2"), self.cache)[0],
                crops_of(f"cfpA {kind}", cfp, BAD[kind], self.cache)[0],
            ]
        return np.concatenate(found)


def measure(crops: np.ndarray, which: Callable[..., np.ndarray]) -> np.ndarray:
    greys = (cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops)
    size = photograph.PATTERN_SIZE if which is photograph.pattern else photograph.TEXTURE_SIZE
    found = [which(crop, grey) for crop, grey in zip(crops, greys, strict=True)]
    return np.array(found, np.float32).reshape(-1, size)


def fit(sets: Sets) -> None:
    good = sets.good("A")
    negative = fit_negative(good, np.concatenate([sets.bad_to_fit(kind) for kind in NEGATIVES]))
    textures = {name: measure(crops, photograph.texture) for name, crops in good.items()}
    everything = np.concatenate(list(textures.values()))
    centre, scale = everything.mean(axis=0), 1 / (everything.std(axis=0) + 1e-4)
    # As `photograph.expand`, with these numbers instead of the committed ones.
    clipped = lambda values: np.clip((values - centre) * scale, -4, 4)  # noqa: E731
    expand = lambda values: np.hstack([clipped(values), clipped(values) ** 2])  # noqa: E731
    rows, offsets = [], []
    for _, names in TEXTURES:
        bad = [measure(sets.bad_to_fit(name), photograph.texture) for name in names]
        row, bias = logistic(
            [expand(values) for values in textures.values()], [expand(values) for values in bad], 0.02
        )
        rows.append(row)
        offsets.append(bias - limit({n: expand(v) @ row + bias for n, v in textures.items()}))
    write(negative, centre, scale, np.array(rows), np.array(offsets))


def fit_negative(good: dict[str, np.ndarray], bad: np.ndarray) -> tuple[np.ndarray, ...]:
    """Weights and offsets of the hidden units, then of the output; standardisation and limit included."""
    from sklearn.neural_network import MLPClassifier

    random = np.random.default_rng(0)
    patterns = {name: measure(crops, photograph.pattern) for name, crops in good.items()}
    negatives = measure(bad, photograph.pattern)
    hard = [patterns[name] for name in ("CFP", "CFP", "sunglasses", "side light")]
    spoilt = [
        measure(varied(good[name], random), photograph.pattern) for name in ("LFW as is", "CFP", "CFP", "CFP")
    ]
    photos = np.concatenate([*patterns.values(), *hard, *spoilt])
    # A grey negative has the signs of its photo turned round, its colours too where it has any.
    inverse = np.where(np.arange(302) < 300, -1.0, random.choice([-1, 0], (len(photos), 1))) * photos
    inverse = inverse[random.random(len(inverse)) < 0.5]
    sides = [both_ways(photos), *[both_ways(negatives)] * 2, inverse]
    x = np.vstack(sides).astype(np.float32)
    y = np.r_[np.zeros(len(sides[0])), np.ones(len(x) - len(sides[0]))]
    centre, deviation = x.mean(axis=0), x.std(axis=0)
    x = (x - centre) / deviation
    x = np.vstack([x, x + NOISE * random.standard_normal(x.shape).astype(np.float32)])
    model = MLPClassifier(
        (HIDDEN,), alpha=DECAY, max_iter=EPOCHS, batch_size=256, learning_rate_init=2e-3, random_state=0
    ).fit(x, np.r_[y, y])
    hidden = (model.coefs_[0] / deviation[:, None]).T
    # As many digits as the file holds.
    scale = np.abs(hidden).max(axis=1) / 2000
    hidden = np.rint(hidden / scale[:, None]) * scale[:, None]
    bias = model.intercepts_[0] - (model.coefs_[0].T / deviation) @ centre
    out = model.coefs_[1][:, 0]
    scores = {n: np.maximum(v @ hidden.T + bias, 0) @ out for n, v in patterns.items()}
    return hidden, bias, out, np.array([-limit(scores) - SLACK])


def varied(crops: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The crops, each a little turned and moved, in other light, a third with dark glasses, a third noisy."""
    found = []
    for crop in crops:
        matrix = cv2.getRotationMatrix2D((56, 60), random.normal(0, 8), random.normal(1, 0.06))
        matrix[:, 2] += random.normal(0, 3, 2)
        moved = crop
        if random.random() < 0.35:
            moved = crop.copy()
            size = tuple(int(v) for v in random.uniform((12, 8), (18, 14)))
            for x in (38, 74):
                cv2.ellipse(
                    moved, (x, 53), size, 0, 0, 360, [int(random.integers(0, 40))] * 3, -1, cv2.LINE_AA
                )
        moved = cv2.warpAffine(moved, matrix, (112, 112)).astype(np.float32)
        low, high = random.uniform(0.1, 1.2, 2).tolist()
        moved *= np.linspace(low, high, 112)[None, :, None]
        if random.random() < 0.35:
            moved += random.normal(0, random.uniform(3, 18), moved.shape) * (moved > 0)
        found.append(np.clip(moved, 0, 255).astype(np.uint8))
    return np.array(found)


def both_ways(patterns: np.ndarray) -> np.ndarray:
    """The patterns and those of the mirrored crops."""
    maps = patterns[:, :300].reshape(-1, 3, 10, 10)[..., ::-1].reshape(-1, 300)
    return np.vstack([patterns, np.hstack([maps, patterns[:, 300:]])])


def logistic(good: list[np.ndarray], bad: list[np.ndarray], strength: float) -> tuple[np.ndarray, float]:
    """Weights and offset; both sides weigh the same, and so do the sets of bad pictures."""
    from sklearn.linear_model import LogisticRegression

    bad = [values for values in bad if len(values)]
    x = np.vstack([*good, *bad])
    n = sum(map(len, good))
    share = [np.full(len(values), n / len(bad) / max(len(values), 60)) for values in bad]
    y = np.r_[np.zeros(n), np.ones(len(x) - n)]
    model = LogisticRegression(C=strength, max_iter=400).fit(x, y, np.concatenate([np.ones(n), *share]))
    return model.coef_[0], float(model.intercept_[0])


def limit(scores: dict[str, np.ndarray]) -> float:
    bounds = {name: float(np.quantile(s, 0.999, method="lower")) for name, s in scores.items()}
    print("bounds", {name: round(bound, 1) for name, bound in bounds.items()}, flush=True)
    return max(bound for name, bound in bounds.items() if name not in BEYOND) + MARGIN


def write(
    negative: tuple[np.ndarray, ...],
    centre: np.ndarray,
    scale: np.ndarray,
    rows: np.ndarray,
    offsets: np.ndarray,
) -> None:
    def numbers(values: np.ndarray) -> str:
        words = [f"{value:.4g}" for value in np.ravel(values)]
        lines, line = [], ""
        for word in words:
            if len(line) + len(word) > 104:
                lines.append(line.rstrip())
                line = ""
            line += word + " "
        return '"""\n' + "\n".join([*lines, line.rstrip()]) + '\n"""'

    WEIGHTS_FILE.write_text(
        f'''"""Numbers of the discriminants in `photograph`, as `benchmarks/photograph.py fit` measured them.

Of negatives: a network of one hidden layer. Of texture: logistic regressions, in the order of `judge`. Good
faces of the fit: LFW (every other person) as it is and under {len(GOOD) - 1} changes of light,
sharpness, noise and compression, and half of CFP's people. Others: effects on photos of the
same people at four scales. Each offset holds the limit, MARGIN
({MARGIN}; negatives: {MARGIN + SLACK}) log odds above the value below which
99.9 % of every good set but `{", ".join(BEYOND)}` lie, so that a discriminant above 0 is no photograph.
"""

import numpy as np


def _read(text: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(text.split(), np.float32)


HIDDEN_OFFSETS = _read({numbers(negative[1])})
HIDDEN_WEIGHTS = _read({numbers(negative[0])}).reshape(len(HIDDEN_OFFSETS), -1)
NEGATIVE_WEIGHTS = _read({numbers(negative[2])})
NEGATIVE_OFFSET = {negative[3][0]:.4f}
TEXTURE_CENTRE = _read({numbers(centre)})
TEXTURE_SCALE = _read({numbers(scale)})
TEXTURE_OFFSETS = _read({numbers(offsets)})
TEXTURE_WEIGHTS = _read({numbers(rows)}).reshape(len(TEXTURE_OFFSETS), -1)
'''
    )


def report(sets: Sets) -> None:
    print("good faces refused")
    for name, crops in {**sets.good("B"), "CFP, half that fitted": sets.cfp_as_is("A")}.items():
        kinds = [photograph.judge(crop).kind for crop in crops]
        by_kind = {kind.value: kinds.count(kind) for kind in NotPhotograph if kind in kinds}
        print(f"  {name:24} {sum(by_kind.values()):4} of {len(crops):5}  {by_kind or ''}", flush=True)
    print("others: kept of faces found of photos; false matches of pairs, of all found and of all kept")
    for kind in BAD:
        for scale, (crops, places, photos) in sets.bad(kind).items():
            kept = np.array([photograph.judge(crop).kind is None for crop in crops], bool)
            rates = f"{matches(crops, places)}  {matches(crops[kept], places[kept])}"
            print(
                f"  {kind:16} {scale:7} {kept.sum():3} of {len(crops):3} of {photos:3}  {rates}", flush=True
            )


def matches(crops: np.ndarray, places: np.ndarray) -> str:
    if len(crops) < 2:
        return "0/0"
    vectors = pipeline().embed(list(crops))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first, second = np.triu_indices(len(vectors), 1)
    others = places[first] != places[second]
    hits = (np.einsum("ij,ij->i", vectors[first], vectors[second]) >= THRESHOLD) & others
    return f"{hits.sum()}/{others.sum()}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("fit", "report"))
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument(
        "--cache", type=Path, default=Path("out/photograph"), help="folder for crops, about 3 GB"
    )
    options = parser.parse_args()
    cv2.setNumThreads(1)
    sets = Sets(options.shared, options.cache)
    (fit if options.what == "fit" else report)(sets)


if __name__ == "__main__":
    main()
