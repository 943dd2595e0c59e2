"""Read every file of a run back after an erasure, and look for what was erased."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from unicodedata import normalize

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from frpipe.core.counted import counted
from frpipe.core.errors import FileDamaged, OutputError
from frpipe.gallery.photos import image_ids
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.erasure.journal import ERASED
from frpipe.io.erasure.needles import Haystack
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.in_order import in_order
from frpipe.io.storage.whole_file import bytes_of, read_whole
from frpipe.jobs.erase.columns import names_any

# A shorter id may be a word, a number, or a part of one: it is looked for in columns of ids alone.
LONG_BYTES = 8
_OWN = re.compile(
    r"(images|faces|held|embeddings/[a-z0-9_.]+|_plan)/part-\d{6,}\.parquet|_plan/plan\.json|"
    + "|".join(
        map(re.escape, (run.RUN, run.FILES, run.REPORT, run.REPORT_TEXT, run.SUCCESS, run.ERASING, ERASED))
    )
)
_SHOWN = 5
# These are searched by kind: the id of a person may be that of a photo, too.
_BY_KIND = frozenset({"image_id", "subject_id", "face_id"})
# Characters that make an id beside them a part of another one.
_WORD = rb"[\w\x80-\xff-]"
_WORDS = re.compile(_WORD + rb"+")


class ErasureError(OutputError):
    """An error: data of erased people are left below a run."""

    code = "erasure"


@dataclass(frozen=True, slots=True)
class Searched:
    """The files that a proof has read.

    others: files that are not frpipe's, of them `hidden` with a name that begins with a dot.  unread: links
    to folders and what is no file: these were not searched.
    """

    files: int = 0
    others: int = 0
    hidden: int = 0
    unread: tuple[str, ...] = ()

    def __add__(self, other: Searched) -> Searched:
        return Searched(
            self.files + other.files,
            self.others + other.others,
            self.hidden + other.hidden,
            (*self.unread, *other.unread),
        )

    def text(self) -> str:
        """Describe the scope of the proof: what it covers, and what it does not."""
        hidden = f", {self.hidden:,} of them hidden" if self.hidden else ""
        text = f"{counted(self.files, 'files')} read{hidden}"
        if not self.unread:
            return text
        more = f" and {len(self.unread) - _SHOWN:,} more" if len(self.unread) > _SHOWN else ""
        shown = ", ".join(self.unread[:_SHOWN])
        return f"{text}; NOT searched, as links to folders are not followed: {shown}{more}"


@dataclass(frozen=True)
class Proof:
    """A proof that erased people are in no file of a folder.

    ids: looked for in the columns of ids, by digest.  texts: the same ids, as far as they are known; the long
    ones are looked for everywhere.  vectors: looked for in the bytes of every file.  own: names of frpipe's
    files.  but: names that are not searched.  Hidden files are searched too.
    """

    out: Folder
    ids: ErasedIds
    texts: frozenset[str]
    vectors: Haystack
    own: re.Pattern[str] = _OWN
    but: frozenset[str] = frozenset()

    def prove(self) -> Searched:
        """Read every file, a few at a time.

        Raises ErasureError where something is found.
        """
        everything = [(name, is_file) for name, is_file in self.out.everything() if name not in self.but]
        names = [name for name, is_file in everything if is_file]
        unread = tuple(name for name, is_file in everything if not is_file)
        held = [(n, what) for n, what in zip(names, self._looks(names), strict=True) if what]
        held += [(n, "an id in its name") for n in unread if self._stands_in(os.fsencode(n))]
        if held:
            shown = [f"{name if self.own.fullmatch(name) else _origin(name)} ({what})" for name, what in held]
            more = f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else ""
            raise ErasureError(
                f"after the erasure {len(held):,} of {len(names):,} files below {self.out.uri} hold what was "
                f"erased: {', '.join(shown[:_SHOWN])}{more}",
                "delete what is not frpipe's; where another column names an erased id, erase those photos "
                "with --image; then run the same command again",
            )
        others = [name for name in names if self.own.fullmatch(name) is None]
        return Searched(len(names), len(others), sum(map(_is_hidden, names)), unread)

    def _looks(self, names: Sequence[str]) -> Iterator[str]:
        return in_order(lambda name: ", ".join(self._look(name)), names)

    def _look(self, name: str) -> Iterator[str]:
        try:
            data = bytes_of(self.out, name)
        except FileDamaged:  # removed since it was listed
            return
        own = self.own.fullmatch(name) is not None
        if not own and self._stands_in(os.fsencode(name)):
            yield "an id in its name"
        if self.vectors.found_in(data):
            yield "a vector"
        if name.endswith(".parquet"):
            yield from self._columns(name)
        elif own and name.endswith(".json"):
            if not self._long_set.isdisjoint(_leaves(read_whole(self.out, name, json.loads))):
                yield "an id"
        elif any(map(self._stands_in, _texts_of(name, data))):
            yield "an id"

    def _columns(self, name: str) -> Iterator[str]:
        try:
            names, table = read_whole(self.out, name, _text_columns)
        except FileDamaged:
            yield "cannot be read"
            return
        plain = {each for each in _BY_KIND & set(names) if not pa.types.is_nested(table[each].type)}
        if names_any(self.ids, table):
            yield "an id"
        for column in (each for each in names if each not in plain):
            if any(self._equals(values) for chunk in table[column].chunks for values in _strings(chunk)):
                yield f"an id in the column {column}"

    def _equals(self, values: pa.Array) -> bool:
        """Whether one of the values is a long id, or the id of a face of such a photo."""
        return any(pc.any(pc.is_in(each, self._long_values)).as_py() for each in (values, image_ids(values)))

    def _stands_in(self, data: bytes) -> bool:
        """Whether one of the long ids is there as a word."""
        likely = self._wordless.union(*(self._by_word.get(word, ()) for word in self._words_in(data)))
        there = [re.escape(each) for each in likely if each in data]
        return any(re.search(rb"(?<!%b)%b(?!%b)" % (_WORD, each, _WORD), data) for each in there)

    def _words_in(self, data: bytes) -> set[bytes]:
        return {*_WORDS.findall(data)} if self._by_word else set()

    @cached_property
    def _by_word(self) -> dict[bytes, list[bytes]]:
        """The long ids by the longest of their words: where an id stands alone, so does each word of it.

        So the time for a file does not depend on the number of ids.
        """
        found: dict[bytes, list[bytes]] = {}
        for text in (each.encode() for each in self._long):
            if words := _WORDS.findall(text):
                found.setdefault(max(words, key=len), []).append(text)
        return found

    @cached_property
    def _wordless(self) -> set[bytes]:
        return {text.encode() for text in self._long if not _WORDS.search(text.encode())}

    @cached_property
    def _long_set(self) -> frozenset[str]:
        return frozenset(self._long)

    @cached_property
    def _long(self) -> list[str]:
        forms = {normalize(form, text) for text in self.texts for form in ("NFC", "NFD")} | self.texts
        return sorted(text for text in forms if len(text.encode()) >= LONG_BYTES)

    @cached_property
    def _long_values(self) -> pa.Array:
        return pa.array(self._long, pa.string())


def _text_columns(data: bytes) -> tuple[list[str], pa.Table]:
    """Read the columns with text in them, and their names."""
    file = pq.ParquetFile(pa.BufferReader(data))
    names = [field.name for field in file.schema_arrow if "string" in str(field.type)]
    return names, file.read(columns=names, use_threads=False)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _origin(name: str) -> str:
    return f"a {'hidden ' if _is_hidden(name) else ''}file of another origin"


def _texts_of(name: str, data: bytes) -> Iterator[bytes]:
    """Iterate over a file as it is, and of JSON also over its texts, which may have been escaped."""
    yield data
    if name.endswith(".json"):
        with suppress(ValueError, UnicodeError):
            yield from (text.encode() for text in _leaves(json.loads(data)))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)


def _strings(array: pa.Array) -> Iterator[pa.Array]:
    """Iterate over the columns of text inside a column."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        yield from _strings(array.dictionary)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield array.cast(pa.string())
    elif pa.types.is_struct(kind) or pa.types.is_map(kind):
        parts = (array.keys, array.items) if pa.types.is_map(kind) else array.flatten()
        for part in parts:
            yield from _strings(part)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from _strings(array.flatten())
