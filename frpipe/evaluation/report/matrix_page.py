"""What a matrix of scores says, as one HTML page and as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from frpipe.evaluation.plots.cmc import cmc_plots
from frpipe.evaluation.plots.plot import Plot
from frpipe.evaluation.report.page import document, plots_section
from frpipe.evaluation.report.parts import table
from frpipe.evaluation.report.scores_page import in_one_picture, rates_table, scores_plots
from frpipe.evaluation.scored_matrix import ScoredMatrix, Searched


def matrix_page(found: ScoredMatrix, said: Sequence[str], *, title: str, created: str) -> str:
    """HTML, the same for the same input.  said: what to say first, in lines."""
    searched = found.identification
    lines, warnings = (
        "".join(f"<li>{escape(line)}</li>" for line in each) for each in (said, found.verification.warnings)
    )
    aside = f'<aside class="card warn"><h3>Before believing the numbers</h3><ul>{warnings}</ul></aside>'
    return document(
        title,
        created,
        [
            ("summary", "Summary", f'<div class="card"><ul>{lines}</ul></div>{aside if warnings else ""}'),
            ("verification", "Verification", plots_section(scores_plots(found.verification, title))),
            ("identification", "Identification", plots_section(_searched_plots(searched, title))),
            ("ranks", "Ranks", f'<div class="card">{_ranks(searched)}</div>'),
            (
                "table",
                "Rates at round thresholds",
                f'<div class="card">{rates_table(found.verification)}</div>',
            ),
        ],
    )


def matrix_png(found: ScoredMatrix, name: str) -> bytes:
    """The first three plots of the comparisons, and CMC, side by side as one PNG."""
    return in_one_picture(
        [*scores_plots(found.verification, name)[:3], *cmc_plots([found.identification.evaluation(name)])]
    )


def _searched_plots(found: Searched, name: str) -> list[Plot]:
    cmc = cmc_plots([found.evaluation(name)])
    return [*cmc, *(scores_plots(found.scored, name) if found.scored else ())]


def _ranks(found: Searched) -> str:
    rows = [[f"{rank:,}", str(one), str(one.complement())] for rank, one in found.within.items()]
    return table("Mated searches", ("rank", "CMC", f"FNIR({found.searches.gallery}, R, 0)"), rows)
