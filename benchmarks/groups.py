"""Recall and precision of every detector at hand on annotated group photos, at IoU 0.5.

    FRPIPE_MODEL_DIR=../shared/models python benchmarks/groups.py ../shared/data/groups/faces

The annotations are dlib's XML: squarish regions of the face. Each found face may explain one region; the best
scored come first. Photos that the XML does not name are left out: nobody has said what is on them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from frpipe.core.config import DecodeConfig, DetectConfig, PoolConfig
from frpipe.models.detectors.faces import Faces
from frpipe.models.detectors.nms import iou
from frpipe.models.loading import load_detector
from frpipe.models.registry import Registry
from frpipe.vision.decode import decode

MIN_IOU = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of the photos and their testing.xml and training.xml")
    options = parser.parse_args()
    truth = read_truth(options.folder)
    paths = [options.folder / name for name in sorted(truth)]
    photos = [decode(path.read_bytes(), DecodeConfig()).pixels for path in paths]
    regions = [truth[path.name] for path in paths]
    print(f"{len(photos)} photos, {sum(map(len, regions))} faces")
    print(f"{'detector':<24}{'threshold':>10}{'recall':>9}{'precision':>11}{'found':>7}")
    result = {}
    registry = Registry.default()
    for card in registry.cards().values():
        if card.detector is None or registry.locate(card) is None:
            continue
        detector = load_detector(card, DetectConfig(), PoolConfig())
        scores = measure(detector.detect(photos), regions)
        result[card.name] = scores
        print(
            f"{card.name:<24}{card.detector.score_threshold:>10.2f}{scores['recall']:>9.3f}"
            f"{scores['precision']:>11.3f}{scores['found']:>7}"
        )
    print(json.dumps(result))


def read_truth(folder: Path) -> dict[str, np.ndarray]:
    """File name -> (k, 4) float32 xyxy."""
    truth = {}
    for name in ("testing.xml", "training.xml"):
        for image in ElementTree.parse(folder / name).iter("image"):
            rows = [
                [float(box.get(key, "nan")) for key in ("left", "top", "width", "height")]
                for box in image.findall("box")
            ]
            boxes = np.array(rows, np.float32).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            truth[str(image.get("file"))] = boxes
    return truth


def measure(found: list[Faces], regions: list[np.ndarray]) -> dict[str, float]:
    """Recall, precision and counts over all photos."""
    hits = sum(matched(faces, boxes) for faces, boxes in zip(found, regions, strict=True))
    total = sum(map(len, found))
    wanted = sum(map(len, regions))
    return {
        "recall": round(hits / wanted, 4),
        "precision": round(hits / max(1, total), 4),
        "hits": hits,
        "found": total,
    }


def matched(faces: Faces, boxes: np.ndarray) -> int:
    """How many regions are found, each by a face of its own."""
    free = list(range(len(boxes)))
    for face in faces.boxes:
        overlaps = iou(face[None], boxes[free]).reshape(-1) if free else np.zeros(0)
        if len(overlaps) and overlaps.max() >= MIN_IOU:
            free.pop(int(overlaps.argmax()))
    return len(boxes) - len(free)


if __name__ == "__main__":
    main()
