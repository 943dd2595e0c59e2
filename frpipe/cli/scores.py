"""`frpipe metrics scores FILE`: rates, curves and calibration of scores that anybody computed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frpipe.cli.calibration_text import application, calibration_lines
from frpipe.cli.gallery_parser import numeric
from frpipe.cli.score_card import add_card, check_card, write_card
from frpipe.cli.table import table
from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError

if TYPE_CHECKING:
    from frpipe.evaluation.calibrated import Calibrated
    from frpipe.evaluation.number import Number
    from frpipe.evaluation.scored import Operating, Point, Scored
    from frpipe.jobs.evaluate.score_columns import ScoreColumns
    from frpipe.jobs.evaluate.score_list import ScoreList
    from frpipe.metrics.costs import Application

_EXAMPLES = """\
examples:
  frpipe metrics scores pairs.csv                                  columns by their usual names
  frpipe metrics scores pairs.csv --label GT --distance d -o page.html
  frpipe metrics scores pairs.parquet --at fmr=0.001 -o curves.png
  frpipe metrics scores pairs.csv --subject left,right             intervals by people, calibrated by others
  frpipe metrics scores pairs.csv --fold part --by site --cost 0.001,10,1
  frpipe metrics scores pairs.csv --calibration-card llr.json --made-by out/   for jobs: ratios beside scores
  frpipe metrics scores searches.csv --right correct               searches: TPIR and TNIR

A row is a comparison: a label (same or different, true or false, 1 or 0), and a similarity or a distance.
With a column right (--right COLUMN) a row is a search: the label says whether the person is in the gallery,
the score is that of the first candidate, and right says whether that candidate is the person. An empty score
is a trial that failed, and so is one that --failed-score names: it is counted, and in no rate.

With people (--subject) intervals take heed of whom comparisons, or searches, share; without, each row is
taken for people of its own. With folds (--fold) there is the accuracy over folds, each at the threshold that
the others choose.

Thresholds are of the kind of the scores: accepted is similarity >= threshold, or distance <= threshold.

