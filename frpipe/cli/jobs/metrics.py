"""Evaluate: error rates with their counts and intervals, curves, one page, threshold cards.

    frpipe run metrics verification --results verified/ --output report/
    frpipe run metrics verification --results small/ large/ --names small large --output comparison/
    frpipe run metrics identification --results found/ --output report/ --card 0.01
    frpipe run metrics all-pairs --gallery people.gallery --output report/
    frpipe run metrics pad --scores scores.csv --output report/
    frpipe run metrics scores pairs.csv --subject left,right -o page.html
    frpipe run metrics matrix face.csv --failed-score -1
    ray job submit --address http://head:8265 --working-dir . -- \\
        python jobs/metrics.py verification --results s3://... --output s3://...

Several results are of several systems on the same trials: they are compared, pair by pair of systems. Exit
codes: 0 done, 2 settings, 6 a result has not ended, or the output is of another run, 7 storage, 10 gallery,
13 the trials carry no such number. docs/evaluation.md says more.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from frpipe.cli import score_matrix, scores
from frpipe.cli.exits import guarded
from frpipe.cli.gallery_parser import FACES, integer, not_negative, numeric, positive
from frpipe.cli.job_options import (
    add_cache,
    add_embedder,
    add_modes,
    add_run,
    add_similarities,
    add_workers,
    cache_of,
    job_parser,
    runtime_of,
)
from frpipe.cli.metrics_pad import add_pad
from frpipe.cli.metrics_templates import add_templates
from frpipe.cli.reporter import Speaker
from frpipe.cli.stdout import kept_clean

if TYPE_CHECKING:
    from frpipe.evaluation.quality import QualityMeasure
    from frpipe.jobs.evaluate.all_pairs.job import AllPairs
    from frpipe.jobs.evaluate.derived import Derivations
    from frpipe.jobs.evaluate.job import Asked, IdentificationMetrics, VerificationMetrics

_VERIFICATION = """\
examples:
  --results verified/ --output report/                      rates at the run's threshold and at FMR targets
  --results a/ b/ --names small large --output report/      two embedders on the same list of pairs
  --results verified/ --output report/ --by department      the same of each department
  --results verified/ --output report/ --card 0.0001        and a threshold card for FMR 0.0001
  --results verified/ --output report/ --quality sharpness,norm    which measure finds the bad photos?

The list of pairs needs a column that says which are mated, or photos that were enrolled with subject_id. A
column of folds gives the accuracy over folds; pairs of a fold called train choose a threshold and are not
scored."""

_ALL_PAIRS = """\
examples:
  --features out/photos --output report/                    every face of a known person with every other one
  --gallery people.gallery --output report/ --by site       a gallery, and pairs within each site

Scores are counted, not kept: memory does not grow with them. AUC, EER and TAR at a target come as bounds
that hold the exact value. Compares on the cluster, and goes on where it stopped."""

_IDENTIFICATION = """\
examples:
  --results found/ --output report/                         FNIR, FPIR at the run's threshold, TPIR, CMC
  --results found/ --output report/ --card 0.01             and a threshold card for FPIR 0.01
  --results found/ --output report/ --enrolled staff/       people who failed to enrol count in the gallery
  --results found/ --output report/ --quality sharpness     FNIR as the worst probes are discarded
  --results found/ --output report/ --rank 10               a mate within rank 10 counts as found
  --results found/ --output report/ --galleries 1000 10000  and in galleries of so many people

