"""Plots of evaluations: what is drawn, what the tables behind them say, and that nothing else changes."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from evaluations import THRESHOLD, identification, verification

from frpipe.core.errors import ConfigError
from frpipe.evaluation.evaluation import Evaluation, Series
from frpipe.evaluation.number import Number
from frpipe.evaluation.plots.figures import figures
from frpipe.evaluation.plots.plot import Plot
from frpipe.evaluation.plots.scores import thresholds
from frpipe.evaluation.plots.style import CARD, ROLES, SERIES, look
from frpipe.evaluation.plots.text import fixed, places, share, target, threshold
from frpipe.metrics.rate import Rate


def _named(plots: list[Plot]) -> dict[str, Plot]:
    return {plot.name: plot for plot in plots}


@pytest.fixture(scope="module")
def pair() -> list[Evaluation]:
    return [verification("model A", 1), verification("model B", 2, trials=(3000, 6000))]


def test_each_task_has_its_plots(pair: list[Evaluation]) -> None:
    assert set(_named(figures(pair))) == {
        "tar-trr", "roc", "det", "scores", "scores-log", "targets", "cohort-1", "cohort-2",
    }  # fmt: skip
    assert set(_named(figures([identification("model A")]))) == {
        "tpir-tnir", "open-roc", "open-det", "scores", "scores-log", "cmc", "targets",
    }  # fmt: skip


def test_what_was_not_measured_is_not_drawn() -> None:
    bare = Evaluation("model", "verification", {}, [Number.scalar("EER", 0.1)], {}, {})
    assert figures([bare]) == []
    assert figures([]) == []


def test_tasks_do_not_share_a_plot(pair: list[Evaluation]) -> None:
    with pytest.raises(ConfigError, match="one page"):
        figures([pair[0], identification("model C")])


def test_every_plot_is_an_svg_and_the_same_one_each_time() -> None:
    """Those of identification; for verification the page's test compares bytes."""
    first, second = (figures([identification("model A"), identification("model B", 1)]) for _ in range(2))
    for plot, again in zip(first, second, strict=True):
        svg = plot.svg()
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert svg == again.svg(), plot.name


def test_a_plot_is_a_png_too(pair: list[Evaluation]) -> None:
    plot = _named(figures(pair))["targets"]
    assert plot.png().startswith(b"\x89PNG") and plot.png() == plot.png()


def test_settings_of_the_process_neither_matter_nor_change(pair: list[Evaluation]) -> None:
    plot = _named(figures(pair))["targets"]
    usual = plot.svg()
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9}):
        before = dict(mpl.rcParams)
        assert replace(plot).svg() == usual
        assert dict(mpl.rcParams) == before


