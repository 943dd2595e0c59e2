"""The search for photos that cost a worker: whom it blames, and whom it does not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from enrollment import write_manifest

from frpipe.core.config import load_config
from frpipe.core.errors import FrpipeError
from frpipe.io.folder import Folder
from frpipe.io.partition import plan
from frpipe.models.registry import Registry
from frpipe.stages.sandbox import find_poison
from frpipe.stages.spec import RunSpec


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the decoder of `poison.py` can be imported by the child."""
    monkeypatch.syspath_prepend(os.fspath(Path(__file__).parent))
    yield tmp_path


def _search(folder: Path, files: list[Path], *settings: str) -> dict[int, tuple[str, int]]:
    manifest = write_manifest(folder / "m.csv", files)
    out = folder / "out"
    plan(str(manifest), Folder.at(str(out)))
    registry = Registry.default()
    spec = RunSpec(
        output=str(out),
        launch="test",
        config=load_config(None, ["decode.plugins=[poison:decode]", *settings]),
        detector=registry.card("yunet_2023mar"),
        embedder=registry.card("sface_2021dec"),
    )
    found = find_poison(spec, 0, len(files), {}, attempt=2)
    return {row: (poison.reason.value, poison.attempts) for row, poison in found.items()}


def _write(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def test_every_photo_that_crashes_is_found_and_no_other(folder: Path, photos: list[Path]) -> None:
    bad = [_write(folder, f"{i}.bin", b"POISON crash") for i in range(2)]
    files = [bad[0], *photos[:3], folder / "missing.jpg", bad[1], photos[3]]
    assert _search(folder, files) == {0: ("crashed_worker", 3), 5: ("crashed_worker", 3)}


def test_a_photo_that_cannot_be_fetched_is_not_blamed(folder: Path, photos: list[Path]) -> None:
    os.mkfifo(folder / "pipe.jpg")
    assert _search(folder, [photos[0], folder / "missing.jpg", folder / "pipe.jpg", photos[1]]) == {}


def test_a_low_memory_limit_blames_no_ordinary_photo(folder: Path, photos: list[Path]) -> None:
    assert _search(folder, photos[:6], "resources.row_memory_mb=512") == {}


def test_an_error_of_the_configuration_is_raised_and_no_photo_blamed(
    folder: Path, photos: list[Path]
) -> None:
    with pytest.raises(FrpipeError, match="no_such_module"):
        _search(folder, photos[:2], "decode.plugins=[no_such_module:decode]")
