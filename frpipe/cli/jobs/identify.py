"""Who is on these photos? Search every face of an enroll output, or of a manifest, in a gallery, exactly.

    frpipe run identify --probes out/ --gallery gallery/ --output found/
    frpipe run identify --probes tonight.csv --gallery gallery/ --output found/ --threshold-card card.json
    ray job submit --address http://head:8265 --working-dir . -- \\
        python jobs/identify.py --probes s3://... --gallery s3://... --output s3://...

Writes OUTPUT/probes/*.parquet: a row a face, and a row for each photo without one. The same command after any
interruption goes on where it stopped, with the gallery version that it began with. Exit codes: 0 done,
2 settings, 5 does not fit the cluster, 6 outputs, 7 storage, 10 gallery not there or of another model,
11 cluster lost, and those of enroll for a manifest. docs/identify.md says more.
"""

from __future__ import annotations

import argparse
import json

from frpipe.cli.exits import guarded
from frpipe.cli.gallery_parser import not_negative, numeric, pairs, positive
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
from frpipe.core.config import load_config

_say = Speaker("identify")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return guarded(lambda: _identify(options))


def _identify(options: argparse.Namespace) -> int:
    config = load_config(options.config, options.set)

    from frpipe.io import threshold_file
    from frpipe.jobs.identify.job import Identifying, SearchExecution  # Ray takes a second

    job = Identifying(
        options.probes,
        options.gallery,
        options.output,
        version=options.version,
        k=options.top,
        closed=options.closed,
        score=options.score,
        where=pairs(options.where, "--where"),
        threshold=options.threshold,
        card=threshold_file.load(options.threshold_card) if options.threshold_card else None,
        config=config,
        execution=SearchExecution(
            options.workers,
            options.kernel,
            options.probe_rows,
            options.hold_mb,
            cache_of(options),
            forms=options.forms,
        ),
        runtime=runtime_of(options, _say),
        say=_say,
        embedder=options.embedder,
        min_similarity=options.min_similarity,
        calibration=calibration_card(options),
    )
    with kept_clean():
        done = job.dry_run() if options.dry_run else job.run()
    text = done.text().rstrip("\n")
    print(json.dumps(done.as_dict(), indent=1, ensure_ascii=False) if options.json else text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = job_parser(__doc__)
    add = parser.add_argument
    add("--probes", required=True, metavar="URI", help="output of a finished enroll run, or a manifest")
    add_embedder(parser, "--probes")
    add("--gallery", required=True, metavar="URI", help="folder or s3:// prefix")
    add("--output", required=True, metavar="URI", help="folder or s3:// prefix, new or of the same run")
    add("--version", type=not_negative, metavar="N", help="version of the gallery (default: the newest)")
    add("--top", type=positive, default=10, metavar="K", help="candidates a probe (default: %(default)s)")
    add(
        "--score",
        choices=("max", "mean"),
        default="max",
        help="what a person scores: the best of their templates, or the mean of all (default: %(default)s)",
    )
    add(
        "--where",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="search only templates with this attribute, e.g. Department=Sales; may be repeated",
    )
    limit = add_threshold(parser, "from here up it is that person").add_argument
    limit("--closed", action="store_true", help="closed set: always name the nearest, nobody is a stranger")
    add_calibration(parser)
    add(
        "--min-similarity",
        type=numeric,
        metavar="S",
        help="list no candidate below it, which is faster: up to the threshold (default: all of --top)",
    )
    add(
        "--probe-rows",
        type=positive,
        default=4096,
        metavar="N",
        help="probes that an actor searches at once; fixed by the first run (default: %(default)s)",
    )
    add(
        "--hold-mb",
        type=not_negative,
        default=1024,
        metavar="MB",
        help="how much of a gallery an actor keeps that it decrypts, or fetches for itself, and of any one's "
        "rows in the form of the kernel (default: %(default)s)",
    )
    add_cache(parser)
    add("--config", metavar="FILE", help="for a manifest: settings of enroll")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="for a manifest: one such setting")
    add_execution(parser)
    return parser
