"""What commands and workers import: whoever starts one pays for it, so what is not needed stays out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from frpipe.testing.tiny import tiny_detector, tiny_embedder

# Arrow and its readers, stores, the cluster, plots, statistics, ONNX graphs as objects, archives.
_HEAVY = ("pyarrow", "fsspec", "h5py", "ray", "pandas", "scipy", "matplotlib", "onnx", "tarfile", "asyncio")
_MODELS = ("numpy", "pydantic", "cv2", "onnxruntime", "PIL")


def _loaded(code: str, of: Sequence[str]) -> list[str]:
    """Which of some modules a new interpreter has imported after `code`."""
    asked = f"{code}\nimport sys; print('LOADED', *[m for m in {tuple(of)!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()[1:]


def _run(*words: str) -> str:
    return (
        "from frpipe.cli.main import main\n"
        f"try: main({list(words)!r})\n"
        "except SystemExit as end: assert end.code == 0, end\n"
    )


def test_help_needs_neither_settings_nor_models() -> None:
    assert _loaded(_run("--help"), (*_HEAVY, *_MODELS)) == []
    assert _loaded(_run("gallery", "enroll", "--help"), (*_HEAVY, *_MODELS)) == []


def test_a_command_does_not_import_the_others() -> None:
    others = ("frpipe.cli.gallery", "frpipe.cli.erase", "frpipe.cli.models")
    assert _loaded(_run("verify", "--help"), others) == []


def test_models_are_listed_without_running_one() -> None:
    assert _loaded(_run("models", "list"), (*_HEAVY, "cv2", "onnxruntime", "numpy")) == []


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Settings that choose two tiny models, which lie in the environment's folders."""
    cards, weights = tmp_path / "cards", tmp_path / "weights"
    cards.mkdir()
    weights.mkdir()
    detector = tiny_detector("yunet", weights / "detector.onnx")
    embedder = tiny_embedder(weights / "embedder.onnx")
    for card in (detector, embedder):
        text = yaml.safe_dump(card.model_dump(mode="json"))
        (cards / f"{card.name}.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("FRPIPE_CARD_DIR", str(cards))
    monkeypatch.setenv("FRPIPE_MODEL_DIR", str(weights))
    names = (f"detect.model={detector.name}", f"embed.model={embedder.name}")
    looks = ("detect.not_photographs=keep", "detect.refine=off")
    return [word for each in (*names, *looks) for word in ("--set", each)]


def test_two_photos_are_compared_without_tables_or_stores(tmp_path: Path, models: list[str]) -> None:
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[96:160, 96:160, 2] = 255
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    photo = str(tmp_path / "a.png")
    words = ["verify", photo, photo, "--faces", "largest", "--threshold", "0.5", *models]
    code = f"from frpipe.cli.main import main\nassert main({words!r}) == 0\n"
    assert _loaded(code, _HEAVY) == []


def test_what_works_on_photos_is_light() -> None:
    modules = "frpipe.stages.locate, frpipe.models.loading, frpipe.io.manifest.fetch"
    assert _loaded(f"import {modules}", _HEAVY) == []
