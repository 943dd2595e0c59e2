"""Count the faces of each subject in a finished enroll output.

frpipe run faces_per_subject out/ --least 2
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from frpipe.cli.job_options import add_json, job_parser
from frpipe.core.errors import OutputError


def main(arguments: list[str]) -> int:
    """Print a line per subject; the exit code."""
    parser = job_parser(__doc__)
    parser.add_argument("features", type=Path, help="the --output of a finished enroll run")
    parser.add_argument(
        "--least", type=int, default=1, metavar="N", help="leave out subjects with fewer faces"
    )
    add_json(parser)
    options = parser.parse_args(arguments)
    counts = _counts(options)
    text = "\n".join(f"{subject}  {faces}" for subject, faces in counts.items())
    sys.stdout.write((json.dumps(counts) if options.json else text) + "\n")
    return 0


def _counts(options: argparse.Namespace) -> dict[str, int]:
    """Subject id: number of faces. Raises OutputError where the enroll run has not ended."""
    import pyarrow.dataset as ds  # heavy: --help should not wait for it

    if not (options.features / "_SUCCESS").exists():
        raise OutputError(f"{options.features} is no finished enroll output", "run the enroll job to its end")
    faces = ds.dataset(options.features / "faces", format="parquet").to_table(columns=["subject_id"])
    counted = faces.group_by("subject_id").aggregate([("subject_id", "count")]).sort_by("subject_id")
    rows = zip(counted["subject_id"].to_pylist(), counted["subject_id_count"].to_pylist(), strict=True)
    return {subject: faces for subject, faces in rows if subject is not None and faces >= options.least}
