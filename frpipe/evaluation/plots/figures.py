"""Draw every plot that a set of evaluations allows."""

from __future__ import annotations

from collections.abc import Sequence

from frpipe.core.errors import ConfigError
from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.plots.area import area_plots
from frpipe.evaluation.plots.cmc import cmc_plots
from frpipe.evaluation.plots.discard import discard_plots
from frpipe.evaluation.plots.forest import forest_plots
from frpipe.evaluation.plots.matrix import matrix_plots
from frpipe.evaluation.plots.plot import Plot
from frpipe.evaluation.plots.presentation import presentation_plots
from frpipe.evaluation.plots.rates import rate_curves
from frpipe.evaluation.plots.scores import score_histograms

__all__ = ["Plot", "figures", "one_task"]


def figures(evaluations: Sequence[Evaluation]) -> list[Plot]:
    """Draw systems overlaid, told apart by colour, dash and marker in the order given.

    Raises ConfigError: they are of different tasks.
    """
    one_task(evaluations)
    if not evaluations:
        return []
    return [
        *area_plots(evaluations),
        *rate_curves(evaluations),
        *score_histograms(evaluations),
        *cmc_plots(evaluations),
        *presentation_plots(evaluations),
        *discard_plots(evaluations),
        *forest_plots(evaluations),
        *matrix_plots(evaluations),
    ]


def one_task(evaluations: Sequence[Evaluation]) -> None:
    """Check that all evaluations are of one task.

    Raises ConfigError: verification beside identification, say.
    """
    if len({e.task for e in evaluations}) > 1:
        raise ConfigError(
            "evaluations of different tasks cannot stand on one page", "make a page for each task"
        )
