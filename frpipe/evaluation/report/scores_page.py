"""The report of a list of scores, as one HTML page and as one picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from frpipe.evaluation.calibrated import Calibrated, Cost, Group
from frpipe.evaluation.plots.area import area_plots
from frpipe.evaluation.plots.plot import Plot
from frpipe.evaluation.plots.rates import rate_curves
from frpipe.evaluation.plots.reliability import reliability_plot
from frpipe.evaluation.plots.scores import score_histograms
from frpipe.evaluation.plots.text import fixed
from frpipe.evaluation.rate_of import RateOf
from frpipe.evaluation.report.page import document, plots_section
from frpipe.evaluation.report.parts import table
from frpipe.evaluation.scored import RATES, Scored
from frpipe.metrics.operating import Insufficient


def scores_plots(scored: Scored, name: str, ratios: Calibrated | None = None) -> list[Plot]:
    """Draw the lecture's curve, then the usual ones, and histograms where scores are cosines.

    ratios: of comparisons; reliability is drawn where there is a calibration.
    """
    evaluation = scored.evaluation(name)
    plots = [*area_plots([evaluation], scored.accepted_at), *rate_curves([evaluation])]
    if "mated" in evaluation.curves:
        plots += score_histograms([evaluation])[:1]
    if ratios is None or isinstance(ratios.methods, Insufficient):
        return plots
    return [*plots, reliability_plot({name: method.bins for name, method in ratios.methods.items()})]


def scores_page(
    scored: Scored, said: Sequence[str], ratios: Calibrated | None = None, *, title: str, created: str
) -> str:
    """Write the page as HTML, the same for the same input.  said: what to say first, in lines."""
    lines = "".join(f"<li>{escape(line)}</li>" for line in said)
    known = [*scored.warnings, *(ratios.warnings if ratios else [])]
    warnings = "".join(f"<li>{escape(line)}</li>" for line in known)
    aside = f'<aside class="card warn"><h3>Before believing the numbers</h3><ul>{warnings}</ul></aside>'
    return document(
        title,
        created,
        [
            (
                "summary",
                "Summary",
                f'<div class="card"><ul>{lines}</ul></div>{aside if warnings else ""}',
            ),
            ("plots", "Plots", plots_section(scores_plots(scored, title, ratios))),
            *([("calibration", "Calibration", calibration_section(ratios))] if ratios else []),
            ("table", "Rates at round thresholds", f'<div class="card">{rates_table(scored)}</div>'),
        ],
    )


def scores_png(scored: Scored, name: str, ratios: Calibrated | None = None) -> bytes:
    """Draw the first three plots side by side as one PNG, with reliability where there is a calibration."""
    plots = scores_plots(scored, name, ratios)
    return in_one_picture(
        [plot for place, plot in enumerate(plots) if place < 3 or plot.name == "reliability"]
    )


def in_one_picture(plots: Sequence[Plot]) -> bytes:
    """Plots side by side as one PNG."""
    pictures = [Image.open(io.BytesIO(plot.png())).convert("RGB") for plot in plots]
    height = max(picture.height for picture in pictures)
    whole = Image.new("RGB", (sum(picture.width for picture in pictures), height), "white")
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width
    data = io.BytesIO()
    whole.save(data, "PNG")
    return data.getvalue()


def rates_table(scored: Scored) -> str:
    """HTML: rates at round thresholds."""
    accept, reject, *_ = RATES[scored.task]
    found = scored.table
    rows = zip(found.threshold, found.true_accept, found.true_reject, strict=True)
    return table(
        f"AUC on these thresholds {found.auc_grid:.4g}, exact {found.auc_exact:.4g}",
        (f"{scored.kind} threshold", accept, reject),
        [[f"{value:.4g}" for value in row] for row in rows],
    )


def calibration_section(found: Calibrated) -> str:
    """Write, as HTML, costs of each calibration and the least possible, and the groups, if there are any."""
    methods = found.methods
    rows = [
        ["least possible", fixed(found.min_cllr, 4), *map(_cost, found.min_dcf)],
    ]
    if not isinstance(methods, Insufficient):
        rows[:0] = [
            [name, fixed(method.cllr, 4), *map(_cost, method.dcf)] for name, method in methods.items()
        ]
        caption = f"Log-likelihood ratios, cross-fitted {found.how}. EER on the hull {fixed(found.eer, 4)}"
    else:
        caption = f"No calibration, {methods}. EER on the hull {fixed(found.eer, 4)}"
    columns = "calibration", "Cllr, bits", *(f"DCF at {each}" for each in found.applications)
    return f'<div class="card">{table(caption, columns, rows)}</div>{_groups(found.groups)}'


def _groups(groups: Sequence[Group]) -> str:
    if not groups:
        return ""
    rows = [
        [
            escape(group.label),
            _rate(group.fnmr),
            _rate(group.fmr),
            *("" if value is None else fixed(value, 4) for value in (group.cllr, group.min_cllr)),
        ]
        for group in groups
    ]
    columns = "group", "FNMR", "FMR", "Cllr, bits", "min Cllr, bits"
    return f'<div class="card">{table("Groups, at the threshold of all", columns, rows)}</div>'


def _cost(cost: Cost) -> str:
    return escape(str(cost)) if isinstance(cost, Insufficient) else fixed(cost, 4)


def _rate(rate: RateOf) -> str:
    return escape(str(rate))
