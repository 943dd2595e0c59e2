"""Compare the pairs of photos in a list, from the embeddings of a finished enroll output.

    frpipe run verify --pairs pairs.csv --features out/ --output result/
    ray job submit --address http://head:8265 --working-dir . -- \\
        python jobs/verify.py --pairs s3://... --features s3://... --output s3://...

The list has columns a and b; see docs/verify-job.md. After an interruption the same command goes on. Exit
codes: 0 done, 2 settings, 3 the list of pairs, 6 the enroll run has not ended, or the output is of another,
7 storage, 10 a card is of another embedder, 17 done, but not one pair could be compared.
"""

from __future__ import annotations

import argparse
import json

from frpipe.cli.exits import guarded
from frpipe.cli.gallery_parser import FACES, positive
from frpipe.cli.job_options import add_calibration, add_embedder, add_modes, add_threshold, job_parser
from frpipe.cli.reporter import Speaker

_say = Speaker("verify")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return guarded(lambda: _verify(options))


def _verify(options: argparse.Namespace) -> int:
    from frpipe.jobs.verify.job import PairVerification  # heavy; --help should not wait
    from frpipe.jobs.verify.report import Verified

    job = PairVerification(
        pairs=options.pairs,
        features=options.features,
        output=options.output,
        faces=options.faces,
        threshold=options.threshold,
        threshold_card=options.threshold_card,
        memory_mb=options.memory_mb,
        say=_say,
        embedder=options.embedder,
        calibration=options.calibration,
    )
    done = job.dry_run() if options.dry_run else job.run()
    print(json.dumps(done.as_dict(), indent=1) if options.json else done.text())
    if isinstance(done, Verified):
        done.raise_if_nothing()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = job_parser(__doc__)
    parser.add_argument(
        "--pairs", required=True, metavar="URI", help=".parquet, .csv or .jsonl, or a folder of them"
    )
    parser.add_argument(
        "--features", required=True, metavar="URI", help="the --output of a finished enroll run"
    )
    add_embedder(parser, "--features")
    parser.add_argument("--output", required=True, metavar="URI", help="folder or s3:// prefix of the result")
    parser.add_argument(
        "--faces",
        choices=FACES,
        default="centre-largest",
        help="which face of a photo is compared (default: %(default)s)",
    )
    add_threshold(parser, "a pair is accepted from here up")
    add_calibration(parser)
    parser.add_argument(
        "--memory-mb",
        type=positive,
        default=4096,
        metavar="MB",
        help="what the embeddings of all named photos may take (default: %(default)s)",
    )
    add_modes(parser)
    return parser