def test_names_are_no_formulas_and_no_markup() -> None:
    names = ["cost $x^2$ & <b>", "_private", "名前"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = _named(figures([verification(name) for name in names]))["roc"].svg()
    drawn = {text.strip() for text in ElementTree.fromstring(svg).itertext()}
    assert set(names) <= drawn


def test_the_table_of_the_roc_agrees_with_the_rates_at_targets(pair: list[Evaluation]) -> None:
    rows = {row[0]: row[1:] for row in _named(figures(pair))["roc"].rows}
    for evaluation, cells in zip(
        pair, zip(*(rows[t] for t in ("0.1", "0.01", "0.001")), strict=True), strict=True
    ):
        for at, cell in zip((0.1, 0.01, 0.001), cells, strict=True):
            number = evaluation.number("TAR", at)
            assert number is not None and number.value is not None
            assert float(cell.split()[0]) == pytest.approx(number.value, abs=5e-4)
    # 20,000 comparisons support 3/20,000 and no less.
    assert all("insufficient data" in cell for cell in rows["0.0001"])


def test_too_few_trials_are_shaded_and_said(pair: list[Evaluation]) -> None:
    plot = _named(figures(pair))["roc"]
    assert "too few" in plot.svg() and "rule of 3" in plot.caption


def test_a_band_that_begins_later_than_its_curve_is_no_number(pair: list[Evaluation]) -> None:
    roc = pair[0].curves["roc"]
    unknown = np.full(len(roc.x), np.nan)
    made = replace(pair[0], curves={"roc": replace(roc, low=unknown, high=unknown)})
    plot = _named(figures([made]))["roc"]
    assert "nan" not in str(plot.rows) and "<svg" in plot.svg()


def test_histograms_count_every_score(pair: list[Evaluation]) -> None:
    rows = _named(figures(pair))["scores"].rows
    mine = [row for row in rows if row[0] == "model A"]
    mated, nonmated = (sum(int(row[k].replace(",", "")) for row in mine) for k in (3, 4))
    assert (mated, nonmated) == tuple(int(pair[0].curves[k].y.sum()) for k in ("mated", "nonmated"))


def test_a_histogram_of_one_side_or_of_nothing_is_drawn() -> None:
    whole = verification("model A")
    empty = Series(np.array([-1.0, 0.0]), np.zeros(2))
    for curves in ({"mated": whole.curves["mated"]}, {"mated": empty, "nonmated": empty}):
        for plot in figures([replace(whole, curves=curves, numbers=[])]):
            assert "density" in plot.svg()


def test_thresholds_in_use_are_those_that_rates_were_taken_at(pair: list[Evaluation]) -> None:
    assert thresholds(pair[0]) == [THRESHOLD]


def test_groups_of_systems_with_thresholds_of_their_own_share_a_panel() -> None:
    made = [
        Evaluation(
            name, "verification", {},
            [
                Number.rate("FNMR", Rate(5, 100), at=at),
                Number.rate("FNMR", Rate(0, 40), at=at, column="light", group="night"),
                Number.rate("FNMR", Rate(30, 60), at=at, column="light", group="day"),
            ],
            {}, {},
        )
        for name, at in (("A", 0.3), ("B", 0.4))
    ]  # fmt: skip
    plot = _named(figures(made))["cohort-1"]
    assert plot.svg().count("FNMR at each system's threshold") == 1
    assert [row[:3] for row in plot.rows] == [
        ("day", "A", "0.50"), ("day", "B", "0.50"), ("night", "A", "0"), ("night", "B", "0"),
    ]  # fmt: skip


def test_a_target_without_enough_trials_is_a_row_in_words(pair: list[Evaluation]) -> None:
    rows = _named(figures(pair))["targets"].rows
    assert [row[2] for row in rows if row[0] == "FMR ≤ 0.0001"] == [
        "insufficient data: 20,000 non-mated trials, 0.0001 needs 30,000",
        "insufficient data: 6,000 non-mated trials, 0.0001 needs 30,000",
    ]


def test_no_more_digits_than_the_interval_supports() -> None:
    # By the rule of the Particle Data Group 0.827 ± 0.119 is 0.83 ± 0.12, and 0.827 ± 0.367 is 0.8 ± 0.4.
    assert [places(half) for half in (0.119, 0.367, 0.0065, 12.0)] == [2, 1, 3, 0]
    assert fixed(1e308, 4) == "1e+308" and fixed(-2.5e-12, 4) == "−2.5e−12"
    assert fixed(0.00000412, 4) == "0.000004" and fixed(0.0, 4) == "0" and fixed(-0.5, 2) == "−0.50"
    assert share(0.97234, 100) == "0.972" and share(0.97234, 1_000_000) == "0.97234"


def test_thresholds_name_their_kind_and_targets_stay_readable() -> None:
    assert threshold(0.32) == "similarity ≥ 0.3200, distance ≤ 0.6800"
    assert threshold(float("inf")) == "nothing is accepted"
    assert [target(rate) for rate in (0.1, 1e-4, 1e-5, 3e-7)] == ["0.1", "0.0001", "10⁻⁵", "3 × 10⁻⁷"]


def test_systems_can_be_told_apart_in_both_modes() -> None:
    looks = [look(index) for index in range(30)]
    assert len({str((each.colour, each.dash)) for each in looks}) == 30
    for light, dark in SERIES:
        assert _contrast(light, CARD) >= 3 and _contrast(dark, ROLES["card"][1]) >= 3


def _contrast(one: str, other: str) -> float:
    """WCAG 2: relative luminance of the lighter over that of the darker."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize(
    "code",
    [
        "from frpipe.evaluation.plots.style import canvas, settings\nwith settings():\n    canvas(100.0)",
        "from frpipe.vision.fonts import font_for\nfont_for('\\ua9c0', 12)",
    ],
)
def test_a_backend_that_is_not_installed_keeps_nothing_from_being_drawn(code: str) -> None:
    """As a notebook leaves it to what it starts in another environment."""
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
