"""Packages as if they were installed: their code and their entry points on the path, without pip."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent / "plugin_package"


@contextmanager
def example(place: Path) -> Iterator[None]:
    """The package in tests/plugin_package, with the entry points of its own pyproject.toml."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with registered(place, project["entry-points"], project["name"], EXAMPLE):
        yield


@contextmanager
def registered(
    place: Path, points: Mapping[str, Mapping[str, str]], name: str = "some-package", *code: Path
) -> Iterator[None]:
    """Entry points by group and name. place: an empty folder for what pip would write."""
    written = place / f"{name.replace('-', '_')}-0.1.dist-info"
    written.mkdir(parents=True)
    (written / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    lines = (
        line
        for group, targets in points.items()
        for line in (f"[{group}]", *(f"{key} = {target}" for key, target in targets.items()))
    )
    (written / "entry_points.txt").write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(place), *map(str, code), *sys.path])
        yield
