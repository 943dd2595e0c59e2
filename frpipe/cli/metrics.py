"""`frpipe metrics`: the lecture's two tables of rates, and the same of scores of your own."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from frpipe.cli import score_matrix, scores
from frpipe.cli.table import table

if TYPE_CHECKING:
    from frpipe.metrics.lecture import LectureTable

_LECTURE = """\
examples:
  frpipe metrics lecture           both tables
  frpipe metrics lecture --json    the same for a program

Accepted is similarity >= threshold. The area on the grid uses the thresholds shown; the exact one all."""


def add_parser(commands: Any) -> None:
    """Add `metrics` and its commands."""
    parser = commands.add_parser(
        "metrics", help="how rates are computed", description="Biometric error rates; see docs/metrics.md."
    )
    parts = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    lecture = parts.add_parser(
        "lecture",
        help="the two worked examples of the lecture",
        description="Compute the lecture's tables: verification of ten pairs, identification of ten probes.",
        epilog=_LECTURE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    lecture.add_argument("--json", action="store_true", help="print JSON")
    lecture.set_defaults(run=_run)
    scores.add_parser(parts)
    score_matrix.add_parser(parts)


def _run(options: argparse.Namespace) -> int:
    from frpipe.metrics import lecture

    parts = {
        "verification": (lecture.verification(), "TAR", "TRR"),
        "identification": (lecture.identification(), "TPIR", "TNIR"),
    }
    if options.json:
        print(json.dumps({name: _data(*part) for name, part in parts.items()}, indent=1))
    else:
        print("\n\n".join(_text(name, *part) for name, part in parts.items()))
    return 0


def _data(found: LectureTable, accept: str, reject: str) -> dict[str, Any]:
    return {
        "threshold": found.threshold.tolist(),
        accept: found.true_accept.tolist(),
        reject: found.true_reject.tolist(),
        "auc_grid": found.auc_grid,
        "auc_exact": found.auc_exact,
    }


def _text(name: str, found: LectureTable, accept: str, reject: str) -> str:
    rows = zip(found.threshold, found.true_accept, found.true_reject, strict=True)
    shown = table(("similarity >=", accept, reject), [[f"{value:.1f}" for value in row] for row in rows])
    return f"{name}\n{shown}\nAUC on this grid {found.auc_grid:.2f}, exact {found.auc_exact:.2f}"
