"""`frpipe identify PHOTO ... --gallery G`: who is on these photos?"""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING, Any

from frpipe.cli.exits import EXIT_NO
from frpipe.cli.gallery_parser import FACES, add_config, positive
from frpipe.cli.job_options import add_calibration, add_threshold, calibration_card
from frpipe.cli.table import printable, table
from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, FaceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frpipe.core.threshold import Threshold
    from frpipe.jobs.identify.single import Identification

_EXAMPLES = """\
examples:
  frpipe identify a.jpg --gallery G
  frpipe identify a.jpg --gallery G --threshold 0.55 --top 3
  frpipe identify a.jpg --gallery G --threshold-card card.json
  frpipe identify a.jpg --gallery G --set embed.model=mobilefacenet_npm --json
  frpipe identify --gallery G --photo a.jpg b.jpg c.jpg

--threshold is a cosine SIMILARITY, as in all commands; --distance D, as in the lecture, is 1 - D of it. Exit
code: 0 for either answer; with --check, 12 for a stranger; 8 for a photo that gives no face, once the others
are answered; 10 for a gallery of another model. --json is a list where there are several photos.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "identify",
        help="find who of a gallery is on a photo",
        description="Compare the face on a photo, or on each of several, with everybody in a gallery: an id, "
        "or a stranger.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photos", nargs="*", metavar="PHOTO", help="path or URI of a photo")
    parser.add_argument(
        "--photo",
        nargs="+",
        action="extend",
        default=[],
        dest="more",
        metavar="PHOTO",
        help="more photos; may be repeated",
    )
    parser.add_argument("--gallery", required=True, metavar="G", help="folder or s3:// prefix")
    add_threshold(parser, "from here up it is that person")
    add_calibration(parser)
    parser.add_argument(
        "--top", type=positive, default=5, metavar="K", help="people to show (default: %(default)s)"
    )
    parser.add_argument(
        "--faces", choices=FACES, default="centre-largest", help="which face counts (default: %(default)s)"
    )
    add_config(parser)
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON")
    parser.add_argument("--check", action="store_true", help="exit with 12 for a stranger")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from frpipe.core.config import load_config
    from frpipe.gallery.gallery import Gallery
    from frpipe.io import threshold_file
    from frpipe.jobs.identify.single import identify_each

    photos = [*options.photos, *options.more]
    if not photos:
        raise ConfigError("no photo is given", "name one or several: frpipe identify PHOTO --gallery G")
    config = load_config(options.config, options.set)
    results = identify_each(
        photos,
        Gallery.open(options.gallery),
        config,
        threshold=options.threshold,
        card=threshold_file.load(options.threshold_card) if options.threshold_card else None,
        top=options.top,
        faces=options.faces,
        calibration=calibration_card(options),
    )
    answered = [result for result in results if not isinstance(result, FaceError)]
    if len(photos) == 1 and not answered:
        raise next(result for result in results if isinstance(result, FaceError))
    print(_json(photos, results) if options.json else _text(photos, results))
    if failed := len(photos) - len(answered):
        raise FaceError(
            f"{failed:,} of {counted(len(photos), 'photos')} without an answer", "the output says why of each"
        )
    return EXIT_NO if options.check and any(result.stranger for result in answered) else 0


def _json(photos: Sequence[str], results: Sequence[Identification | FaceError]) -> str:
    """The result of one photo as JSON; of several a list, in their order, each with its photo."""
    each: list[dict[str, Any]] = [_plain(result) for result in results]
    named = [{"photo": photo, **one} for photo, one in zip(photos, each, strict=True)]
    return json.dumps(named if len(photos) > 1 else each[0], indent=1, ensure_ascii=False)


def _plain(result: Identification | FaceError) -> dict[str, Any]:
    if isinstance(result, FaceError):
        return {"error": {"code": result.code, "message": result.message, "remedy": result.remedy}}
    return result.as_dict()


def _text(photos: Sequence[str], results: Sequence[Identification | FaceError]) -> str:
    """Write a section for each photo, and what is the same for all of them once."""
    sections = [
        f"error [{result.code}]: {result}" if isinstance(result, FaceError) else _section(result)
        for result in results
    ]
    if len(photos) > 1:
        named = zip(photos, sections, strict=True)
        sections = [f"{printable(photo)}\n{textwrap.indent(section, '  ')}\n" for photo, section in named]
    first = next((result for result in results if not isinstance(result, FaceError)), None)
    if first is not None:
        sections += [_wrapped(_threshold(first.threshold)), _wrapped(_warning(first))]
    return "\n".join(sections).rstrip()


def _section(result: Identification) -> str:
    ratios = any(c.llr is not None for c in result.candidates)
    rows = [
        (
            rank,
            c.subject_id,
            f"{c.similarity:.4f}",
            f"{c.distance:.4f}",
            *([f"{c.llr or 0.0:+.2f}"] if ratios else []),
            *_attributes(c.attributes),
        )
        for rank, c in enumerate(result.candidates, start=1)
    ]
    names = ["rank", "id", "similarity", "distance", *(["llr"] if ratios else [])]
    width = max((len(row) for row in rows), default=len(names))
    padded = [(*row, *[""] * (width - len(row))) for row in rows]
    header = (*names, *[""] * (width - len(names)))
    return "\n".join(
        (
            f"{_who(result)}: {_reason(result)}",
            table(header, padded),
            f"{counted(result.subjects, 'people')}, {counted(result.templates, 'templates')}, "
            f"version {result.version}; "
            f"{result.model}, {result.face_policy} of {result.faces_found}, quality {result.quality:.2f}",
        )
    )


def _who(result: Identification) -> str:
    """The person's name, where the gallery has one, and the id."""
    if result.subject_id is None:
        return "stranger"
    name = result.candidates[0].attributes.get("Name")
    return printable(f"{name} ({result.subject_id})" if name else result.subject_id)


def _threshold(limit: Threshold) -> str:
    return f"threshold: similarity {limit.similarity:.4f} = distance {limit.distance:.4f}; {limit.source}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, subsequent_indent="  ")


def _attributes(attributes: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in attributes.items()]


def _reason(result: Identification) -> str:
    if not result.candidates:
        return "the gallery is empty"
    best, limit = result.candidates[0], result.threshold
    sign, other = ("<", ">") if result.stranger else (">=", "<=")
    return (
        f"similarity {best.similarity:.4f} {sign} {limit.similarity:.4f} "
        f"(distance {best.distance:.4f} {other} {limit.distance:.4f})"
    )


def _warning(result: Identification) -> str:
    if result.expected_fpir is None or not result.templates:
        return f"Warning: {result.threshold.warning}." if result.threshold.warning else ""
    return (
        f"It is for comparing TWO photos (FMR {result.threshold.fmr:g}). Among {result.templates:,} "
        f"templates a stranger is taken for somebody about {result.expected_fpir:.2%} of the time, "
        "1 - (1 - FMR)^templates: a larger gallery needs a higher one."
    )
