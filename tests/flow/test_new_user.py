"""From nothing to vectors of 512 values in three commands; a local server plays the internet.

The weights are stand-ins of the right shapes with random values: a residual network of 512 outputs, and a
detector of red squares. Cards pin them in place of the real ones, at the real addresses.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from web_files import Web, serving

ROOT = Path(__file__).resolve().parents[2]
CARDS, FIXTURES = ROOT / "models/cards", ROOT / "tests/fixtures"
DETECTOR_ADDRESS = "https://weights.example/detector.onnx"
Run = Callable[..., subprocess.CompletedProcess[str]]


def random_resnet() -> bytes:
    """(N, 3, 112, 112) to (N, 512): a stem, one residual block, a linear layer."""
    random = np.random.default_rng(0)
    weights = {
        "stem": random.normal(0, 0.1, (8, 3, 16, 16)),
        "inner": random.normal(0, 0.1, (8, 8, 3, 3)),
        "linear": random.normal(0, 0.1, (8 * 7 * 7, 512)),
    }
    nodes = [
        helper.make_node("Conv", ["input.1", "stem"], ["a"], strides=[16, 16]),
        helper.make_node("Conv", ["a", "inner"], ["b"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Add", ["a", "c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("MatMul", ["e", "linear"], ["683"]),
    ]
    graph = helper.make_graph(
        nodes,
        "random_resnet",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["N", 3, 112, 112])],
        [helper.make_tensor_value_info("683", TensorProto.FLOAT, ["N", 512])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def pinned(card: Path, data: bytes, folder: Path, **changes: Any) -> dict[str, Any]:
    """Write a card for other weights, and return it."""
    fields = yaml.safe_load(card.read_text())
    fields |= {"sha256": hashlib.sha256(data).hexdigest(), **changes}
    fields["source"]["size_bytes"] = len(data)
    folder.mkdir(exist_ok=True)
    (folder / f"{fields['name']}.yaml").write_text(yaml.safe_dump(fields))
    return dict(fields)


@pytest.fixture
def frpipe(tmp_path: Path) -> Iterator[Run]:
    """`frpipe`, where nothing was fetched yet, and both weights can be."""
    arcface, detector = random_resnet(), (FIXTURES / "models/tiny_yunet.onnx").read_bytes()
    cards = tmp_path / "cards"
    address = pinned(CARDS / "arcface_buffalo_l.yaml", arcface, cards)["source"]["uri"]
    source = {"kind": "uri", "uri": DETECTOR_ADDRESS}
    pinned(
        FIXTURES / "cards/tiny_yunet.yaml",
        detector,
        cards,
        name="retinaface_mv1_025",
        file="retinaface_mv1_025.onnx",
        aliases=["RetinaFace"],
        source=source,
    )
    served = {address: arcface, DETECTOR_ADDRESS: detector}
    web = Web({f"/{urlsplit(uri).netloc}{urlsplit(uri).path}": data for uri, data in served.items()})
    with serving(web):
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("FRPIPE_") and not name.lower().endswith("_proxy")
        }
        environment = kept | {
            "FRPIPE_CARD_DIR": str(cards),
            "FRPIPE_CACHE": str(tmp_path / "cache"),
            "FRPIPE_MODEL_MIRROR": web.address,
            "PYTHONPATH": str(ROOT),
        }

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "frpipe", *arguments],
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
                cwd=tmp_path,
                env=environment,
            )

        yield run


def test_three_commands_lead_to_512_values(frpipe: Run, tmp_path: Path) -> None:
    config = ["--config", str(ROOT / "configs/arcface512.yaml"), "--executor", "local"]
    pulled = frpipe("models", "pull", "RetinaFace", "ArcFace", "--accept", "insightface-research")
    assert pulled.returncode == 0, pulled.stderr
    assert "licence of the weights: InsightFace model terms: non-commercial" in pulled.stdout
    scanned = frpipe("manifest", "scan", str(FIXTURES / "photos"), "-o", "photos.parquet")
    assert scanned.returncode == 0, scanned.stderr
    enrolled = frpipe("run", "enroll", "--manifest", "photos.parquet", "--output", "out", *config)
    assert enrolled.returncode == 0, enrolled.stderr
    faces = pq.read_table(tmp_path / "out/faces")
    vectors = np.stack(faces["embedding"].to_numpy(zero_copy_only=False))
    assert vectors.shape == (len(faces), 512)
    assert len(faces) > 4
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_without_the_weights_the_one_command_is_named(frpipe: Run, tmp_path: Path) -> None:
    command = "frpipe models pull retinaface_mv1_025 arcface_buffalo_l --accept insightface-research"
    config = str(ROOT / "configs/arcface512.yaml")
    assert frpipe("manifest", "scan", str(FIXTURES / "photos"), "-o", "photos.parquet").returncode == 0
    enroll = ["run", "enroll", "--manifest", "photos.parquet", "--output", "out", "--config", config]
    photo = str(FIXTURES / "photos/anna-1.png")
    for arguments in (enroll, [*enroll, "--dry-run"], ["verify", photo, photo, "--config", config]):
        ended = frpipe(*arguments)
        assert ended.returncode == 4
        assert command in ended.stderr
    by_alias = [*enroll[:-2], "--set", "embed.model=ArcFace", "--set", "detect.model=RetinaFace"]
    assert command in frpipe(*by_alias).stderr
    refused = frpipe("models", "pull", "ArcFace")
    assert refused.returncode == 4
    assert "non-commercial research only" in refused.stderr
    assert "frpipe models pull arcface_buffalo_l --accept insightface-research" in refused.stderr
