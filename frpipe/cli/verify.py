"""`frpipe verify A B`: are two photos of one person?"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from frpipe.cli.exits import EXIT_NO

if TYPE_CHECKING:
    from frpipe.jobs.verify.single import Verification

_EXAMPLES = """\
examples:
  frpipe verify a.jpg b.jpg
  frpipe verify a.jpg b.jpg --set embed.model=edgeface_xs_q --json
  frpipe verify a.jpg b.jpg --threshold 0.68      # a cosine distance: lower is stricter

exit code: 0 for either answer; with --check, 12 for different persons
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "verify",
        help="compare the faces in two photos",
        description="Compare the face in one photo with the face in another by cosine distance.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", help="path or URI of a photo")
    parser.add_argument("b", help="path or URI of another")
    parser.add_argument(
        "--threshold", type=float, metavar="DISTANCE", help="cosine distance; default: the card's"
    )
    parser.add_argument(
        "--policy",
        choices=("centre-largest", "largest", "require-one"),
        help="which face counts in a photo of several (default: the configuration's, else centre-largest)",
    )
    parser.add_argument("--config", metavar="FILE", help="YAML, as for jobs")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one setting; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON")
    parser.add_argument("--check", action="store_true", help="exit with 12 if the persons differ")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from frpipe.core.config import load_config
    from frpipe.jobs.verify.single import verify

    policy = [f"detect.policy={options.policy}"] if options.policy else []
    config = load_config(options.config, [*options.set, *policy])
    if config.detect.policy == "all" and not policy:
        config = load_config(options.config, [*options.set, "detect.policy=centre-largest"])

    result = verify(options.a, options.b, config=config, threshold=options.threshold)
    print(json.dumps(result.as_dict(), indent=1) if options.json else _text(result))
    return EXIT_NO if options.check and not result.verified else 0


def _text(result: Verification) -> str:
    answer = "same person" if result.verified else "different persons"
    sign = "<=" if result.verified else ">"
    return (
        f"{answer}: distance {result.distance:.4f} {sign} {result.threshold:.4f} "
        f"(similarity {result.similarity:.4f})\n"
        f"{result.detector_backend} + {result.model}, face policy {result.face_policy}, "
        f"{result.time * 1000:.0f} ms\nthreshold: {result.threshold_source}"
    )
