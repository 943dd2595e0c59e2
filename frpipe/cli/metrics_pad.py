"""The command line of `metrics pad`: scores of presentation attack detection."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from frpipe.cli.gallery_parser import numeric
from frpipe.cli.job_options import add_modes

if TYPE_CHECKING:
    from frpipe.jobs.evaluate.pad_job import PadMetrics

_EXAMPLES = """\
examples:
  --scores scores.csv --output report/        a list with columns pad_score, label and, if known, subject_id
  --scores out/photos --output report/ --label kind      an enroll output; labels in a column of its manifest
  --scores a.csv b.csv --names small large --output report/                    two detectors on one page
  --scores tries.csv --output report/ --similarity similarity --match 0.36     and attacks on the whole system

The label is bona_fide, or the species of an attack: print, replay, mask. A presentation without a score had
no response. The worst species is what counts: an attacker chooses. docs/evaluation.md says more."""


def add_pad(tasks: Any, say: Callable[[str], None]) -> None:
    """Declare the task."""
    parser = tasks.add_parser(
        "pad",
        help="scores of presentation attack detection",
        description="Evaluate presentation attack detection: APCER of each species and the worst, BPCER.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--scores",
        nargs="+",
        required=True,
        metavar="URI",
        help="lists of CSV, Parquet or JSON lines, or outputs of finished enroll runs, one for each detector",
    )
    add("--output", required=True, metavar="URI", help="folder or s3:// prefix, new or of the same run")
    add("--names", nargs="+", default=[], metavar="NAME", help="of the detectors, for people")
    _add_columns(parser)
    several = {"type": numeric, "nargs": "+", "default": []}
    add("--threshold", **several, metavar="S", help="bona fide from this score on (default: 0.5)")
    add("--target", **several, metavar="P", help="fixed APCER (default: 0.1 0.05 0.01: BPCER10, 20 and 100)")
    add("--match", type=numeric, metavar="S", help="the similarity from which on the whole system accepts")
    add("--title", default="", help="of the page")
    add_modes(parser)
    parser.set_defaults(job=partial(_job, say))


def _add_columns(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--score", default="pad_score", metavar="COLUMN", help="larger is more bona fide (%(default)s)")
    add("--label", default="label", metavar="COLUMN", help="bona_fide, or an attack's species (%(default)s)")
    add("--subject", default="subject_id", metavar="COLUMN", help="who is there or imitated (%(default)s)")
    add("--similarity", metavar="COLUMN", help="to the person who is claimed: IAPAR of the whole system")
    add("--by", nargs="+", default=[], metavar="COLUMN", help="the same for each label of these columns")


def _job(say: Callable[[str], None], options: argparse.Namespace) -> PadMetrics:
    from frpipe.jobs.evaluate.job import Asked  # heavy; --help should not wait
    from frpipe.jobs.evaluate.pad_job import PadMetrics
    from frpipe.jobs.evaluate.pad_results import PadColumns

    asked = Asked(
        options.scores,
        options.output,
        names=options.names,
        thresholds=[] if options.match is None else [options.match],
        targets=options.target,
        by=options.by,
        title=options.title,
    )
    columns = PadColumns(options.score, options.label, options.subject, options.similarity, tuple(options.by))
    return PadMetrics(asked, columns, options.threshold, say)
