"""Put the faces of a finished enroll output into a gallery.

    frpipe run consolidate --features out/ --gallery gallery/
    ray job submit --address http://head:8265 --working-dir . -- \\
        python jobs/consolidate.py --features s3://... --gallery s3://...

The gallery is made if there is none. The same command twice changes nothing. Exit codes: 0 done, 2 settings,
6 the enroll run has not ended or is damaged, 7 storage, 10 the gallery is of another model, damaged or busy,
has other photos with the same ids, or a new face does not fit its person (--strict).
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from frpipe.cli.doubts import doubts_shown
from frpipe.cli.exits import guarded
from frpipe.cli.gallery_parser import (
    FACES,
    POLICIES,
    add_forms,
    add_gate,
    add_likeness,
    add_photos,
    add_subject_face,
    add_templates,
    gate_of,
    gigabytes,
)
from frpipe.cli.job_options import add_embedder, add_run, add_workers, job_parser, runtime_of
from frpipe.cli.reporter import Speaker
from frpipe.core.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

_say = Speaker("consolidate")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return guarded(lambda: _consolidate(options))


def _consolidate(options: argparse.Namespace) -> int:
    from frpipe.jobs.consolidate.agreeing import write_differences
    from frpipe.jobs.consolidate.gated import write_gated
    from frpipe.jobs.consolidate.job import Consolidation  # heavy; --help should not wait

    if options.differences is not None and options.subject_face != "agreeing":
        raise ConfigError(
            "--differences lists where agreeing faces are not the rule's", "give --subject-face agreeing"
        )
    gate = gate_of(options)
    if options.gated is not None and not gate:
        raise ConfigError("--gated lists what a gate keeps out, and there is none", "give --gate or a limit")
    found: list[pa.Table] = []
    kept_out: list[pa.Table] = []
    job = Consolidation(
        options.features,
        options.gallery,
        options.policy,
        options.templates,
        options.faces,
        _say,
        options.source,
        options.same_photos,
        options.strict,
        options.threshold,
        embedder=options.embedder,
        subject_face=options.subject_face or "rule",
        differences_to=found.append if options.differences is not None else None,
        gate=gate,
        gated_to=kept_out.append if options.gated is not None else None,
        forms=options.forms,
        runtime=runtime_of(options, _say),
        workers=options.workers,
        scratch_bytes=None if options.scratch_gb is None else round(options.scratch_gb * 1e9),
    )
    with doubts_shown():
        done = job.dry_run() if options.dry_run else job.run()
    if options.differences is not None:
        write_differences(options.differences, found)
    if options.gated is not None:
        write_gated(options.gated, kept_out)
    print(json.dumps(done.as_dict(), indent=1) if options.json else done.text())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = job_parser(__doc__)
    parser.add_argument(
        "--features", required=True, metavar="URI", help="the --output of a finished enroll run"
    )
    add_embedder(parser, "--features")
    parser.add_argument("--gallery", required=True, metavar="URI", help="folder or s3:// prefix")
    parser.add_argument(
        "--policy",
        choices=POLICIES,
        default="skip",
        help="for a person who is there already: leave alone, exchange their templates, or add to them; a "
        "photo that is there already is brought up to date whatever this says "
        "(default: %(default)s)",
    )
    add_templates(parser)
    parser.add_argument(
        "--faces",
        choices=FACES,
        default="centre-largest",
        help="which face of a photo is its subject's (default: %(default)s)",
    )
    add_subject_face(parser)
    parser.add_argument(
        "--differences",
        metavar="FILE",
        help="with --subject-face agreeing: the photos where that is not the rule's face, as Parquet, by ids",
    )
    add_gate(parser)
    parser.add_argument(
        "--gated", metavar="FILE", help="with a gate: the faces that it keeps out, as Parquet, by ids"
    )
    add_photos(parser)
    add_likeness(parser)
    add_forms(parser)
    parser.add_argument(
        "--scratch-gb",
        type=gigabytes,
        metavar="GB",
        help="temporary files (TMPDIR) of one machine at most: what needs more is done in passes, each of "
        "some people; the gallery is the same (default: at most four fifths of what is free)",
    )
    add_workers(parser, "passes at once (default: 8); never more than there are CPUs")
    add_run(parser)
    return parser
