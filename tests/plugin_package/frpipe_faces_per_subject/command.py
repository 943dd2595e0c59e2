"""Count the faces of each subject in a finished enroll output.

    frpipe run faces_per_subject --features out/ --output counts/

Writes OUTPUT/counts/*.parquet, a file for each part of the enroll output. The same command after any
interruption goes on where it stopped.
"""

from __future__ import annotations

import json
import sys

from frpipe.cli.job_options import add_run, job_parser, runtime_of
from frpipe.cli.reporter import Speaker
from frpipe.cli.stdout import kept_clean

_say = Speaker("faces_per_subject")


def main(arguments: list[str]) -> int:
    """Run the job; the exit code."""
    parser = job_parser(__doc__)
    parser.add_argument("--features", required=True, metavar="URI", help="a finished enroll output")
    parser.add_argument("--output", required=True, metavar="URI", help="new, or of the same run")
    add_run(parser)
    options = parser.parse_args(arguments)

    from frpipe_faces_per_subject.job import FacesPerSubject

    job = FacesPerSubject(options.features, options.output, runtime_of(options, _say), _say)
    with kept_clean():
        done = job.dry_run() if options.dry_run else job.run()
    sys.stdout.write(f"{json.dumps(done.as_dict(), indent=1) if options.json else done.text()}\n")
    return 0
