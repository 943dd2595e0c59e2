"""A check of photos that are missing from a listing that was read from several places at once."""

from __future__ import annotations

from contextlib import suppress

import pyarrow as pa

from frpipe.core.errors import FrpipeError
from frpipe.io.manifest.columns import ID
from frpipe.io.manifest.id_order import RowSpool
from frpipe.io.storage.folder import Folder

_ASKED = 16


def lost_some(folder: Folder, missing: RowSpool) -> bool:
    """Whether a photo that is missing from the listing of a folder is there: some of them are asked for.

    missing: rows with ids. What cannot be asked for is not there.
    """
    every = max(1, missing.rows // _ASKED)
    asked: list[str] = []
    passed = 0
    for table in missing.tables():
        asked += table[ID].take(pa.array(range(-passed % every, len(table), every), pa.int64())).to_pylist()
        passed += len(table)
    return any(_is_there(folder, name) for name in asked)


def _is_there(folder: Folder, name: str) -> bool:
    with suppress(FrpipeError, OSError):
        return folder.exists(name)
    return False
