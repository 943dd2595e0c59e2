"""LFW View 1 from the output of an enroll run: the threshold is chosen on the training pairs, then tested.

    frpipe manifest scan ../shared/data/lfw/images -o lfw.parquet
    python jobs/enroll.py --manifest lfw.parquet --output out/lfw
    python benchmarks/lfw.py out/lfw --pairs ../shared/data/lfw

Of a photo with several faces the one nearest the centre counts (policy centre-largest), as LFW's people
stand in the middle. A pair with a photo without a face is reported both left out and as a rejection.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from frpipe.io.output.features import Features
from frpipe.models.detectors.faces import Faces
from frpipe.models.detectors.policy import choose

FACE_NAMES = [
    "image_id",
    "face_index",
    "box_x1",
    "box_y1",
    "box_x2",
    "box_y2",
    "score",
    "landmarks",
    "embedding",
]


@dataclass(frozen=True)
class Pairs:
    """similarity: cosine, NaN where a side has no face.  mated: whether both are one person."""

    similarity: np.ndarray
    mated: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", help="of jobs/enroll.py, ids being `Person/Person_0001.jpg`")
    parser.add_argument(
        "--pairs", type=Path, required=True, help="folder of pairsDevTrain.txt and pairsDevTest.txt"
    )
    options = parser.parse_args()
    vectors = read_vectors(options.output)
    train = read_pairs(options.pairs / "pairsDevTrain.txt", vectors)
    test = read_pairs(options.pairs / "pairsDevTest.txt", vectors)
    threshold = best_threshold(train)
    failed = int(np.isnan(test.similarity).sum())
    rejected = accuracy(test, threshold)
    kept = ~np.isnan(test.similarity)
    left_out = accuracy(Pairs(test.similarity[kept], test.mated[kept]), threshold)
    print(f"threshold {threshold:.4f} (similarity), chosen on {len(train.mated):,} pairs")
    print(f"{len(test.mated):,} test pairs, {failed} with a side that has no face")
    print(f"accuracy {rejected:.4f} counting those as rejections, {left_out:.4f} leaving them out")
    result = {
        "photos": len(vectors),
        "threshold": threshold,
        "accuracy": rejected,
        "accuracy_left_out": left_out,
    }
    print(json.dumps(result | {"test_pairs": len(test.mated), "failed_pairs": failed}))


def read_vectors(output: str) -> dict[str, np.ndarray]:
    """Unit vector of the centre-largest face of each photo, by image id."""
    vectors: dict[str, np.ndarray] = {}
    for images, faces in Features.at(output).tables(["image_id", "width", "height"], FACE_NAMES):
        owners = faces["image_id"].to_numpy(zero_copy_only=False)
        for row in images.to_pylist():
            mine = faces.filter(pa.array(owners == row["image_id"]))
            if mine.num_rows:
                vectors[row["image_id"]] = _central(mine, row["width"], row["height"])
    return vectors


def _central(mine: pa.Table, width: int, height: int) -> np.ndarray:
    boxes = np.stack([mine[f"box_{side}"].to_numpy() for side in ("x1", "y1", "x2", "y2")], axis=1)
    index = np.arange(len(boxes), dtype=np.float32)
    order = Faces(boxes, index, np.zeros((len(boxes), 5, 2), np.float32))
    chosen = int(choose(order, width, height, "centre-largest").scores[0])
    return np.array(mine["embedding"][chosen].as_py())


def read_pairs(path: Path, vectors: dict[str, np.ndarray]) -> Pairs:
    """LFW's own file: `name a b` for one person, `name a other b` for two."""
    rows = [line.split() for line in path.read_text().splitlines()[1:] if line.strip()]
    sides = [(row[0], row[1], row[-2] if len(row) == 4 else row[0], row[-1]) for row in rows]
    similarity = [_similarity(vectors, _image(n1, i1), _image(n2, i2)) for n1, i1, n2, i2 in sides]
    return Pairs(np.array(similarity), np.array([len(row) == 3 for row in rows]))


def _image(name: str, number: str) -> str:
    return f"{name}/{name}_{int(number):04d}.jpg"


def _similarity(vectors: dict[str, np.ndarray], a: str, b: str) -> float:
    return float(vectors[a] @ vectors[b]) if a in vectors and b in vectors else float("nan")


def best_threshold(pairs: Pairs) -> float:
    """The similarity that decides most pairs rightly; the middle of the best interval."""
    values = np.sort(pairs.similarity[~np.isnan(pairs.similarity)])
    middles = (values[:-1] + values[1:]) / 2
    scores = np.array([accuracy(pairs, value) for value in middles])
    return float(middles[scores == scores.max()].mean())


def accuracy(pairs: Pairs, threshold: float) -> float:
    """Share of pairs decided rightly, accepting similarity >= threshold; NaN is never accepted."""
    return float(np.mean((pairs.similarity >= threshold) == pairs.mated))


if __name__ == "__main__":
    main()
