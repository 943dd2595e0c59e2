"""A manifest: the list of photos that a run works on."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, fields

import pyarrow as pa

from frpipe.core.pulse import Say, silent
from frpipe.io.manifest import image_struct
from frpipe.io.manifest.columns import ID, KNOWN, SUBJECT, Columns
from frpipe.io.manifest.row_list import RowList


@dataclass(frozen=True, slots=True)
class Manifest(RowList):
    """A list of photos. Relative photo paths start from `folder`.

    nobody: texts that stand for no one in subject_id, in lower case.
    """

    columns: Columns
    nobody: frozenset[str]

    @classmethod
    def open(
        cls,
        uri: str,
        reserved: frozenset[str] = frozenset(),
        nobody: Iterable[str] = (),
        only: Container[str] | None = None,
        *,
        say: Say = silent,
    ) -> Manifest:
        """Find the files and read their columns.

        uri: a file, a folder of files of one format, or a pattern.  reserved: names that the output uses
        itself.  only: names of the files that are read; None: all.  say: told how far it is.
        Raises ManifestError; StorageError where it cannot be read.
        """
        found = RowList.opened(uri, "manifest", frozenset(KNOWN), frozenset({ID, SUBJECT}), only, say=say)
        columns = Columns.of(found.schema, reserved, may_embed=found.format == "parquet")
        found.require(*(name for name in KNOWN if name in found.schema.names and name != SUBJECT))
        own = {field.name: getattr(found, field.name) for field in fields(found)}
        return cls(**own, columns=columns, nobody=frozenset(text.strip().casefold() for text in nobody))

    def subjects(self) -> Iterator[pa.Array]:
        """The subject ids of all rows, in batches."""
        for batch in self.batches([SUBJECT]):
            yield batch.text(SUBJECT)

    def ids(self) -> Iterator[tuple[int, int, list[str | None]]]:
        """Iterate over (file, number of the first row, image ids) of all rows, known to be readable."""
        key = self.columns.key
        for file, first_row, rows in self.batches([key]):
            written = rows.column(0).to_pylist()
            if self.columns.has_images and key != ID:
                written = image_struct.ids(written, self.parts[file].file.name, first_row)
            yield file, first_row, written
