"""Facts of photos in an enroll output: who is on them, and the manifest's own columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from frpipe.core.errors import ConfigError, OutputError
from frpipe.core.text import canonical_text
from frpipe.core.text_column import canonical_column
from frpipe.evaluation.pairs import Labels
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.subject_faces import SUBJECT_FACE_NAMES, SUBJECT_IMAGE_NAMES, are_subjects

_NAMES = ("image_id", "image_uri", "subject_id")


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    """What is known of photos.

    table: by image_id in Unicode NFC; it and image_uri as they are, subject_id and the columns asked for in
    NFC, all as text; empty: null.  source: of the faces; None: photos alone are named.
    """

    table: pd.DataFrame
    source: FeatureRun | None = None

    @classmethod
    def of(cls, features: str, columns: Sequence[str] = (), run_id: str | None = None) -> PhotoFacts:
        """Read a finished enroll output, of this run where one is given.

        Raises OutputError: it is none, or another; ConfigError: its manifest had no such column.
        """
        source = FeatureRun.open(features)
        if run_id not in (None, source.run_id):
            raise OutputError(
                f"{features} is another run now than the one whose faces were compared",
                "verify again, and evaluate that result",
            )
        names = [*_NAMES, *(name for name in columns if name not in _NAMES)]
        known = source.features.columns()
        missing = [name for name in names if name not in known]
        if missing:
            raise ConfigError(
                f"the enroll output has no column {missing[0]!r}",
                f"name a column of the manifest that was enrolled; there are {', '.join(known)}",
            )
        frame = pa.concat_tables(source.features.all_images(names)).to_pandas(integer_object_nulls=True)
        text = frame.astype(object).where(frame.notna(), "").astype(str)
        for name in (name for name in text.columns if name not in ("image_id", "image_uri")):
            text[name] = text[name].map(canonical_text)
        return cls(text.set_index(text["image_id"].map(canonical_text).to_numpy()), source)

    def of_photos(self, column: str, names: Labels) -> Labels:
        """Texts, (n,), of photos named by image_id, image_uri or face_id; empty where none is known.

        A `subject_id` is that of a face which is the photo's subject, and of no other that is named.
        """
        values = self.table[column]
        by_uri = pd.Series(values.to_numpy(), self.table["image_uri"].map(canonical_text))
        asked = pd.Series(names.astype(str)).map(canonical_text)
        photos = asked.str.replace(r"#\d+$", "", regex=True)
        found = asked.map(values)
        found = found.where(found.notna(), asked.map(by_uri[~by_uri.index.duplicated()]))
        by_face = found.isna() & photos.isin(values.index)
        found = found.where(~by_face, photos.map(values))
        if self.source is not None and column == "subject_id" and by_face.any():
            found[asked.isin(_bystanders(self.source, {*asked[by_face]}))] = ""
        return np.asarray(found.fillna("").astype(str).to_numpy(), object)


def _bystanders(source: FeatureRun, face_ids: set[str]) -> set[str]:
    """Select the faces that are on their photos beside the subject's, or in place of it."""
    of_images, of_faces = ("image_id", *SUBJECT_IMAGE_NAMES), ("image_id", "face_id", *SUBJECT_FACE_NAMES)
    found: set[str] = set()
    for images, faces in source.features.tables(of_images, of_faces):
        others = faces["face_id"].filter(pa.array(~are_subjects(images, faces)))
        found.update(face_ids & {*canonical_column(others).to_pylist()})
    return found
