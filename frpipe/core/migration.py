"""Other libraries' words that mean what ours do: keywords of calls, keys of results."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def also_called(**ours: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function to take other libraries' keywords for its own. ours: each keyword's name here."""

    def decorate(call: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(call)
        def named(*values: P.args, **words: P.kwargs) -> R:
            renamed: Any = {ours.get(word, word): value for word, value in words.items()}
            return call(*values, **renamed)

        return named

    return decorate


class Answer:
    """A result (a dataclass) that is a mapping of its fields, too: `result["name"]`, `dict(result)`."""

    __slots__ = ()

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def __contains__(self, name: object) -> bool:
        return any(name == each for each in self.keys())

    def get(self, name: str, default: Any = None) -> Any:
        """The field of that name, or the default."""
        return self[name] if name in self.keys() else default

    def __getitem__(self, name: str) -> Any:
        if name not in self.keys():
            raise KeyError(name)
        return getattr(self, name)

    def keys(self) -> Iterator[str]:
        """Names of the fields."""
        return (field.name for field in fields(self))  # type: ignore[arg-type]
