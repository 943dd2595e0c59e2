"""Count what is doubtful in the rows of a manifest, and no fault; it is said afterwards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.counted import counted
from frpipe.core.distinct import distinct
from frpipe.core.text import alike, canonical_text, likeness
from frpipe.core.text_column import canonical_column

# Words that programs write where nothing is known.
_NOBODY = ("nan", "null", "none", "nil", "n/a", "#n/a", "na", "<na>", "nat")
_SHOWN = 5
# Ids are compared by three hashes of eight bytes each: some 50 MB at most.
_MOST_IDS = 1 << 20


class Survey:
    """Counts over the subject ids of a manifest. Memory does not grow with the rows.

    nobody: texts, in lower case, that stand for no one.
    """

    def __init__(self, nobody: frozenset[str]) -> None:
        self._nobody = pa.array(sorted(nobody), pa.string())
        self._suspects = pa.array(sorted({*_NOBODY, *nobody}), pa.string())
        self._texts: Counter[str] = Counter()
        self._taken = nobody
        self._blank = self._padded = self._without = 0
        self._held: list[npt.NDArray[np.int64]] = []
        self._count = 0
        self._full = False

    def people(self, written: pa.Array) -> pa.Array:
        """Subject ids in Unicode NFC; null where the row names nobody."""
        trimmed = pc.utf8_trim_whitespace(written)
        blank = pc.equal(trimmed, "")
        folded = pc.utf8_lower(trimmed)
        self._blank += pc.sum(pc.and_(blank, pc.not_equal(written, ""))).as_py() or 0
        self._padded += pc.sum(pc.and_not(pc.not_equal(trimmed, written), blank)).as_py() or 0
        suspects = folded.filter(pc.is_in(folded, self._suspects))
        if len(suspects):
            self._texts.update(suspects.to_pylist())
        absent = pc.or_kleene(blank, pc.is_in(folded, self._nobody))
        named = pc.if_else(pc.fill_null(absent, True), None, written)
        self._without += named.null_count
        self._note(named)
        return canonical_column(named)

    def lines(self, rows: int) -> Iterator[str]:
        """Say how many people there are, where some are named. rows: of the whole manifest."""
        if self._count:
            least = "at least " if self._full else ""
            people = len(distinct(self._ids()[:, 1]))
            yield f"people: {least}{people:,}; {self._without:,} of {rows:,} rows name nobody"

    def remarks(self, people: Callable[[], Iterable[pa.Array]] | None = None) -> Iterator[str]:
        """Lines for whoever runs it; ids are counted, and never named.

        people: reads the subject ids once more, for a person at a terminal: a few are named then, as ASCII.
        """
        yield from self._of_nobody()
        if self._padded:
            yield (
                f"warning: {counted(self._padded, 'rows have')} blanks around subject_id, which make "
                "another person of it: take them out where they are not meant"
            )
        ids = self._ids()
        forms = _shared(ids[:, 1], ids[:, 0])
        meant = _shared(ids[:, 2], ids[:, 1])
        groups = _Groups(forms, meant, people() if people and len(forms) + len(meant) else ())
        if len(forms):
            yield f"subject ids in several Unicode forms, one person each: {groups.of_forms()}"
        if len(meant):
            yield (
                "warning: subject ids that differ only in case, blanks, width or invisible characters, each "
                f"another person: {groups.of_meant()}"
            )
        if self._full:
            yield f"subject ids after the first {_MOST_IDS:,} were not compared in how they are written"

    def _of_nobody(self) -> Iterator[str]:
        if self._blank:
            yield f"warning: {counted(self._blank, 'rows have')} a blank subject_id: nobody"
        found = {text: count for text, count in self._texts.items() if text in self._taken}
        if found:
            yield f"subject_id is {_counted(found)}: nobody, as manifest.nobody says"
        left = {text: count for text, count in self._texts.items() if text not in self._taken}
        if left:
            listed = json.dumps(sorted({*left, *self._taken}), ensure_ascii=False)
            yield (
                f"warning: subject_id is {_counted(left)}, each one person so; if it stands for nobody: "
                f"--set 'manifest.nobody={listed}'"
            )

    def _note(self, named: pa.Array) -> None:
        if self._full or named.null_count == len(named):
            return
        written = pc.unique(named.drop_null()).to_pylist()
        plain = [canonical_text(text) for text in written]
        hashes = [[hash(text) for text in texts] for texts in (written, plain, map(likeness, plain))]
        self._held.append(np.array(hashes, np.int64).T)
        self._count += len(written)
        if self._count > _MOST_IDS:
            self._held = [self._ids()]
            self._count = len(self._held[0])
            self._full = self._count > _MOST_IDS

    def _ids(self) -> npt.NDArray[np.int64]:
        """Hashes (n, 3) of each id as written, in NFC, and of its likeness."""
        return np.unique(np.concatenate([np.zeros((0, 3), np.int64), *self._held]), axis=0)


def _shared(keys: npt.NDArray[np.int64], values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The keys that stand for several values."""
    pairs = np.unique(np.stack([keys, values], axis=1), axis=0)
    found, counts = np.unique(pairs[:, 0], return_counts=True)
    return found[counts > 1]


class _Groups:
    """Ids that belong together, by the hashes that they share. people: all ids, or none to name."""

    def __init__(
        self, forms: npt.NDArray[np.int64], meant: npt.NDArray[np.int64], people: Iterable[pa.Array]
    ) -> None:
        self._forms, self._meant = set(forms.tolist()), set(meant.tolist())
        self._written: set[str] = set()
        for ids in people:
            self._written.update(
                text for text in pc.unique(ids.drop_null()).to_pylist() if self._belongs(text)
            )

    def of_forms(self) -> str:
        forms: dict[str, list[str]] = {}
        for text in sorted(self._written):
            forms.setdefault(canonical_text(text), []).append(text)
        return _named([texts for texts in forms.values() if len(texts) > 1], len(self._forms))

    def of_meant(self) -> str:
        return _named(alike(map(canonical_text, self._written)), len(self._meant))

    def _belongs(self, text: str) -> bool:
        plain = canonical_text(text)
        return hash(plain) in self._forms or hash(likeness(plain)) in self._meant


def _named(groups: list[list[str]], count: int) -> str:
    if not groups:
        return f"{count:,} (named by: frpipe manifest check)"
    more = f"; ... ({count:,} in all)" if count > _SHOWN else ""
    return "; ".join(" and ".join(map(ascii, group)) for group in groups[:_SHOWN]) + more


def _counted(texts: dict[str, int]) -> str:
    return " and ".join(f"{text!r} in {counted(count, 'rows')}" for text, count in sorted(texts.items()))
