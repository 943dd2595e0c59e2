"""A double of a folder that fails at a chosen operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from frpipe.io.storage.folder import Folder


class Crash(Exception):
    """What the double raises."""


class CrashingFolderDouble(Folder):
    """A folder that fails at the k-th operation that changes it, before or after the change is made."""

    def armed(self, at: int, *, after: bool) -> CrashingFolderDouble:
        object.__setattr__(self, "_left", at)
        object.__setattr__(self, "_after", after)
        return self

    def _change(self, real: Callable[..., Any], *given: Any) -> Any:
        object.__setattr__(self, "_left", self._left - 1)
        if self._left < 0 or (self._left == 0 and not self._after):
            raise Crash
        done = real(*given)
        if self._left == 0:
            raise Crash
        return done

    def write(self, name: str, data: bytes) -> None:
        self._change(super().write, name, data)

    def create(self, name: str, data: bytes) -> bool:
        return bool(self._change(super().create, name, data))

    def adopt(self, name: str, source: Path) -> None:
        self._change(super().adopt, name, source)

    def draft(self, name: str) -> Path | None:
        return self._change(super().draft, name)  # type: ignore[no-any-return]

    def delete(self, name: str) -> None:
        self._change(super().delete, name)

    def delete_all(self, names: Iterable[str]) -> None:
        for name in names:
            self.delete(name)
