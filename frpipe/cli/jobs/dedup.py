"""Find duplicates: all pairs of a gallery, or of an enroll output, that are alike, and their clusters.

    frpipe run dedup --gallery gallery/ --output night-1/ --threshold 0.5
    frpipe run dedup --gallery gallery/ --output night-2/ --threshold 0.5 --since night-1/
    frpipe run dedup --features out/ --output duplicates/ --threshold-card card.json --sheet review.html
    ray job submit --address http://head:8265 --working-dir . -- \\
        python jobs/dedup.py --gallery s3://... --output s3://...

Writes OUTPUT/pairs/*.parquet and OUTPUT/clusters.parquet. The same command after any interruption goes on
where it stopped, with the gallery version that it began with. Exit codes: 0 done, 2 settings, 5 does not fit
the cluster, 6 outputs, or more pairs than --max-pairs, 7 storage, 10 gallery, 11 cluster lost, 1 and 9 bugs.
docs/dedup.md says more.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from frpipe.cli.exits import guarded
from frpipe.cli.gallery_parser import not_negative, positive
from frpipe.cli.job_options import (
    add_cache,
    add_calibration,
    add_embedder,
    add_execution,
    add_threshold,
    cache_of,
    calibration_card,
    job_parser,
    runtime_of,
)
from frpipe.cli.reporter import Speaker
from frpipe.cli.stdout import kept_clean
from frpipe.core.counted import counted

if TYPE_CHECKING:
    from frpipe.jobs.contract import Result
    from frpipe.jobs.dedup.job import Dedup

_say = Speaker("dedup")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return guarded(lambda: _dedup(options))


def _dedup(options: argparse.Namespace) -> int:
    from frpipe.io import threshold_file
    from frpipe.jobs.dedup.job import Dedup, DedupExecution  # Ray takes a second; --help should not
    from frpipe.jobs.dedup.sheet import check_page

    job = Dedup(
        options.output,
        gallery=options.gallery,
        features=options.features,
        version=options.version,
        threshold=options.threshold,
        card=threshold_file.load(options.threshold_card) if options.threshold_card else None,
        since=options.since,
        since_version=options.since_version,
        execution=DedupExecution(
            options.workers,
            options.kernel,
            options.block_rows,
            options.max_pairs,
            cache_of(options),
            forms=options.forms,
        ),
        runtime=runtime_of(options, _say),
        say=_say,
        embedder=options.embedder,
        calibration=calibration_card(options),
    )
    if options.sheet:
        check_page(options.sheet)
    with kept_clean():
        if options.dry_run:
            done: Result = job.dry_run()
        else:
            done = _run(job, options)
    print(json.dumps(done.as_dict(), indent=1) if options.json else done.text())
    return 0


def _run(job: Dedup, options: argparse.Namespace) -> Result:
    if not options.sheet:
        return job.run()
    from frpipe.jobs.dedup.sheet import write_page  # only where it is asked for

    report = job.run()
    shown = write_page(job.output, options.sheet, options.sheet_clusters)
    _say(
        f"{counted(shown, 'clusters are')} shown on the page: it holds faces, treat it as "
        "you treat the photos"
    )
    return report


def _parser() -> argparse.ArgumentParser:
    parser = job_parser(__doc__)
    add = parser.add_argument
    add("--gallery", metavar="URI", help="folder or s3:// prefix")
    add("--version", type=not_negative, metavar="N", help="version of the gallery (default: the newest)")
    add("--features", metavar="URI", help="in place of a gallery: the output of a finished enroll run")
    add_embedder(parser, "--features")
    add("--output", required=True, metavar="URI", help="folder or s3:// prefix, new or of the same run")
    add_threshold(parser, "from here up a pair is reported")
    add_calibration(parser)
    add(
        "--since",
        metavar="URI",
        help="finished result of another night: only pairs with new templates are compared, "
        "the others are carried over, and the result is complete",
    )
    add(
        "--since-version",
        type=not_negative,
        metavar="N",
        help="only pairs with a template that version N of the gallery does not have, and no others",
    )
    add(
        "--max-pairs",
        type=positive,
        default=10_000_000,
        metavar="N",
        help="give up where more are found (default: %(default)s)",
    )
    add(
        "--block-rows",
        type=positive,
        default=65_536,
        metavar="N",
        help="templates of a block, unless a shard has more; fixed by the first run (default: %(default)s)",
    )
    add(
        "--sheet",
        metavar="FILE",
        help="also write a page (.html) to review the most alike: it holds photos",
    )
    add(
        "--sheet-clusters",
        type=positive,
        default=60,
        metavar="N",
        help="clusters of each kind on that page (default: %(default)s)",
    )
    add_cache(parser)
    add_execution(parser)
    return parser
