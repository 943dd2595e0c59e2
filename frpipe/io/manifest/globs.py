"""Patterns for paths: `*` and `?` stay in their folder, `**` does not, `[...]` is one character of a set.

`**/` also stands for no folder at all. A character that means something is taken as it is inside brackets:
`[[]`, `[*]`, `[?]`. A `[` that nothing closes is a bracket. Paths and patterns are compared in Unicode NFC.
"""

from __future__ import annotations

import re

from frpipe.core.errors import ConfigError
from frpipe.core.text import canonical_text

_TOKEN = re.compile(r"(?<![^/])\*\*/|\*\*+|\*|\?|\[[!^]?\]?[^]/]*\]|.", re.DOTALL)
_MEANING = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
_SET_OPERATORS = re.compile(r"[\\\[\]^&~|]")


class Glob:
    """A pattern for whole paths, relative and with `/` between segments. Raises ConfigError: no pattern."""

    def __init__(self, pattern: str) -> None:
        try:
            self._regex = re.compile("".join(map(_translated, _TOKEN.findall(canonical_text(pattern)))), re.S)
        except re.error:
            raise ConfigError(
                f"{pattern} is no pattern for paths", "write ranges as [a-z]; a bracket itself is [[]"
            ) from None

    def matches(self, path: str) -> bool:
        """Whether a path, already in NFC, matches as a whole."""
        return self._regex.fullmatch(path) is not None


def _translated(token: str) -> str:
    if token in _MEANING:
        return _MEANING[token]
    if token.startswith("**"):
        return ".*"
    if len(token) == 1:
        return re.escape(token)
    is_negated = token[1] in "!^"
    members = _SET_OPERATORS.sub(lambda found: f"\\{found[0]}", token[1 + is_negated : -1])
    return f"(?!/)[{'^' * is_negated}{members}]"
