"""The command line of `metrics templates`: templates of several photos and media."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from frpipe.cli.gallery_parser import FACES, numeric, positive
from frpipe.cli.job_options import add_embedder, add_modes, add_similarities

if TYPE_CHECKING:
    from frpipe.jobs.evaluate.template_job import TemplateMetrics

_EXAMPLES = """\
examples:
  --features out/ --templates templates.csv --pairs pairs.csv --output report/              one to one
  --features out/ --templates templates.csv --gallery g1.csv --probes probes.csv --output report/

The list of templates has a row for each photo of each template: template_id, image_id, and, where they are
known, media (the frames of a video have one) and subject_id. The others name templates: a and b of pairs,
template_id of gallery and probes. docs/evaluation.md says more."""


def add_templates(tasks: Any, say: Callable[[str], None]) -> None:
    """Declare the task."""
    parser = tasks.add_parser(
        "templates",
        help="templates pooled of several photos and media, compared or searched",
        description="Evaluate templates: photos are averaged by medium, then media by template.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--features", required=True, metavar="URI", help="the --output of a finished enroll run")
    add_embedder(parser, "--features")
    add("--templates", required=True, metavar="URI", help="list of the photos of each template")
    add("--pairs", metavar="URI", help="list of templates to compare, columns a and b, mated, fold")
    add("--gallery", metavar="URI", help="in place of pairs: list of templates to enrol")
    add("--probes", metavar="URI", help="and of those to search with")
    add("--top", type=positive, default=50, metavar="K", help="candidates of a search (default: %(default)s)")
    add("--faces", choices=FACES, default="centre-largest", help="which face of a photo (%(default)s)")
    add("--output", required=True, metavar="URI", help="folder or s3:// prefix, new or of the same run")
    add("--name", default="templates", help="of the system, for people")
    add_similarities(parser, "rates at these similarities too")
    add("--target", type=numeric, nargs="+", default=[], metavar="P", help="FMR, or FPIR, targets")
    add("--title", default="", help="of the page")
    add_modes(parser)
    parser.set_defaults(job=partial(_job, say))


def _job(say: Callable[[str], None], options: argparse.Namespace) -> TemplateMetrics:
    from frpipe.jobs.evaluate.job import Asked
    from frpipe.jobs.evaluate.template_job import TemplateMetrics

    asked = Asked(
        [options.features],
        options.output,
        names=[options.name],
        thresholds=options.threshold,
        targets=options.target,
        title=options.title,
    )
    return TemplateMetrics(
        asked,
        options.templates,
        options.pairs,
        options.gallery,
        options.probes,
        options.top,
        options.faces,
        options.embedder,
        say,
    )
