"""The page of an evaluation in a real browser: whatever Chromium is on the machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import difference, identification, verification

from frpipe.evaluation.calibrated import Known, calibrated
from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.plots.figures import figures
from frpipe.evaluation.report.page import page
from frpipe.evaluation.report.scores_page import scores_page
from frpipe.evaluation.scored import Operating, scored
from frpipe.metrics.costs import Application

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless_shell")
PHONE, DESKTOP = 390, 1280
SCREENS = [
    ("light", DESKTOP),
    ("dark", PHONE),
    *(pytest.param(*each, marks=pytest.mark.slow) for each in (("light", PHONE), ("dark", DESKTOP))),
]

# Text whose contrast with what lies behind it is below the 4.5 of WCAG 2 (AA).
FAINT = """() => {
  const rgb = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const [r, g, b, a = 1] = rgb(getComputedStyle(element).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const said = element => [...element.childNodes].some(n => n.nodeType === 3 && n.data.trim());
  return [...document.body.querySelectorAll('*')].filter(said).map(element => {
    const style = getComputedStyle(element);
    const ink = element.namespaceURI.endsWith('svg') ? style.fill : style.color;
    const [a, b] = [light(rgb(ink)), light(behind(element))].sort((x, y) => y - x);
    return [element.textContent.trim().slice(0, 40), ink, (a + 0.05) / (b + 0.05)];
  }).filter(([, , ratio]) => ratio < 4.5);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = os.environ.get("FRPIPE_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium on PATH: install one, or name it in FRPIPE_CHROMIUM")
    # Its sandbox refuses root, which containers run as.
    sandboxed = not hasattr(os, "geteuid") or os.geteuid() != 0
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-gpu"]
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=quiet, chromium_sandbox=sandboxed)
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=["verification", "identification"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: dict[str, list[Evaluation]] = {
        "verification": [verification("model A, with a name of some length", 1), verification("model B", 2)],
        "identification": [identification("model A"), identification("model B", 1)],
    }
    evaluations = made[request.param]
    html = page(evaluations, [difference()], figures(evaluations), title="Evaluation", created="today")
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    distances = np.concatenate([rng.normal(0.4, 0.1, 300), rng.normal(0.9, 0.1, 3000)])
    mated = np.arange(3300) < 300
    said = scored("distance", mated, distances, None, Operating("target", 0.01))
    known = Known(group=np.array(["one site", "a site with a name of some length", ""])[np.arange(3300) % 3])
    applications = Application(0.01), Application(0.0001, 10, 1)
    ratios = calibrated("distance", mated, distances, known, said.point.threshold, applications=applications)
    path = tmp_path_factory.mktemp("scores") / "page.html"
    path.write_text(
        scores_page(said, ["one line"], ratios, title="Scores", created="today"), encoding="utf-8"
    )
    return path


@pytest.mark.parametrize(("scheme", "width"), SCREENS)
def test_scores_are_whole_quiet_and_legible(browser: Any, scores: Path, width: int, scheme: str) -> None:
    _whole_quiet_and_legible(browser, scores, width, scheme, plots=5)


@pytest.mark.parametrize(("scheme", "width"), SCREENS)
def test_it_is_whole_quiet_and_legible(browser: Any, file: Path, width: int, scheme: str) -> None:
    _whole_quiet_and_legible(browser, file, width, scheme, plots=6)


def _whole_quiet_and_legible(browser: Any, file: Path, width: int, scheme: str, plots: int) -> None:
    said: list[str] = []
    asked: list[str] = []
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(file.as_uri())

    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(FAINT) == []
    drawn = tab.locator("figure.plot > svg").all()
    sizes = [plot.bounding_box() for plot in drawn]
    assert len(sizes) >= plots
    assert all(box and box["width"] > 250 and box["height"] > 150 for box in sizes)
    assert all(plot.locator("path").count() > 3 for plot in drawn)
    tab.close()


def test_tables_open_and_links_lead_somewhere(browser: Any, file: Path) -> None:
    tab = browser.new_page(viewport={"width": PHONE, "height": 800})
    tab.goto(file.as_uri())
    shown = tab.locator("figure.plot details").first
    assert not shown.locator("table").is_visible()
    shown.locator("summary").click()
    assert shown.locator("table").is_visible()
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE
    tab.get_by_role("link", name="Provenance").click()
    assert tab.locator("#provenance").is_visible()
    tab.close()


def test_on_paper_it_is_light_whatever_the_screen_is(browser: Any, file: Path) -> None:
    tab = browser.new_page(viewport={"width": DESKTOP, "height": 800}, color_scheme="dark")
    tab.goto(file.as_uri())
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(29, 36, 48)"
    assert tab.pdf(print_background=True).startswith(b"%PDF")
    tab.close()
