"""What commands and workers import: whoever starts one pays for it, so what is not needed stays out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

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


def test_two_photos_are_compared_without_tables_stores_or_a_cluster(tmp_path: Path) -> None:
    """Photos without a face: read, decoded and searched, which is all but the embedding."""
    for name in ("a.jpg", "b.jpg"):
        noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
        cv2.imwrite(str(tmp_path / name), noise)
    code = (
        "from frpipe.cli.main import main\n"
        f"assert main(['verify', {str(tmp_path / 'a.jpg')!r}, {str(tmp_path / 'b.jpg')!r}]) == 9\n"
    )
    assert _loaded(code, _HEAVY) == []


@pytest.mark.parametrize(
    "module", ["frpipe.stages.locate", "frpipe.models.loading", "frpipe.io.storage.fetch"]
)
def test_what_every_worker_imports_is_light(module: str) -> None:
    assert _loaded(f"import {module}", _HEAVY) == []
