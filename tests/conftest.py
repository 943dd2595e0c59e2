"""Fixtures for every test."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Commands that tests start find the programs of this environment, as where it is activated.
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of development models and photos; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("FRPIPE_SHARED", ROOT.parent / "shared"))
    if not (folder / "models").is_dir():
        pytest.skip("the development models and photos (../shared) are not on this machine")
    return folder
