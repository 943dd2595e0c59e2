"""The column of log-likelihood ratios that a calibration puts beside similarities."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from frpipe.core.calibration import CalibrationCard, CalibrationMap
from frpipe.core.errors import ConfigError
from frpipe.core.schema import Column
from frpipe.core.threshold import ThresholdCard
from frpipe.gallery.spec import GallerySpec
from frpipe.matching.calibration import calibration_of

LLR = "llr"
LLR_COLUMN = Column(
    LLR, pa.float64(), "log-likelihood ratio of the similarity, in nats; null where there is none", True
)


def calibration_for(
    spec: GallerySpec, card: CalibrationCard | None, threshold_card: ThresholdCard | None
) -> CalibrationMap | None:
    """Choose the calibration of a recipe's vectors; None: no card has one. Raises GalleryMismatch."""
    return calibration_of(
        spec.embedder_hash,
        spec.detector_hash,
        spec.preprocessing_hashes,
        card=card,
        threshold_card=threshold_card,
    )


def calibration_fact(calibration: CalibrationMap | None) -> dict[str, str]:
    """The fact of a calibration that decides the content of an output; empty where there is none."""
    return {"calibration": calibration.digest} if calibration else {}


def calibration_metadata(calibration: CalibrationMap | None) -> dict[str, str]:
    """The fact of a calibration, for the metadata of a file."""
    return {f"frpipe.{name}": value for name, value in calibration_fact(calibration).items()}


def ratios_of(calibration: CalibrationMap, similarities: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Compute ratios, (n,), of (n,) similarities; null where these are."""
    known = similarities.is_valid().to_numpy(zero_copy_only=False)
    values = similarities.fill_null(0).to_numpy()
    return pa.array(calibration.llr(values), pa.float64(), mask=~known)


def with_ratios(table: pa.Table, calibration: CalibrationMap | None) -> pa.Table:
    """Add the column `llr` behind a table of similarities; unchanged without a calibration."""
    if calibration is None:
        return table
    return table.append_column(LLR_COLUMN.field, ratios_of(calibration, table["similarity"]))


def refuse_own(names: Sequence[str], calibration: CalibrationMap | None) -> None:
    """Raise ConfigError where a list that a calibrated result carries has a column of this name."""
    if calibration is not None and LLR in {name.casefold() for name in names}:
        raise ConfigError(
            f"the list's column {LLR} has a name that the result uses itself with a calibration",
            "rename the column",
        )
