"""`frpipe metrics matrix FILE`: verification and identification of a matrix of scores, probes by gallery."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frpipe.cli.gallery_parser import integer, numeric
from frpipe.cli.scores import check_output, operating, rate_table, said, warned
from frpipe.cli.table import table
from frpipe.core.counted import counted

if TYPE_CHECKING:
    from frpipe.evaluation.scored_matrix import ScoredMatrix, Searched
    from frpipe.metrics.score_matrix import ScoreMatrix

_EXAMPLES = """\
examples:
  frpipe metrics matrix face.csv                                   similarities: rates, areas, EER, CMC
  frpipe metrics matrix face.csv --failed-score -1 -o face.html    -1 says that a comparison failed
  frpipe metrics matrix face.parquet --distance --at fmr=0.001
  frpipe metrics matrix face.npy --probes probes.txt --gallery gallery.txt --rank 5

A row is a probe, a column is somebody in the gallery, a cell is the score of the two; mated is who has the
same id. CSV: the first line holds the ids of the gallery, the first cell of each line after it that of the
probe. Parquet: the first column holds the ids of the probes, the names of the others are those of the
gallery. .npy: the ids are in two texts, an id a line.

The same scores are taken twice. Each cell is a comparison: TAR, TRR, AUC, EER. Each row is a search of the
whole gallery: CMC, and with probes that have no mate, FNIR(N, R, T) and FPIR. A probe without a score failed
to be acquired (FTA), a column without one failed to enrol (FTE). Intervals are by people, as cells of a row,
or of a column, err together.
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "matrix",
        help="a matrix of scores, probes by gallery: verification and identification",
        description="Compute rates and curves of a matrix of scores (CSV, Parquet, .npy).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("matrix", metavar="FILE", help="path or URI of the matrix")
    add("--distance", action="store_true", help="the smaller the more alike (default: similarities)")
    add("--probes", metavar="FILE", help="of .npy: the id of each row, a text with one a line")
    add("--gallery", metavar="FILE", help="of .npy: the id of each column")
    add(
        "--failed-score",
        type=numeric,
        action="append",
        default=[],
        metavar="VALUE",
        help="says that a comparison failed; again for more; nan: NaN and empty cells do",
    )
    add(
        "--at",
        type=operating,
        metavar="THRESHOLD",
        help="a number of the scores' kind, eer, or fmr=P (default: eer); of searches too if it is a number",
    )
    add(
        "--rank",
        type=integer,
        default=1,
        metavar="R",
        help="a mate within it counts as found (%(default)s)",
    )
    add(
        "--fpir", type=_target, nargs="+", default=[], metavar="P", help="FPIR targets, in place of the usual"
    )
    add("-o", "--output", type=Path, metavar="FILE", help="write curves: .html or .png")
    add("--dry-run", action="store_true", help="read and check the matrix, and count what is in it")
    add("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run)


def _target(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a target is above 0 and at most 1, as in 0.01")
    return number


def _run(options: argparse.Namespace) -> int:
    check_output(options.output)
    from frpipe.evaluation.scored import Operating
    from frpipe.evaluation.scored_matrix import scored_matrix
    from frpipe.jobs.evaluate.matrix_file import MatrixFile

    kind = "distance" if options.distance else "similarity"
    file = MatrixFile(options.matrix, kind, options.failed_score, options.probes, options.gallery)  # type: ignore[arg-type]
    matrix = file.read()
    if options.dry_run:
        facts = _facts(matrix)
        print(json.dumps(facts, indent=1) if options.json else "\n".join(_head(facts)))
        return 0
    found = scored_matrix(matrix, options.at or Operating(), options.rank, options.fpir)
    facts = _facts(matrix)
    if options.json:
        print(json.dumps({**facts, **found.as_dict()}, indent=1, allow_nan=False))
    else:
        print("\n".join((*_head(facts), "", *_verified(found), "", *_identified(found.identification))))
        print("\n".join(warned(found.verification.warnings)))
    if options.output:
        _write(options.output, options.matrix, facts, found)
        print(options.output, file=sys.stderr if options.json else sys.stdout)
    return 0


def _facts(matrix: ScoreMatrix) -> dict[str, Any]:
    from frpipe.evaluation.scored_matrix import failures

    fta, fte = failures(matrix)
    return {
        "kind": matrix.kind,
        "probes": len(matrix.probe),
        "gallery": len(matrix.gallery),
        "probes_with_a_mate": int((matrix.mate >= 0).sum()),
        "comparisons": matrix.score.size,
        "comparisons_failed": matrix.scores.mated_lost + matrix.scores.nonmated_lost,
        "probes_failed": fta.count,
        "gallery_failed": fte.count,
    }


def _head(facts: dict[str, Any]) -> list[str]:
    probes, gallery = counted(facts["probes"], "probes"), counted(facts["gallery"], "ids")
    mates = counted(facts["probes_with_a_mate"], "probes have")
    lines = [
        f"{probes} against a gallery of {gallery}: {mates} a mate in it",
        f"{counted(facts['comparisons'], 'comparisons')} ({facts['kind']}), "
        f"{counted(facts['comparisons_failed'], 'comparisons')} failed",
    ]
    failed = facts["probes_failed"], facts["gallery_failed"]
    if any(failed):
        lines.append(f"FTA {failed[0]:,} of {probes}, FTE {failed[1]:,} of {gallery}: without any score")
    return lines


def _verified(found: ScoredMatrix) -> list[str]:
    of = found.verification
    counts = f"{of.counts['mated']:,} mated, {of.counts['nonmated']:,} non-mated comparisons"
    return [f"verification: {counts}", rate_table(of), *said(of)]


def _identified(found: Searched) -> list[str]:
    searches = found.searches
    lost = searches.mated_lost + searches.nonmated_lost
    failed = f", {lost:,} failed" if lost else ""
    counts = f"{len(searches.rank):,} mated, {len(searches.strangers):,} non-mated searches{failed}"
    ranked = [f"a mate within rank {found.rank} counts as found:"] if found.rank != 1 else []
    rows = [[rank, one, f"{one.complement().rate.value:.4g}"] for rank, one in found.within.items()]
    lines = [
        f"identification: {counts}",
        table(("rank", "CMC", f"FNIR({searches.gallery}, R, 0)"), rows),
    ]
    if found.scored is None:
        return [*lines, f"{found.investigation_alone}."]
    named = f"FNIR({searches.gallery}, {found.rank}, T)"
    targets = [[f"{target:g}", *_at_target(found, target)] for target in found.at_targets]
    at_targets = table(("FPIR at most", found.scored.kind, named), targets)
    return [*lines, *ranked, at_targets, *said(found.scored)]


def _at_target(found: Searched, target: float) -> tuple[str, object]:
    from frpipe.metrics.operating import Insufficient

    one = found.at_targets[target]
    return ("", one) if isinstance(one, Insufficient) else (f"{one[0]:.6g}", one[1])


def _write(path: Path, uri: str, facts: dict[str, Any], found: ScoredMatrix) -> None:
    from frpipe.evaluation.report.matrix_page import matrix_page, matrix_png

    name = Path(uri).name or uri
    if path.suffix.lower() == ".png":
        path.write_bytes(matrix_png(found, name))
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    alone = found.identification.investigation_alone
    lines = [*_head(facts), *said(found.verification), *([f"{alone}."] if alone else ())]
    page = matrix_page(found, lines, title=f"Scores: {name}", created=now)
    path.write_text(page, encoding="utf-8")
