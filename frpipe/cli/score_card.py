"""Write a calibration card from `frpipe metrics scores`."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from frpipe.core.errors import ConfigError

if TYPE_CHECKING:
    from frpipe.evaluation.calibrated import Calibrated
    from frpipe.gallery.spec import GallerySpec
    from frpipe.jobs.evaluate.score_list import ScoreList


def add_card(parser: argparse.ArgumentParser) -> None:
    """Add --calibration-card, --made-by, --embedder and --calibrate."""
    add = parser.add_argument
    add(
        "--calibration-card",
        metavar="URI",
        help="write the calibration that is fitted on all rows as a card, for --calibration of jobs",
    )
    add(
        "--made-by",
        metavar="URI",
        help="for the card: the enroll output or gallery of the vectors; its hashes bind the card",
    )
    add("--embedder", metavar="NAME", help="of that enroll output (default: the first)")
    add(
        "--calibrate",
        choices=("logistic", "isotonic"),
        default="logistic",
        help="which calibration the card holds (default: %(default)s)",
    )


def check_card(options: argparse.Namespace) -> None:
    """Raise ConfigError where the card lacks what binds it."""
    if bool(options.calibration_card) != bool(options.made_by):
        raise ConfigError(
            "--calibration-card and --made-by go together: a calibration holds for one embedder and detector",
            "name the enroll output or gallery whose vectors were compared: --made-by URI",
        )


def write_card(options: argparse.Namespace, given: ScoreList, ratios: Calibrated | None) -> str:
    """Write the card. Raises ConfigError: rows are searches; ScoresError: no cosines, or too few."""
    from frpipe.evaluation.calibration_cards import calibration_card
    from frpipe.io import calibration_file
    from frpipe.metrics.operating import Insufficient
    from frpipe.metrics.scores import Scores

    if ratios is None:
        raise ConfigError("the rows are searches, which are not calibrated", "leave --calibration-card out")
    done = given.score == given.score
    scores = Scores.of(
        given.score[done & given.mated], given.score[done & ~given.mated], kind=given.columns.kind
    )
    spec, name = _spec(options.made_by, options.embedder), Path(given.uri).name or given.uri
    methods = ratios.methods
    costs = None if isinstance(methods, Insufficient) else (methods[options.calibrate].cllr, ratios.min_cllr)
    how = "" if costs is None else f"; Cllr cross-fitted {ratios.how}"
    card = calibration_card(
        scores,
        options.calibrate,
        hashes={
            "embedder_hash": spec.embedder_hash,
            "detector_hash": spec.detector_hash,
            "preprocessing_hash": spec.preprocessing_hash,
        },
        source=f"{name}: {len(scores.mated):,} mated and {len(scores.nonmated):,} non-mated comparisons{how}",
        created=datetime.now(UTC).replace(microsecond=0),
        costs=costs,
    )
    calibration_file.save(options.calibration_card, card)
    return str(options.calibration_card)


def _spec(uri: str, embedder: str | None) -> GallerySpec:
    from frpipe.gallery.gallery import Gallery
    from frpipe.io.output import run
    from frpipe.io.storage.folder import Folder
    from frpipe.jobs.features import FeatureRun

    if run.begun(Folder.at(uri)):
        return FeatureRun.open(uri, embedder).spec
    return Gallery.open(uri).spec
