"""The suppression lists that an enroll run obeys, as its workers are given them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa

from frpipe.gallery.photos import sourced
from frpipe.gallery.schema import SUBJECT_ID
from frpipe.gallery.suppression import CONTENTS, KINDS, SuppressionEntry, Suppressions
from frpipe.io.manifest.columns import ID


@dataclass(frozen=True, slots=True)
class Obeyed:
    """Persons and photos that are not enrolled. Falsy where there are none.

    entries: digests and their keys alone, one for each key; no text shows them.  source: what the galleries
    have before the ids of these photos.
    """

    entries: tuple[SuppressionEntry, ...] = field(default=(), repr=False)
    source: str = ""

    @classmethod
    def of(cls, lists: Iterable[Suppressions], source: str = "") -> Obeyed:
        """Join the entries of lists; when, why and by whom stays with them."""
        sets: dict[str, dict[str, set[str]]] = {}
        for entry in (entry for each in lists for entry in each.entries):
            mine = sets.setdefault(entry.key, {kind: set() for kind in KINDS})
            for kind in KINDS:
                mine[kind] |= getattr(entry, kind)
        entries = (
            SuppressionEntry(key, "", "", "", *(frozenset(sets[key][kind]) for kind in KINDS))
            for key in sorted(sets)
        )
        return cls(tuple(entries), source)

    def __bool__(self) -> bool:
        return bool(self.entries)

    def rows(self, plan: pa.Table) -> frozenset[int]:
        """The rows of a part's plan whose photo or person is named by id."""
        if not self:
            return frozenset()
        ids = {ID: sourced(plan[ID], self.source), SUBJECT_ID: plan[SUBJECT_ID]}
        return frozenset(np.flatnonzero(self.suppressions().mask(pa.table(ids))).tolist())

    def suppressions(self) -> Suppressions:
        """The entries as a list that can be asked."""
        return Suppressions(self.entries)

    def content_test(self) -> Callable[[str], bool]:
        """A test of a file's SHA-256, in hex: whether the file is named by its content."""
        return partial(self.suppressions().holds, CONTENTS)


NOBODY = Obeyed()
