"""Records in the logs of published tables: which suppression list their rows obey.

A record stands among the runs of a version, for a source of photos or for a gallery. Its number stands for
the list and for all else that decides: no row of theirs is one that the list would take out. It stays true
while rows are moved to other files or removed, and where rows come that were filtered by the same list. A
merge of others takes it out in the same commit.
"""

from __future__ import annotations

from collections.abc import Mapping

from frpipe.io.tables.state import State
from frpipe.jobs.publish.sources import digest_of

SOURCE, GALLERY = "obeyed.source", "obeyed.gallery"
PURGE = "purge"
"""The version that took people out: files of older ones hold their rows until these are removed; or 0."""


def record(kind: str, name: str | None) -> str:
    """Name a record. name: of the source, or id of the gallery; None: the list speaks for all."""
    return kind if name is None else f"{kind}.{digest_of(name)[:32]}"


def number(*facts: object) -> int:
    """Compute the number that stands for a list and what else decides; it names nobody."""
    return int(digest_of(facts)[:15], 16) or 1


def kept(base: State, filtered: Mapping[str, int]) -> dict[str, int]:
    """Select the records that change with a merge: those that do not hold any more get 0.

    filtered: by the name of each record that the rows concern, the number that they were filtered by.
    """
    found = {name: base.applied.get(name, 0) for name in filtered}
    # In a table without files every list is obeyed.
    now = {name: each if found[name] == each or not base.files else 0 for name, each in filtered.items()}
    return {name: each for name, each in now.items() if each != found[name]}


def owed(base: State) -> dict[str, int]:
    """Note that the files of a version, and of older ones, have rows of people who are taken out of it."""
    return {PURGE: base.version + 1}
