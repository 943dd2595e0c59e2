"""The folder of published tables, and the settings that their first publication fixes for all of them.

ROOT/tables.json   layout, embeddings or not, and the recipe; created once
ROOT/TABLE/        each table
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any, get_args

from frpipe.core.errors import FileDamaged, GalleryMismatch, OutputError
from frpipe.gallery.spec import GallerySpec
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import read_json
from frpipe.io.tables.table import TARGET_BYTES, Layout, PublishedTable
from frpipe.jobs.publish.schema import TABLES, TableSpec

TABLES_JSON = "tables.json"
FORMAT = 1
# A store may list the file of another publisher a moment before it can be read.
_WAITS_S = (0.1, 0.3, 1.0)


@dataclass(frozen=True, slots=True)
class Root:
    """The published tables of a folder. spec: the one recipe of all their vectors."""

    folder: Folder
    layout: Layout
    embeddings: bool
    spec: GallerySpec
    target_bytes: int = TARGET_BYTES

    @property
    def recipe(self) -> str:
        """The name of the recipe: 16 digits of a hash."""
        text = f"{self.spec.embedder_hash} {self.spec.preprocessing_hash}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def table(self, spec: TableSpec) -> PublishedTable:
        """Make the table of a specification."""
        return PublishedTable(
            self.folder.child(spec.name),
            self.layout,
            spec.schema(embeddings=self.embeddings),
            spec.sort_by,
            spec.ids,
            spec.partition_by,
            self.target_bytes,
        )

    def tables(self) -> list[PublishedTable]:
        """List all tables, in the order in which a run is merged into them."""
        return [self.table(spec) for spec in TABLES]

    def refuse_other_recipe(self, other: GallerySpec, name: str) -> None:
        """Raise OutputError for vectors of another recipe."""
        try:
            self.spec.check_same(other)
        except GalleryMismatch as error:
            difference = error.message.replace("the gallery's is", "theirs is")
            raise OutputError(
                f"{name} is of another recipe than the tables in {self.folder.uri}: {difference}",
                "vectors of two recipes cannot be compared: publish it to another root",
            ) from None

    @classmethod
    def opened(cls, uri: str, target_bytes: int = TARGET_BYTES) -> Root | None:
        """Open the tables below an address; None where there are none.

        Raises OutputError where they cannot be read, or the folder holds something else.
        """
        folder = Folder.at(uri)
        try:
            data = read_json(folder, TABLES_JSON)
            recipe = {**data["recipe"], "same_vectors": tuple(data["recipe"]["same_vectors"])}
            found = cls(folder, data["layout"], bool(data["embeddings"]), GallerySpec(**recipe), target_bytes)
            known = data["format"] == FORMAT and found.layout in get_args(Layout)
        except FileNotFoundError:
            if next(folder.walk(), None) is None:
                return None
            for wait_s in _WAITS_S:
                if folder.exists(TABLES_JSON):
                    # Another publisher has made it since.
                    return cls.opened(uri, target_bytes)
                time.sleep(wait_s)
            raise OutputError(
                f"{uri} holds other files, and no published tables", "use a new or an empty folder"
            ) from None
        except (FileDamaged, KeyError, TypeError):
            raise _unreadable(uri) from None
        if not known:
            raise _unreadable(uri)
        return found

    def settled(self) -> Root:
        """Create the tables, or open those that another publisher has created meanwhile."""
        recipe = {
            name: getattr(self.spec, name)
            for name in ("dim", "embedder_hash", "preprocessing_hash", "detector_hash", "same_vectors")
        }
        data: dict[str, Any] = {
            "format": FORMAT,
            "layout": self.layout,
            "embeddings": self.embeddings,
            "recipe": recipe,
        }
        self.folder.create(TABLES_JSON, (json.dumps(data, indent=1) + "\n").encode())
        found = Root.opened(self.folder.uri, self.target_bytes)
        assert found is not None
        return found


def _unreadable(uri: str) -> OutputError:
    return OutputError(
        f"{TABLES_JSON} in {uri} cannot be read by this version of frpipe",
        "use the version that made it, or restore it from a copy",
    )
