"""`frpipe look PHOTO ...`: the steps of a photo as pictures."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from frpipe.cli.gallery_parser import add_config, positive
from frpipe.cli.job_options import add_threshold
from frpipe.core.errors import ConfigError

_EXAMPLES = """\
examples:
  frpipe look a.jpg -o steps.png                     found, cropped, rotated, embedded
  frpipe look a.jpg b.jpg -o steps.html              the same of both, and their distance
  frpipe look a.jpg --gallery people -o who.html     the five of a gallery that are most like it

It shows faces: treat it as you treat the photos.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "look",
        help="draw the steps of a photo: found, cropped, rotated, embedded, compared",
        description="Draw each step from a photo to an answer, as a PNG or an HTML page.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="path or URI of a photo")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("steps.png"), metavar="FILE", help=".png or .html"
    )
    parser.add_argument("--gallery", metavar="G", help="search this gallery too: folder or s3:// prefix")
    parser.add_argument(
        "--top", type=positive, default=5, metavar="K", help="people to show (default: %(default)s)"
    )
    add_threshold(parser, "from here up it is the same person")
    add_config(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.output.suffix.lower() not in (".png", ".html"):
        raise ConfigError(
            f"{options.output} is neither a PNG nor an HTML page", "-o NAME.png or -o NAME.html"
        )
    from frpipe.core.config import load_config
    from frpipe.io import threshold_file
    from frpipe.jobs.going_on import for_gallery_at
    from frpipe.photos import look

    config = load_config(options.config, options.set)
    if options.gallery:
        config = for_gallery_at(config, options.gallery)
    card = threshold_file.load(options.threshold_card) if options.threshold_card else None
    rows = look.look(options.photos, config=config, threshold=options.threshold, card=card)
    if options.gallery:
        rows += look.look_in_gallery(
            options.photos,
            options.gallery,
            config=config,
            top=options.top,
            threshold=options.threshold,
            card=card,
        )
    data = look.as_png(rows) if options.output.suffix.lower() == ".png" else look.as_html(rows).encode()
    # It shows faces: for nobody else to read.
    with open(options.output, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(data)
    print(f"{options.output}: {', '.join(picture.title for picture in rows[0].pictures)}")
    return 0
