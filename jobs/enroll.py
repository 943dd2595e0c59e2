"""Find, align and embed the faces of every photo in a manifest; write Parquet.

    python jobs/enroll.py --manifest photos.parquet --output out/
    ray job submit --address http://head:8265 --working-dir . -- \\
        python jobs/enroll.py --manifest s3://... --output s3://...

The same command after any interruption goes on where it stopped. Exit codes: 0 done, 2 configuration,
3 manifest, 4 model, 5 does not fit the cluster, 6 output of another run, 7 storage, 10 gallery, 11 cluster
lost, 1 and 9 bugs. docs/cluster.md says more.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from frpipe.cli.exits import guarded
from frpipe.cli.stdout import kept_clean
from frpipe.core.config import load_config

if TYPE_CHECKING:
    from frpipe.core.config import Config
    from frpipe.flows.enroll import Enrollment


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return guarded(lambda: _enroll(options))


def _enroll(options: argparse.Namespace) -> int:
    config = load_config(options.config, options.set)

    from frpipe.flows.enroll import Enrollment  # noqa: PLC0415 - Ray takes a second; --help should not

    if options.gallery:
        _check_gallery(options.gallery, config)
    job = Enrollment(options.manifest, options.output, config, options.address, _say)
    with kept_clean():
        text = job.dry_run() if options.dry_run else _run(job, options.gallery, options.json)
    print(text)
    return 0


def _run(job: Enrollment, gallery: str | None, as_json: bool) -> str:
    report = job.run()
    if gallery is None:
        return json.dumps(report.as_dict(), indent=1) if as_json else report.text()
    from frpipe.flows.consolidate import Consolidation  # noqa: PLC0415 - only where a gallery is asked for

    done = Consolidation(job.output, gallery, say=_say).run()
    if as_json:
        return json.dumps({**report.as_dict(), "consolidated": done.as_dict()}, indent=1)
    return f"{report.text()}\n{done.text()}"


def _check_gallery(uri: str, config: Config) -> None:
    """Refuse before the work what would be refused after it: a gallery that was made for another recipe."""
    from frpipe.flows.consolidate import check_gallery  # noqa: PLC0415
    from frpipe.flows.photo import spec_of  # noqa: PLC0415

    check_gallery(uri, spec_of(config))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--manifest",
        required=True,
        metavar="URI",
        help="Parquet, CSV or JSONL; `frpipe manifest scan` makes one",
    )
    parser.add_argument(
        "--output", required=True, metavar="URI", help="folder or s3:// prefix, new or of the same run"
    )
    parser.add_argument("--config", metavar="FILE", help="YAML, see configs/ and docs/configuration.md")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one setting, e.g. detect.policy=largest; may be repeated",
    )
    parser.add_argument(
        "--address",
        metavar="URL",
        help="Ray cluster; default RAY_ADDRESS, else a private one on this machine",
    )
    parser.add_argument(
        "--gallery",
        metavar="URI",
        help="afterwards put the faces into this gallery, as jobs/consolidate.py does by default",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything and print the plan; write nothing"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
