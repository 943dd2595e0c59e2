"""The search for photos that cost a worker: whom it blames, and whom it does not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from enrollment import write_manifest

from frpipe.core.config import load_config
from frpipe.core.errors import FrpipeError
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.spec import GallerySpec
from frpipe.gallery.suppression import Names
from frpipe.io.output.plan import plan
from frpipe.io.storage.folder import Folder
from frpipe.models.registry import Registry
from frpipe.stages.obeyed import NOBODY, Obeyed
from frpipe.stages.quarantine import sandbox
from frpipe.stages.quarantine.sandbox import find_poison
from frpipe.stages.run_spec import RunSpec


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the decoder of `poison.py` can be imported by the child."""
    monkeypatch.syspath_prepend(os.fspath(Path(__file__).parent))
    yield tmp_path


def _search(
    folder: Path, files: list[Path], *settings: str, obeyed: Obeyed = NOBODY
) -> dict[int, tuple[str, int]]:
    manifest = write_manifest(folder / "m.csv", files)
    out = folder / "out"
    plan(str(manifest), Folder.at(str(out)), len(files))
    registry = Registry.default()
    spec = RunSpec(
        output=str(out),
        launch="test",
        config=load_config(None, ["decode.plugins=[poison:decode]", *settings]),
        detector=registry.card("yunet_2023mar"),
        embedder=registry.card("sface_2021dec"),
        obeyed=obeyed,
    )
    found = find_poison(spec, 0, range(len(files)), {}, attempt=2)
    return {row: (poison.reason.value, poison.attempts) for row, poison in found.items()}


def _write(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def test_every_photo_that_crashes_is_found_and_no_other(folder: Path, photos: list[Path]) -> None:
    bad = [_write(folder, f"{i}.bin", b"POISON crash") for i in range(2)]
    files = [bad[0], *photos[:3], folder / "missing.jpg", bad[1], photos[3]]
    assert _search(folder, files) == {0: ("crashed_worker", 3), 5: ("crashed_worker", 3)}


def test_a_photo_that_is_suppressed_by_its_content_is_not_decoded_in_a_search_either(
    folder: Path, photos: list[Path]
) -> None:
    bad = _write(folder, "bad.bin", b"POISON crash")
    names = Names(contents=frozenset({hashlib.sha256(bad.read_bytes()).hexdigest()}))
    lists = Gallery.ensure(str(folder / "g"), GallerySpec(16, "e" * 64, "p" * 64, "d" * 64)).suppressions
    lists.suppress([names])
    assert _search(folder, [bad, photos[0]], obeyed=Obeyed.of([lists.read()])) == {}


def test_one_killer_among_many_photos_costs_four_children_and_none_that_is_slow_is_blamed(
    folder: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[bool, int]] = []
    real = sandbox._try_rows

    def counted(spec: RunSpec, part: int, rows: Sequence[int], *, alone: bool) -> object:
        tried.append((alone, len(rows)))
        return real(spec, part, rows, alone=alone)

    monkeypatch.setattr(sandbox, "_try_rows", counted)
    files = [*photos[:30], _write(folder, "bad.bin", b"POISON crash"), *photos[30:]]
    assert _search(folder, files) == {30: ("crashed_worker", 3)}
    assert [alone for alone, _ in tried] == [False, True, True, False]
    assert tried[1][1] <= 8
    assert tried[3][1] <= 30 + 8


def test_a_part_that_gets_through_is_tried_once_with_photos_fetched_ahead(
    folder: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[bool] = []
    real = sandbox._try_rows

    def counted(*order: object, alone: bool) -> object:
        tried.append(alone)
        return real(*order, alone=alone)

    monkeypatch.setattr(sandbox, "_try_rows", counted)
    assert _search(folder, photos[:20]) == {}
    assert tried == [False]


@pytest.mark.parametrize("dies_again", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_photo_is_condemned_only_if_it_does_it_twice_alone(
    folder: Path, photos: list[Path], dies_again: bool
) -> None:
    """The decoder kills as often as the file `lives` is long; the one time together is the first."""
    lives = _write(folder, "lives", b"xxx" if dies_again else b"xx")
    files = [*photos[:2], _write(folder, "bad.bin", b"POISON" + os.fsencode(lives) + b" often"), photos[2]]
    assert _search(folder, files) == ({2: ("crashed_worker", 3)} if dies_again else {})


def test_photos_that_kill_only_together_are_not_condemned(folder: Path, photos: list[Path]) -> None:
    pair = [_write(folder, f"{name}.bin", b"POISON pair") for name in "ab"]
    assert _search(folder, [photos[0], *pair, *photos[1:12]]) == {}


@pytest.mark.parametrize(("how", "reason"), [("hang", "hung_worker"), ("memory", "exhausted_memory")])
def test_hanging_and_greedy_photos_are_named_as_such(
    how: str, reason: str, folder: Path, photos: list[Path]
) -> None:
    files = [photos[0], _write(folder, "bad.bin", b"POISON" + how.encode()), photos[1]]
    limits = ("resources.row_memory_mb=1024", "resources.row_timeout_s=4")
    assert _search(folder, files, *limits) == {1: (reason, 3)}


def test_opencv_has_one_thread_in_the_child(folder: Path, photos: list[Path]) -> None:
    assert _search(folder, [photos[0], _write(folder, "bad.bin", b"POISON threads"), photos[1]]) == {}


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