Comparisons are calibrated to log-likelihood ratios (LLR), each by others: by fold, or else by subject, where
the list has such columns, or else by rows. Cllr is what the ratios cost over all priors, in bits, and DCF
what decisions by them cost at one prior, where 1 is the cost of deciding unseen.
"""

_MOST_PLACES = 9


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "scores",
        help="scores of your own: rates, curves, calibration, costs",
        description="Compute rates, curves and calibration of a list of scores (CSV, JSON lines, Parquet).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("list", metavar="FILE", help="path, pattern or URI of the list")
    add("--label", metavar="COLUMN", help="mated or not (default: label, mated, same, ...)")
    scores = parser.add_mutually_exclusive_group()
    scores.add_argument(
        "--similarity", metavar="COLUMN", help="the larger the more alike (default: similarity, score)"
    )
    scores.add_argument("--distance", metavar="COLUMN", help="the smaller the more alike (default: distance)")
    add(
        "--right",
        metavar="COLUMN",
        help="of searches: the first candidate is the person (default: right, correct)",
    )
    add(
        "--at",
        type=operating,
        metavar="THRESHOLD",
        help="a number of the scores' kind, eer, or fmr=P (fpir=P) (default: eer)",
    )
    add(
        "--failed-score",
        type=numeric,
        action="append",
        default=[],
        metavar="VALUE",
        help="says that a trial failed, as an empty score does; again for more; nan: NaN does",
    )
    add(
        "--fold",
        metavar="COLUMN",
        help="any labels: accuracy over folds, and each is calibrated by the others (default: fold)",
    )
    add(
        "--subject",
        type=_names,
        default=(),
        metavar="COLUMN[,COLUMN]",
        help="the person of both sides, or of each, or the probe's (default: subject_a and subject_b, "
        "subject, ...)",
    )
    add("--by", metavar="COLUMN", help="labels of groups: errors and calibration of each")
    add(
        "--cost",
        type=application,
        action="append",
        metavar="P[,MISS,ALARM]",
        help="how often comparisons are mated, and what errors cost; again for more (default: 0.01,1,1)",
    )
    add_card(parser)
    add("-o", "--output", type=Path, metavar="FILE", help="write curves: .html or .png")
    add("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run)


def operating(text: str) -> Operating:
    """Of --at."""
    from frpipe.evaluation.scored import Operating

    name, is_target, value = text.strip().lower().partition("=")
    if name == "eer" and not is_target:
        return Operating()
    try:
        number = float(value if is_target else name)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf") or (is_target and name not in ("fmr", "fpir")):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number, nor eer, nor fmr=P")
    if is_target and not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a target is above 0 and at most 1, as in fmr=0.001")
    return Operating("target" if is_target else "value", number)


def _run(options: argparse.Namespace) -> int:
    check_output(options.output)
    check_card(options)
    from frpipe.evaluation.scored import Operating, scored
    from frpipe.jobs.evaluate.score_columns import ScoreColumns
    from frpipe.jobs.evaluate.score_list import ScoreList

    columns = ScoreColumns(
        options.label,
        options.similarity,
        options.distance,
        options.right,
        options.fold,
        options.subject,
        options.by,
    )
    given = ScoreList.read(options.list, columns, options.failed_score)
    found = scored(
        given.columns.kind,
        given.mated,
        given.score,
        given.right,
        options.at or Operating(),
        people=given.people,
    )
    ratios = _calibrated(given, found, options.cost)
    card = write_card(options, given, ratios) if options.calibration_card else None
    folds = _folds(given)
    for remark in given.remarks:
        print(remark, file=sys.stderr)
    if options.json:
        more: dict[str, Any] = {"calibration": ratios.as_dict()} if ratios else {}
        more |= {"folds": {number.measure: number.as_dict() for number in folds}} if folds else {}
        print(json.dumps({"columns": _named(given.columns), **found.as_dict(), **more}, indent=1))
    else:
        lines = [
            *said(found),
            *map(_over_folds, folds),
            *(calibration_lines(ratios, found.kind) if ratios else ()),
        ]
        warnings = warned([*found.warnings, *(ratios.warnings if ratios else [])])
        print("\n".join((_head(given, found), "", rate_table(found), *lines, *warnings)))
    if card is not None:
        print(card, file=sys.stderr if options.json else sys.stdout)
    if options.output:
        _write(options.output, given, found, ratios, folds)
        print(options.output, file=sys.stderr if options.json else sys.stdout)
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _calibrated(
    given: ScoreList, found: Scored, applications: Sequence[Application] | None
) -> Calibrated | None:
    """Calibrate comparisons; searches are not calibrated."""
    from frpipe.evaluation.calibrated import APPLICATIONS, calibrated

    if given.right is not None:
        if applications:
            raise ConfigError("--cost is of comparisons, and the rows are searches", "leave it out")
        return None
    return calibrated(
        given.columns.kind,
        given.mated,
        given.score,
        given.known,
        found.point.threshold,
        applications=applications or APPLICATIONS,
    )


def _folds(given: ScoreList) -> list[Number]:
    """Accuracies over folds, where there are any."""
    from frpipe.evaluation.verification import fold_accuracy

    if given.known.fold is None:
        return []
    return fold_accuracy(given.columns.kind, given.mated, given.score, given.known.fold)


def _over_folds(number: Number) -> str:
    all_ = ", failed ones rejected" if number.measure == "folds_accuracy_all" else ""
    if number.value is None:
        return f"accuracy over folds: {number.note}"
    between = "" if number.low is None else f" [{number.low:.4g}, {number.high:.4g}]"
    return f"accuracy over folds{all_} {number.value:.4g}{between}, {number.note}"


def _write(
    path: Path, given: ScoreList, found: Scored, ratios: Calibrated | None, folds: Sequence[Number]
) -> None:
    from frpipe.evaluation.report.scores_page import scores_page, scores_png

    name = Path(given.uri).name or given.uri
    if path.suffix.lower() == ".png":
        path.write_bytes(scores_png(found, name, ratios))
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    lines = [_head(given, found), *said(found), *map(_over_folds, folds)]
    page = scores_page(found, lines, ratios, title=f"Scores: {name}", created=now)
    path.write_text(page, encoding="utf-8")


def _named(columns: ScoreColumns) -> dict[str, str | None]:
    roles = ("subject",) if len(columns.subjects) == 1 else ("subject_a", "subject_b")
    more = {"fold": columns.fold, **dict(zip(roles, columns.subjects, strict=False)), "group": columns.by}
    return {
        "label": columns.label,
        columns.kind: columns.scores,
        "right": columns.right,
        **{role: name for role, name in more.items() if name},
    }


def _head(given: ScoreList, found: Scored) -> str:
    read = ", ".join(f"{role} from {name}" for role, name in _named(given.columns).items() if name)
    what = "comparisons" if given.right is None else "searches"
    lost = sum(count for name, count in found.counts.items() if name.endswith("_lost"))
    failed = f", and {lost:,} that failed" if lost else ""
    trials = found.counts["mated"] + found.counts["nonmated"]
    return (
        f"{counted(trials, what)}: {found.counts['mated']:,} mated, {found.counts['nonmated']:,} non-mated"
        f"{failed} ({read})"
    )


def rate_table(found: Scored) -> str:
    """Rates at round thresholds."""
    from frpipe.evaluation.plots.text import LONG
    from frpipe.evaluation.scored import RATES

    accept, reject, *_ = RATES[found.task]
    sign = "<=" if found.kind == "distance" else ">="
    thresholds = found.table.threshold
    places = next((d for d in range(_MOST_PLACES) if (thresholds.round(d) == thresholds).all()), _MOST_PLACES)
    written = [f"{each:.{places}f}" if abs(each) < LONG else repr(each) for each in thresholds.tolist()]
    rows = zip(written, found.table.true_accept, found.table.true_reject, strict=True)
    return table(
        (f"{found.kind} {sign}", accept, reject),
        [[threshold, f"{up:.4g}", f"{over:.4g}"] for threshold, up, over in rows],
    )


def said(found: Scored) -> list[str]:
    """Areas, equal errors, and the rates at the threshold."""
    areas = f"AUC on this grid {found.table.auc_grid:.4g}, exact {found.table.auc_exact:.4g}"
    between = {name: f" [{one.low:.4g}, {one.high:.4g}]" for name, one in found.intervals.items()}
    return [
        f"{areas}{between.get('auc', '')}; EER {found.eer.value:.4g}{between.get('eer', '')}",
        *_at(found, found.point),
    ]


def _at(found: Scored, point: Point) -> list[str]:
    from frpipe.evaluation.scored import RATES

    accept, reject, miss, alarm = RATES[found.task]
    chosen = f" ({point.chosen})" if point.chosen else ""
    wrong = [f"  named wrongly {point.wrong}"] if point.wrong else []
    errors = point.accept.rate.complement().value, point.reject.rate.complement().value
    return [
        f"at {found.accepted(point.threshold)}{chosen}:",
        f"  {accept} {point.accept}, {miss} {errors[0]:.4g}",
        f"  {reject} {point.reject}, {alarm} {errors[1]:.4g}",
        *wrong,
    ]


def warned(warnings: Iterable[str]) -> list[str]:
    """Warnings as sentences."""
    return [f"{one[:1].upper()}{one[1:]}{'' if one.endswith('?') else '.'}" for one in warnings]


def check_output(path: Path | None) -> None:
    """Raise ConfigError where curves cannot be written so."""
    if path and path.suffix.lower() not in (".png", ".html"):
        raise ConfigError(f"{path} is neither a PNG nor an HTML page", "-o NAME.png or -o NAME.html")
