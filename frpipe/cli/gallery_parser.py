"""Shared parts of the commands of `frpipe gallery`: how they are declared, and how they answer."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from frpipe.cli.table import printable
from frpipe.core.errors import ConfigError
from frpipe.core.text import canonical_text

if TYPE_CHECKING:
    from frpipe.gallery.outcome import Outcome
    from frpipe.jobs.face_gate import FaceGate

Commands = argparse._SubParsersAction  # the type argparse gives a group of commands
Run = Callable[[argparse.Namespace], int]
FACES = ("centre-largest", "largest", "require-one")
POLICIES = ("skip", "replace", "append")
TEMPLATES = ("all", "mean", "quality-mean", "quality-score-mean", "pose-mean", "medoid")
GATES = ("enrolment",)
SUBJECT_FACES = ("rule", "agreeing")


def command(
    commands: Commands[argparse.ArgumentParser],
    name: str,
    summary: str,
    run: Run,
    examples: Sequence[str],
    *,
    gallery: bool = True,
) -> argparse.ArgumentParser:
    """Add a command that takes a gallery and --json. gallery: False where its places are added later."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="\n".join(["examples:", *(f"  frpipe gallery {name} {example}" for example in examples)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if gallery:
        parser.add_argument("gallery", metavar="G", help="folder or s3:// prefix of the gallery")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)
    return parser


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add --config and --set, as jobs have them."""
    parser.add_argument("--config", metavar="FILE", help="YAML, as for jobs")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one setting; may be repeated"
    )


def add_photos(parser: argparse.ArgumentParser) -> None:
    """Add options that tell photos from others of the same ids that the gallery has."""
    parser.add_argument(
        "--source", default="", metavar="NAME", help="put NAME/ before the ids of these photos"
    )
    parser.add_argument(
        "--same-photos",
        action="store_true",
        help="photos that lay at another place before are the same ones, though they have changed",
    )


def add_templates(parser: argparse.ArgumentParser, condition: str = "") -> None:
    """Add --templates, which says what is kept of each person. condition: before the help."""
    parser.add_argument(
        "--templates",
        choices=TEMPLATES,
        help=f"{condition}what to keep of each person's vectors; quality-score-mean and pose-mean weigh by "
        "columns of the stage quality (default: the weighted mean that the gallery was given last, else all)",
    )


def add_subject_face(parser: argparse.ArgumentParser, condition: str = "") -> None:
    """Add --subject-face, which says how a photo's subject is chosen. condition: before the help."""
    parser.add_argument(
        "--subject-face",
        choices=SUBJECT_FACES,
        help=f"{condition}the face that --faces takes, or the one that agrees with the person's other photos "
        "in the run, which has to have all faces (detect.policy: all); the result says where they differ "
        "(default: rule)",
    )


def add_likeness(parser: argparse.ArgumentParser) -> None:
    """Add options that say which new faces are doubted, and what to do then."""
    parser.add_argument(
        "--strict", action="store_true", help="write nothing where a new face does not fit its person"
    )
    group = parser.add_mutually_exclusive_group()
    add_similarity(group, "of one person, to tell which faces fit (default: the embedder card's)")


def add_gate(parser: argparse.ArgumentParser, condition: str = "") -> None:
    """Add limits of the faces that are let in, by a preset or by number. condition: what they go with."""
    group = parser.add_argument_group(
        "gate",
        f"{condition}a face that does not meet a limit gives no template, and what the gallery has of its "
        "photo goes; the measures are columns of the stages quality and pad (docs/quality.md)",
    )
    group.add_argument(
        "--gate", choices=GATES, help="limits for those that are not given, as the preset of quality has them"
    )
    group.add_argument("--min-quality", type=numeric, metavar="N", help="least quality_score, 0..100")
    group.add_argument("--max-yaw-deg", type=numeric, metavar="D", help="largest yaw to either side, degrees")
    group.add_argument(
        "--min-inter-eye-px",
        type=numeric,
        metavar="P",
        help="least distance of the eyes, pixels of the photo",
    )
    group.add_argument(
        "--min-pad", type=numeric, metavar="S", help="least pad_score, 0..1; no preset asks for it"
    )
    group.add_argument(
        "--allow-unassessed",
        action="store_true",
        help="let a face pass a limit whose measure could not be assessed (default: it is kept out)",
    )


def add_forms(parser: argparse.ArgumentParser, condition: str = "") -> None:
    """Add whether forms of the templates are made at once. condition: what it goes with."""
    parser.add_argument(
        "--forms",
        action="store_true",
        help=f"{condition}store templates in the form of the kernels that search them, too, before a search "
        "does (docs/identify.md)",
    )


