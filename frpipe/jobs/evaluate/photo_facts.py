"""Facts of photos in an enroll output: who is on them, and the manifest's own columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from frpipe.core.errors import ConfigError, OutputError
from frpipe.core.text import canonical_text
from frpipe.evaluation.pairs import Labels
from frpipe.jobs.features import FeatureRun

_NAMES = ("image_id", "image_uri", "subject_id")


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    """What is known of photos.

    table: by image_id in Unicode NFC; it and image_uri as they are, subject_id and the columns asked for in
    NFC, all as text; empty: null.
    """

    table: pd.DataFrame

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
        return cls(text.set_index(text["image_id"].map(canonical_text).to_numpy()))

    def of_photos(self, column: str, names: Labels) -> Labels:
        """Texts, (n,), of photos named by image_id, image_uri or face_id; empty where none is known."""
        values = self.table[column]
        by_uri = pd.Series(values.to_numpy(), self.table["image_uri"].map(canonical_text))
        asked = pd.Series(names.astype(str)).map(canonical_text)
        photos = asked.str.replace(r"#\d+$", "", regex=True)
        found = asked.map(values)
        for other in (asked.map(by_uri[~by_uri.index.duplicated()]), photos.map(values)):
            found = found.where(found.notna(), other)
        return np.asarray(found.fillna("").astype(str).to_numpy(), object)
