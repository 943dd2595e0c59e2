"""`frpipe verify A B`: are two photos of one person?"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from frpipe.cli.exits import EXIT_NO
from frpipe.cli.gallery_parser import FACES, add_config
from frpipe.cli.job_options import add_calibration, add_threshold, calibration_card

if TYPE_CHECKING:
    from frpipe.core.threshold import ThresholdCard
    from frpipe.jobs.verify.single import Verification

_EXAMPLES = """\
examples:
  frpipe verify a.jpg b.jpg
  frpipe verify a.jpg b.jpg --set embed.model=edgeface_xs_q --json
  frpipe verify a.jpg b.jpg --threshold 0.42          # a cosine similarity: higher is stricter
  frpipe verify a.jpg b.jpg --distance 0.58           # the same as a cosine distance
  frpipe verify a.jpg b.jpg --threshold-card card.json --calibration llr.json

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
    add_threshold(parser, "from here up it is the same person", _NowSimilarity)
    add_calibration(parser)
    parser.add_argument(
        "--faces",
        choices=FACES,
        help="which face counts in a photo of several (default: the configuration's, else centre-largest)",
    )
    parser.add_argument("--policy", choices=FACES, action=_NowFaces, dest="faces", help=argparse.SUPPRESS)
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON")
    parser.add_argument("--check", action="store_true", help="exit with 12 if the persons differ")
    parser.set_defaults(run=_run)


class _Warned(argparse.Action):
    """Store a value, and say on standard error what has changed."""

    words: str

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        print(f"warning: {self.words.format(values)}", file=sys.stderr)


class _NowSimilarity(_Warned):
    words = (
        "--threshold {0:g} is a similarity here too, and was a distance in earlier versions: "
        "if a distance is meant, say --distance {0:g}"
    )


class _NowFaces(_Warned):
    words = "--policy is called --faces now: say --faces {0}"


def _run(options: argparse.Namespace) -> int:
    from frpipe.core.config import load_config
    from frpipe.jobs.verify.single import verify

    policy = [f"detect.policy={options.faces}"] if options.faces else []
    config = load_config(options.config, [*options.set, *policy])
    if config.detect.policy == "all" and not policy:
        config = load_config(options.config, [*options.set, "detect.policy=centre-largest"])
    result = verify(
        options.a,
        options.b,
        config=config,
        threshold=options.threshold,
        card=_card(options),
        calibration=calibration_card(options),
    )
    print(json.dumps(result.as_dict(), indent=1) if options.json else _text(result))
    return EXIT_NO if options.check and not result.verified else 0


def _card(options: argparse.Namespace) -> ThresholdCard | None:
    if not options.threshold_card:
        return None
    from frpipe.io import threshold_file  # stores, which other comparisons do without

    return threshold_file.load(options.threshold_card)


def _text(result: Verification) -> str:
    answer = "same person" if result.verified else "different persons"
    sign, other = (">=", "<=") if result.verified else ("<", ">")
    limit = result.threshold
    ratio = "" if result.llr is None else f"log-likelihood ratio {result.llr:+.2f} nats\n"
    return (
        f"{answer}: similarity {result.similarity:.4f} {sign} {limit.similarity:.4f} "
        f"(distance {result.distance:.4f} {other} {limit.distance:.4f})\n"
        f"{ratio}{result.detector_backend} + {result.model}, face policy {result.face_policy}, "
        f"{result.time * 1000:.0f} ms\nthreshold: {limit.source}"
    )
