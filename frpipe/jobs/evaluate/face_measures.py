"""Measures in an enroll output of the faces that were compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.errors import ConfigError, OutputError
from frpipe.core.text import canonical_text
from frpipe.evaluation.pairs import Labels
from frpipe.gallery.schema import EMBEDDING
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.subject_faces import SubjectPolicy
from frpipe.jobs.verify.named_faces import FACE_NAMES, IMAGE_NAMES, NamedFaces
from frpipe.metrics.scores import Doubles


class FaceMeasures:
    """Columns of faces, found as jobs/verify.py finds the faces themselves."""

    def __init__(
        self, features: str, columns: Sequence[str], names: Labels, policy: str, run_id: str | None = None
    ) -> None:
        """Read the columns for photos or faces by their names.

        policy: which face of a photo is meant.  run_id: of the run whose faces were compared; None: any.
        Raises OutputError: it is no finished output, or another run; ConfigError: there is no such column of
        numbers.
        """
        source = FeatureRun.open(features)
        if run_id not in (None, source.run_id):
            raise OutputError(
                f"{features} is another run now than the one whose faces were compared",
                "compare again, and evaluate that result",
            )
        self._columns = [*columns]
        numbers = {name: n for n, name in enumerate(dict.fromkeys(map(canonical_text, names.astype(str))))}
        self._number = numbers
        # The values take the place of the embeddings: the same face is chosen by the same code.
        self._faces = NamedFaces(numbers, len(self._columns), cast(SubjectPolicy, policy))
        wanted = [name for name in FACE_NAMES if name != EMBEDDING]
        both = [*dict.fromkeys([*wanted, *self._columns])]
        first = source.features.faces(source.features.some_parts()[0], None).schema
        self._check(first)
        for images, faces in source.features.tables(IMAGE_NAMES, both):
            self._faces.add(images, faces.select(wanted).append_column(EMBEDDING, self._values(faces)))

    def of(self, names: Labels) -> dict[str, Doubles]:
        """Values of each column, (n,), float32 as float64; NaN where there is no face, or no value."""
        rows = np.array([self._number[canonical_text(name)] for name in names.astype(str)], np.int64)
        present = self._faces.present(rows)
        found = np.where(present[:, None], self._faces.vectors[rows].astype(np.float64), np.nan)
        return {column: found[:, place] for place, column in enumerate(self._columns)}

    def _values(self, faces: pa.Table) -> pa.FixedSizeListArray:
        columns = [
            pc.cast(faces[name], pa.float32(), safe=False).to_numpy(zero_copy_only=False)
            for name in self._columns
        ]
        flat = np.stack([np.asarray(values, np.float32) for values in columns], axis=1).ravel()
        return pa.FixedSizeListArray.from_arrays(pa.array(flat), len(self._columns))

    def _check(self, schema: pa.Schema) -> None:
        known = [field.name for field in schema if _is_number(field.type)]
        missing = [name for name in self._columns if name not in known]
        if missing:
            raise ConfigError(
                f"the faces of the enroll output have no column {missing[0]!r} of numbers",
                f"name one of {', '.join(known)}; the stage quality adds more (docs/quality.md)",
            )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))
