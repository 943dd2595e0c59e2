"""Plug-ins by name, frpipe's own and others' by entry points: nothing is imported before it is named."""

from __future__ import annotations

import difflib
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from frpipe.core.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

STAGES, DETECTORS = "frpipe.stages", "frpipe.detectors"
# frpipe's own, by group and name.
BUILT_IN = {STAGES: {"pad": "frpipe.stages.pad.stage:Pad", "quality": "frpipe.stages.quality.stage:Quality"}}


def names(group: str) -> list[str]:
    """Names of a group, frpipe's own and those that installed packages register, in order."""
    return sorted(_registered(group, tuple(sys.path)))


def load(group: str, name: str) -> Any:
    """Import what is registered under a name.

    Raises ConfigError: no installed package registers it, or several do, or its module cannot be imported.
    """
    found = _registered(group, tuple(sys.path))
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        there = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"no installed package brings {name!r} ({group}: {', '.join(sorted(found)) or 'none'})",
            f"{there}install the package that does, on this machine and on every node, or leave it out",
        )
    point, *others = found[name]
    if others:
        packages = ", ".join(sorted(each.dist.name if each.dist else "frpipe" for each in (point, *others)))
        raise ConfigError(f"several packages bring {name!r}: {packages}", "uninstall all but one of them")
    try:
        return point.load()
    except Exception as error:
        raise ConfigError(
            f"{name!r} ({point.value}) cannot be imported: {type(error).__name__}: {error}",
            "mend or update the package, on every node, or leave it out",
        ) from error


@lru_cache(maxsize=8)
def _registered(group: str, _path: tuple[str, ...]) -> dict[str, list[EntryPoint]]:
    """Entry points by name; what is registered twice alike counts once. _path: where to look for packages."""
    # Slow, and most runs name nothing.
    from importlib.metadata import EntryPoint, entry_points  # noqa: PLC0415

    found: dict[str, dict[str, EntryPoint]] = {
        name: {value: EntryPoint(name, value, group)} for name, value in BUILT_IN.get(group, {}).items()
    }
    for point in entry_points(group=group):
        found.setdefault(point.name, {})[point.value] = point
    return {name: [*points.values()] for name, points in found.items()}
