"""The page of an evaluation: what it says, and that it is one file that asks for nothing."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from evaluations import difference, identification, verification

from frpipe.core.errors import ConfigError
from frpipe.evaluation.evaluation import Evaluation, Trial
from frpipe.evaluation.measures import BY_NAME
from frpipe.evaluation.number import Number
from frpipe.evaluation.plots.figures import figures
from frpipe.evaluation.plots.style import SERIES
from frpipe.evaluation.report.page import page
from frpipe.metrics.rate import Rate

EVIL = "\"><script>alert(1)</script>'&"


class _Read(HTMLParser):
    """Tags with their attributes, and the text outside of style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open != "style" and data.strip():
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def values(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


def _page(*evaluations: Evaluation, plots: bool = False, **rest: object) -> str:
    drawn = figures(evaluations) if plots else []
    given = {"title": "Evaluation", "created": "24 November 2026", "differences": [], **rest}
    return page(list(evaluations), plots=drawn, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole() -> str:
    return _page(
        verification("model A", 1), verification("model B", 2), plots=True, differences=[difference()]
    )


def test_it_is_one_file_that_loads_and_runs_nothing(whole: str) -> None:
    found = _Read(whole)
    assert not {tag for tag, _ in found.tags} & {"script", "iframe", "object", "embed", "form"}
    assert all(
        link.startswith(("#", "data:"))
        for name in ("href", "src", "xlink:href")
        for link in found.values(name)
    )
    assert "default-src 'none'" in whole
    assert not re.search(r"https?:|@import|url\((?!#)|\son\w+=", whole)


def test_ids_are_unique_and_every_reference_has_one(whole: str) -> None:
    found = _Read(whole)
    ids = Counter(found.values("id"))
    assert max(ids.values()) == 1
    links = {link[1:] for link in found.values("href") if link.startswith("#")}
    assert links | set(re.findall(r"url\(#([^)]+)\)", whole)) <= set(ids)


def test_the_same_input_gives_the_same_bytes(whole: str) -> None:
    again = _page(
        verification("model A", 1), verification("model B", 2), plots=True, differences=[difference()]
    )
    assert again == whole


def test_plots_take_the_colours_of_the_page_and_have_words_and_a_table(whole: str) -> None:
    body = whole.split("</style>")[1]
    assert not [light for light, _ in SERIES if light in body] and "var(--s1)" in body
    found = _Read(whole)
    plots = [attrs for tag, attrs in found.tags if tag == "svg" and attrs.get("role") == "img"]
    assert len(plots) == 8 and all(attrs["aria-label"] for attrs in plots)
    assert sum(tag == "details" for tag, _ in found.tags) == len(plots)


def test_everything_that_is_written_by_others_is_escaped() -> None:
    evil = replace(
        verification(EVIL),
        warnings=[EVIL],
        provenance={EVIL: EVIL},
        counts={EVIL: 3},
        worst=[Trial(EVIL, EVIL, True, 0.1)],
    )
    cohort = replace(evil.numbers[0], column=EVIL, group=EVIL, note=EVIL, method=EVIL)
    evil = replace(evil, numbers=[*evil.numbers, cohort])
    differs = replace(difference(), first=EVIL, second=EVIL, method=EVIL, note=EVIL)
    html = _page(
        evil, evil, plots=True, title=EVIL, created=EVIL, differences=[differs], thumbnails={EVIL: b"jpeg"}
    )
    found = _Read(html)
    assert not [tag for tag, attrs in found.tags if tag == "script" or any(k.startswith("on") for k in attrs)]
    assert "alert(1)" in found.text


def test_numbers_go_with_their_interval_counts_and_both_kinds_of_threshold(whole: str) -> None:
    number = verification("model A", 1).number("TAR", 1e-3)
    assert number is not None and number.threshold is not None
    text = _Read(whole).text
    assert f"{number.count:,} of {number.trials:,}" in text
    at = number.threshold
    assert f"similarity ≥ {at:.4f}, distance ≤ {1 - at:.4f}" in text
    assert "0.987 (0.982 to 0.990; 2,960 of 3,000)" in text


def test_what_cannot_be_said_is_said_in_words(whole: str) -> None:
    text = _Read(whole).text
    assert "TAR at FMR ≤ 0.0001: no number. Insufficient data: 20,000 non-mated trials" in text
    assert "insufficient data: 20,000 non-mated trials, 0.0001 needs 30,000" in text


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (difference(0.01, significant=True), "unlikely to be chance: model B is better"),
        (difference(-0.01, significant=True), "unlikely to be chance: model A is better"),
        (replace(difference(-0.01), measure="EER", at=None), "unlikely to be chance: model B is better"),
        (difference(0.001, 0.4, significant=False), "may be chance"),
        (replace(difference(), significant=None), "not tested"),
        (replace(difference(), value=None, note="too few people in common"), "too few people in common"),
    ],
)
def test_a_difference_says_whether_it_may_be_chance(made: object, said: str) -> None:
    text = _Read(_page(verification("model A"), verification("model B"), differences=[made])).text
    assert said in text
    assert ("is better" in said) == bool(re.search("model [AB] is better", text))


def test_only_what_was_given_is_shown_of_the_worst_pairs() -> None:
    evaluation = verification("model A")
    ids_only = _page(evaluation)
    assert "<img" not in ids_only and "m/0193/002" in ids_only
    html = _page(evaluation, thumbnails={"m/0007/001": b"\xff\xd8jpeg", "elsewhere": b"no"})
    assert re.findall(r'<img alt="photo ([^"]+)"', html) == ["m/0007/001"]
    assert "Worst pairs" not in _page(replace(evaluation, worst=()))


def test_groups_show_both_errors_and_other_measures_on_request() -> None:
    evaluation = verification("model A")
    more = Number.rate("accuracy", Rate(77, 80), at=0.32, column="light", group="night")
    html = _page(replace(evaluation, numbers=[*evaluation.numbers, more]))
    shown, _, rest = html.partition('<details class="more">')
    assert "Groups by light: FNMR at similarity" in shown and "Groups by light: accuracy" not in shown
    assert "Groups by light: accuracy" in rest and "77 of 80" in rest


def test_definitions_are_those_of_the_measures_that_occur(whole: str) -> None:
    text = _Read(whole).text
    assert BY_NAME["TAR"].means in text and BY_NAME["EER"].means in text
    assert BY_NAME["selectivity"].means not in text


def test_hashes_and_warnings_are_there(whole: str) -> None:
    assert "ab12" * 16 in whole and "0c3f" * 16 in whole
    text = _Read(whole).text
    assert text.count("4 photos had no usable face") == 1


def test_identification_is_told_in_its_own_terms() -> None:
    text = _Read(_page(identification("model A"))).text
    assert "One system was tested at identification (one to many): model A" in text
    assert "TPIR at FPIR ≤ 0.001" in text and "CMC at rank 1" in text


def test_no_page_of_nothing_and_none_of_two_tasks() -> None:
    with pytest.raises(ConfigError, match="no evaluation"):
        _page()
    with pytest.raises(ConfigError, match="one page"):
        _page(verification("model A"), identification("model B"))
