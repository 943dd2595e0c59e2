"""A night: scan, enroll, put into the gallery, find duplicates, identify, watch for drift, report.

    frpipe run nightly --config configs/nightly.yaml
    frpipe run nightly --config configs/nightly.yaml --date 2026-11-24 --dry-run
    ray job submit --address http://head:8265 --working-dir . -- \\
        python jobs/nightly.py --config night.yaml

All goes into RUNS/DATE; report.html there is the page to read. The same command after any interruption goes
on where it stopped. Exit codes: 0 done, 15 another night is under way, 16 done but a gate does not hold; any
other is that of the step that failed (docs/cluster.md). docs/nightly.md says more.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, date, datetime

from frpipe.cli.exits import guarded
from frpipe.cli.job_options import add_run, job_parser, runtime_of
from frpipe.cli.reporter import Speaker
from frpipe.cli.stdout import kept_clean
from frpipe.core.night_config import load_night

_say = Speaker("nightly")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return guarded(lambda: _nightly(options))


def _nightly(options: argparse.Namespace) -> int:
    config = load_night(options.config, options.set)
    night = options.date or datetime.now(UTC).date().isoformat()
    if options.dry_run:
        from frpipe.jobs.nightly.plan import night_plan  # heavy; --help should not wait

        plan = night_plan(config, night, _say)
        print(json.dumps(plan.as_dict(), indent=1, ensure_ascii=False) if options.json else plan.text())
        return 0
    from frpipe.jobs.nightly.job import Night
    from frpipe.jobs.nightly.report import report_text

    with kept_clean():
        report, bad = Night(config, night, runtime_of(options, _say), _say).run()
    text = json.dumps(report, indent=1, ensure_ascii=False) if options.json else report_text(report).rstrip()
    print(text)
    if bad is not None:
        raise bad
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = job_parser(__doc__)
    add = parser.add_argument
    add("--config", required=True, metavar="FILE", help="YAML, see configs/nightly.yaml and docs/nightly.md")
    add("--date", type=_date, metavar="DATE", help="of the night, YYYY-MM-DD (default: today, UTC)")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting, e.g. gates.max_reject_ratio=0.05; may be repeated",
    )
    add_run(parser)
    return parser


def _date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date, YYYY-MM-DD") from None