def gate_of(options: argparse.Namespace) -> FaceGate:
    """Make the gate that options ask for. Raises ConfigError for a limit that no measure can have."""
    from pydantic import ValidationError

    from frpipe.core.face_gates import FaceGates
    from frpipe.jobs.face_gate import FaceGate

    asked = {name: getattr(options, name) for name in FaceGates.model_fields if name != "preset"}
    try:
        gate = FaceGate.of(FaceGates(preset=options.gate, **asked))
    except ValidationError as error:
        fault = error.errors()[0]
        option = "--" + str(fault["loc"][0]).replace("_", "-")
        raise ConfigError(f"{option}: {fault['msg']}", "see --help") from None
    if options.allow_unassessed and not gate:
        raise ConfigError("--allow-unassessed speaks of limits, and none is given", "give --gate or a limit")
    return gate


def add_similarity(
    group: argparse._MutuallyExclusiveGroup, meaning: str, action: str | type[argparse.Action] = "store"
) -> None:
    """Add --threshold, and --distance in its place, whose similarity ends in `threshold`."""
    group.add_argument(
        "--threshold", type=numeric, action=action, metavar="S", help=f"similarity, -1..1: {meaning}"
    )
    group.add_argument(
        "--distance",
        type=similarity,
        dest="threshold",
        metavar="D",
        help="the same as a cosine distance, 0..2: 1 - similarity",
    )


def numeric(text: str) -> float:
    """Parse a number, for argparse."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None


def integer(text: str) -> int:
    """Parse a whole number, for argparse."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def positive(text: str) -> int:
    """Parse a count from 1 up, for argparse."""
    return _from(1, text)


def not_negative(text: str) -> int:
    """Parse a count from 0 up, for argparse."""
    return _from(0, text)


def gigabytes(text: str) -> float:
    """Parse a size in gigabytes (10**9 bytes), above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1e9:
        raise argparse.ArgumentTypeError("it is a number of gigabytes above 0")
    return value


def hours(text: str) -> float:
    """Parse a length of time in hours, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 87_600:
        raise argparse.ArgumentTypeError("it is a number of hours from 0 to 87,600")
    return value


def _from(least: int, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"it is a whole number from {least} up")
    return value


def similarity(text: str) -> float:
    """Parse a distance as the similarity that it is, for argparse."""
    from frpipe.core.threshold import least_similarity

    try:
        return least_similarity(float(text))
    except (ValueError, ConfigError):
        raise argparse.ArgumentTypeError("it is a cosine distance, from 0 to 2") from None


def identifier(text: str) -> str:
    """Parse a person's id in NFC, for argparse: any text that UTF-8 can hold.

    A shell may give other bytes.
    """
    if not encodable(text):
        raise argparse.ArgumentTypeError("it is no UTF-8 text")
    return canonical_text(text)


def encodable(text: str) -> bool:
    """Whether UTF-8 can hold a text: bytes of another encoding arrive as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def answer(options: argparse.Namespace, content: Mapping[str, Any], text: str) -> int:
    """Print the result, as JSON on one line or as text; return exit code 0."""
    print(json.dumps(content, ensure_ascii=False, default=str) if options.json else text)
    return 0


def outcome_text(outcome: Outcome) -> str:
    """Tell in one line what a change did: the counts that are not zero.

    Then list the faces that are doubted.
    """
    unshown = ("version", "shards", "doubts", "kept_until")
    counts = {name: value for name, value in outcome.as_dict().items() if name not in unshown}
    done = ", ".join(f"{value:,} {name}" for name, value in counts.items() if value) or "nothing to do"
    return "\n".join((f"{done}; version {outcome.version}", *_doubts(outcome)))


def _doubts(outcome: Outcome) -> list[str]:
    if not outcome.added + outcome.replaced:
        return []
    from frpipe.jobs.likeness import doubts_text

    return [printable(line) for line in doubts_text(outcome.doubts)]


def pairs(words: Sequence[str], flag: str) -> dict[str, str]:
    """Parse NAME=VALUE words as a mapping. Raises ConfigError for any other word."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ConfigError(f"{flag} takes NAME=VALUE", f"for example {flag} Department=Sales")
        if not encodable(word):
            raise ConfigError(f"a {flag} is no UTF-8 text", "set the terminal to UTF-8")
        found[canonical_text(name)] = canonical_text(value)
    return found
