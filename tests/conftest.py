"""Fixtures for every test."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_SHARED = Path(os.environ.get("FRPIPE_SHARED", ROOT.parent / "shared"))
# Commands that tests start find the programs of this environment, as where it is activated.
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of development models and photos; tests that need it are skipped where it is absent."""
    if not (_SHARED / "models").is_dir():
        pytest.skip("the development models and photos (../shared) are not on this machine")
    return _SHARED


@pytest.fixture(scope="session")
def real_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of real people with photos of theirs: LFW, or portraits out of the demo's photos."""
    from real_photos import cut_portraits, demo_photos

    lfw, demo = _SHARED / "data/lfw/images", demo_photos()
    if lfw.is_dir():
        return lfw
    if demo is None:
        pytest.skip("no photos of people are on this machine: python tests/real_photos.py fetches the demo's")
    return cut_portraits(demo, tmp_path_factory.mktemp("people"))
