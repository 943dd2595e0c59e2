"""Proof that a store creates a file for one writer only. Every claim and every commit rests on it.

A store that ignores the condition of a PUT answers both of two rivals with success: each takes what it wrote
for what is kept, and one of them is wrong without a word. So a process creates one hidden object twice before
it creates anything else there; the second must be refused. It is asked once per store and process.
"""

from __future__ import annotations

import uuid
from collections.abc import Hashable, Iterable
from contextlib import suppress
from typing import Protocol

from frpipe.core.errors import StorageError
from frpipe.io.storage.failure import codes_of

PROBE_PREFIX = ".frpipe-probe-"
REMEDY = (
    "use a store that honours If-None-Match: * on PUT (an update of this one may), or a local or NFS folder; "
    "`frpipe storage check URI` tries it"
)
_UNKNOWN_CODES = frozenset({"NotImplemented", "501"})
_proven: set[Hashable] = set()


class Conditional(Protocol):
    """A store under test. try_create: whether the file was created; False: it was there."""

    @property
    def address(self) -> str: ...
    def try_create(self, name: str, data: bytes) -> bool: ...
    def delete(self, names: Iterable[str]) -> None: ...


def refuse_unconditional(place: Hashable, store: Conditional) -> None:
    """Raise StorageError, the store named, unless it refuses to create a file that is there.

    place: what names the store in this process; of one that has proven itself nothing is asked again.
    """
    if place in _proven:
        return
    if not is_conditional(store):
        raise StorageError(
            f"{store.address} creates a file that is there already: it does not honour If-None-Match, so "
            "that of two writers at once one would lose its work unnoticed",
            REMEDY,
        )
    _proven.add(place)


def is_conditional(store: Conditional) -> bool:
    """Whether the second of two creates is refused. What is tried is removed again.

    A first create that is refused is proof, too: its answer was lost, and the store was asked once more.
    Raises StorageError where the store does not know the condition, and what storage raises otherwise.
    """
    name = f"{PROBE_PREFIX}{uuid.uuid4().hex}"
    try:
        return not (store.try_create(name, b"1") and store.try_create(name, b"2"))
    except Exception as error:
        if codes_of(error).isdisjoint(_UNKNOWN_CODES):
            raise
        raise StorageError(f"{store.address} does not know If-None-Match on PUT", REMEDY) from error
    finally:
        # Who may not delete leaves a byte under a hidden name: no reason to refuse the store.
        with suppress(Exception):
            store.delete([name])
