"""Listings of files as blocks of columns: a folder of many millions is no objects of Python, a file each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice

import pyarrow as pa

NAME, BYTES, VERSION = "name", "bytes", "version"
LISTED = pa.schema([(NAME, pa.string()), (BYTES, pa.int64()), (VERSION, pa.string())])
BLOCK_FILES = 1 << 14
"""Files of a block."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def in_blocks(files: Iterable[tuple[str, int, str]]) -> Iterator[pa.Table]:
    """Make blocks of files, each given as name, size and version.

    What of a name is no UTF-8 becomes NUL: no manifest can hold either.
    """
    files = iter(files)
    while some := list(islice(files, BLOCK_FILES)):
        columns = list(zip(*some, strict=True))
        try:
            "".join(columns[0]).encode()
        except UnicodeEncodeError:
            columns[0] = tuple(_SURROGATE.sub("\0", name) for name in columns[0])
        yield pa.table([pa.array(c, f.type) for c, f in zip(columns, LISTED, strict=True)], schema=LISTED)


def joined(blocks: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join small blocks, in their order, until each has `BLOCK_FILES` files or more."""
    held: list[pa.Table] = []
    for block in blocks:
        held.append(block)
        if sum(map(len, held)) >= BLOCK_FILES:
            yield pa.concat_tables(held).combine_chunks()
            held = []
    if held:
        yield pa.concat_tables(held).combine_chunks()