The probes must have been enrolled with subject_id. A search is mated if that person is in the gallery."""

_say = Speaker("metrics")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    # A list of scores is no job: it is read, said, and written nowhere but where one page is asked for.
    return guarded(lambda: options.run(options) if "run" in options else _evaluate(options))


def _evaluate(options: argparse.Namespace) -> int:
    with kept_clean():
        job = options.job(options)
        done = job.dry_run() if options.dry_run else job.run()
    print(json.dumps(done.as_dict(), indent=1) if options.json else done.text().rstrip())
    return 0


def _verification(options: argparse.Namespace) -> VerificationMetrics:
    from frpipe.jobs.evaluate.job import VerificationMetrics  # heavy; --help should not wait
    from frpipe.jobs.evaluate.pair_results import PairColumns

    columns = PairColumns(options.mated, options.fold, by=options.by)
    return VerificationMetrics(
        _asked(options),
        columns,
        options.thresholds_from,
        _say,
        _quality(options),
        _derivations(options),
        tuple(dict.fromkeys(options.calibrate)),
    )


def _derivations(options: argparse.Namespace) -> Derivations:
    from frpipe.jobs.evaluate.derived import Derivations

    return Derivations(
        tuple(dict.fromkeys(getattr(options, "fuse_with", ()))),
        tuple(dict.fromkeys(options.normalise)),
        options.cohort,
        options.cohort_top,
    )


def _identification(options: argparse.Namespace) -> IdentificationMetrics:
    from frpipe.jobs.evaluate.job import IdentificationMetrics

    return IdentificationMetrics(
        _asked(options),
        options.enrolled,
        _say,
        _quality(options),
        options.rank,
        options.galleries,
        _derivations(options),
    )


def _quality(options: argparse.Namespace) -> list[QualityMeasure]:
    from frpipe.core.errors import ConfigError
    from frpipe.evaluation.quality import QualityMeasure

    measures = [QualityMeasure.parse(text) for text in (options.quality or "").split(",") if text.strip()]
    if options.quality is not None and not measures:
        raise ConfigError("--quality names no column", "name columns of faces, for example sharpness,norm")
    doubled = len(measures) - len({measure.column for measure in measures})
    if doubled:
        raise ConfigError("--quality names a column twice", "name each column once")
    return measures


def _all_pairs(options: argparse.Namespace) -> AllPairs:
    from frpipe.jobs.evaluate.all_pairs.job import TARGETS, AllPairs

    return AllPairs(
        options.output,
        gallery=options.gallery,
        features=options.features,
        version=options.version,
        by=options.by,
        faces=options.faces,
        thresholds=tuple(options.threshold),
        targets=tuple(options.target) or TARGETS,
        name=options.name,
        workers=options.workers,
        cache=cache_of(options),
        runtime=runtime_of(options, _say),
        say=_say,
        embedder=options.embedder,
    )


def _asked(options: argparse.Namespace) -> Asked:
    from frpipe.jobs.evaluate.job import Asked

    return Asked(
        options.results,
        options.output,
        names=options.names,
        thresholds=options.threshold,
        targets=options.target,
        by=options.by,
        cards=options.card,
        confidence=options.confidence,
        title=options.title,
        thumbnails=getattr(options, "thumbnails", False),
        worst=getattr(options, "worst", False),
    )


def _parser() -> argparse.ArgumentParser:
    parser = job_parser(__doc__)
    tasks = parser.add_subparsers(title="what is evaluated", required=True, metavar="TASK")
    pairs = _task(tasks, "verification", "results of the job verify", _VERIFICATION, "FMR")
    pairs.add_argument(
        "--mated", default="mated", metavar="COLUMN", help="of the list: true or false (%(default)s)"
    )
    pairs.add_argument(
        "--fold", default="fold", metavar="COLUMN", help="of the list: any labels (%(default)s)"
    )
    pairs.add_argument(
        "--thresholds-from",
        metavar="URI",
        help="a result of other pairs, in folds of the same names: its folds choose the thresholds",
    )
    pairs.add_argument(
        "--worst", action="store_true", help="list the pairs that went worst, by the ids of their photos"
    )
    pairs.add_argument(
        "--thumbnails",
        action="store_true",
        help="list them with their photos: treat the page as you treat the photos",
    )
    _add_quality(pairs, "the compared faces")
    _add_derivations(pairs)
    pairs.set_defaults(job=_verification)
    searches = _task(tasks, "identification", "results of the job identify", _IDENTIFICATION, "FPIR")
    searches.add_argument(
        "--enrolled",
        metavar="URI",
        help="the enroll output that the gallery was made from: its people count, enrolled or not",
    )
    searches.add_argument(
        "--rank",
        type=integer,
        default=1,
        metavar="R",
        help="within which a mate counts as found: FNIR(N, R, T), TPIR, curves (%(default)s)",
    )
    searches.add_argument(
        "--galleries",
        type=integer,
        nargs="+",
        default=[],
        metavar="N",
        help="FNIR at the FPIR targets in smaller galleries too, of so many people drawn by subject",
    )
    _add_quality(searches, "the probes")
    _add_normalisation(searches)
    searches.set_defaults(job=_identification)
    _add_all_pairs(tasks)
    add_pad(tasks, _say)
    add_templates(tasks, _say)
    scores.add_parser(tasks)
    score_matrix.add_parser(tasks)
    return parser


def _add_quality(parser: argparse.ArgumentParser, whose: str) -> None:
    parser.add_argument(
        "--quality",
        metavar="COLUMN[,COLUMN...]",
        help=f"measures of {whose}, columns of the enroll output: error versus discard, and errors by bin; "
        "COLUMN:low where low is better, COLUMN:zero where near zero is, as of columns in _deg",
    )


def _add_derivations(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--fuse-with",
        nargs="+",
        default=[],
        metavar="EMBEDDER",
        help="further systems: another embedder of the same enroll output alone, and its scores fused with "
        "those of the result by logistic regression, cross-fitted by subject",
    )
    _add_normalisation(parser)
    add(
        "--calibrate",
        nargs="+",
        choices=("logistic", "isotonic"),
        default=[],
        help="write a calibration card by these; a threshold card holds the first of them too",
    )


def _add_normalisation(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--normalise",
        nargs="+",
        choices=("z", "t", "s", "as"),
        default=[],
        help="further systems: scores normalised by what the reference (z), the probe (t) or both (s, as: by "
        "the most alike) score against the cohort",
    )
    add(
        "--cohort",
        metavar="URI",
        help="for --normalise: an enroll output or a gallery of people who are not tested",
    )
    add(
        "--cohort-top",
        type=positive,
        default=200,
        metavar="N",
        help="how many of the cohort are the most alike, for as (default: %(default)s)",
    )


def _add_all_pairs(tasks: Any) -> None:
    parser = tasks.add_parser(
        "all-pairs",
        help="every template of a gallery, or face of an enroll output, with every other one",
        description="Compare all with all, and keep histograms.",
        epilog=_ALL_PAIRS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--features", metavar="URI", help="the --output of a finished enroll run")
    source.add_argument("--gallery", metavar="URI", help="folder or s3:// prefix")
    add_embedder(parser, "--features")
    add("--version", type=not_negative, metavar="N", help="of the gallery (default: the newest)")
    add("--output", required=True, metavar="URI", help="folder or s3:// prefix, new or of the same run")
    add(
        "--faces",
        choices=FACES,
        default="centre-largest",
        help="which face of a photo (default: %(default)s)",
    )
    add("--name", default="all pairs", help="of the system, for people")
    add_similarities(parser, "similarities; else the card's")
    _add_targets(parser, "FMR")
    add("--by", metavar="COLUMN", help="the same within each label of this column, and across labels")
    add_cache(parser)
    add_workers(parser)
    add_run(parser)
    parser.set_defaults(job=_all_pairs)


def _add_targets(parser: argparse.ArgumentParser, rate: str) -> None:
    """Add --target, for several. rate: that they are of."""
    parser.add_argument(
        "--target",
        type=numeric,
        nargs="+",
        default=[],
        metavar="P",
        help=f"{rate} targets, in place of the usual",
    )


def _task(tasks: Any, name: str, what: str, examples: str, rate: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = tasks.add_parser(
        name,
        help=what,
        description=f"Evaluate {what}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--results", nargs="+", required=True, metavar="URI", help="finished results, one for each system")
    add("--output", required=True, metavar="URI", help="folder or s3:// prefix, new or of the same run")
    add("--names", nargs="+", default=[], metavar="NAME", help="of the systems, for people")
    add_similarities(parser, "rates at these similarities too")
    _add_targets(parser, rate)
    add("--by", nargs="+", default=[], metavar="COLUMN", help="the same for each label of these columns")
    add(
        "--card",
        type=numeric,
        nargs="+",
        default=[],
        metavar="P",
        help=f"write threshold cards for these {rate}",
    )
    add(
        "--confidence",
        type=numeric,
        default=0.95,
        metavar="C",
        help=f"that the {rate} of a card is at most its target (%(default)s)",
    )
    add("--title", default="", help="of the page")
    add_modes(parser)
    return parser
