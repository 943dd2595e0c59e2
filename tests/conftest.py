"""Fixtures for every test."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from frpipe.models.card import Card
    from frpipe.models.registry import Registry

ROOT = Path(__file__).resolve().parent.parent
_SHARED = Path(os.environ.get("FRPIPE_SHARED", ROOT.parent / "shared"))
# Commands that tests start find the programs of this environment, as where it is activated.
os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
# In the background of a script or under nohup these are ignored, and so by every process of the tests.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of development models and photos; tests that need it are skipped where it is absent."""
    if not (_SHARED / "models").is_dir():
        pytest.skip("the development models and photos (../shared) are not on this machine")
    return _SHARED


@pytest.fixture(scope="session")
def real_models() -> Registry:
    """The weights that `make models` has pulled, and those of ../shared."""
    from frpipe.models.registry import Registry

    registry, folder = Registry.default(), _SHARED / "models"
    return replace(registry, model_dirs=(folder,)) if folder.is_dir() else registry


@pytest.fixture(scope="session")
def real_card(real_models: Registry) -> Callable[[str], Card]:
    """Cards by name; a test of one whose weights are not on this machine is skipped."""

    def found(name: str) -> Card:
        card = real_models.card(name)
        if real_models.locate(card) is None:
            pytest.skip(f"the weights of {name} are not on this machine")
        return card

    return found


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
