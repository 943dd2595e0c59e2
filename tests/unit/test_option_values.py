"""Values of options that make no sense: every command says what it takes, in words of its users."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from importlib import import_module

import pytest

from frpipe.cli.main import COMMANDS, _parser, main
from frpipe.cli.run import BUILT_IN

ODD = ("abc", "", " ", "-", "1.5.2", "nan", "1e999", "-1", "0x10", "²", "1,2", "a=b", "9" * 5000)
NAMED = {
    "publish --keep-hours abc": "hours",
    "publish --target-mb abc": "whole number from 1 up",
    "dedup --threshold high": "no number",
}


def _actions(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.Action]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                yield from _actions(below, f"{name} {word}")
        elif action.type is not None:
            yield f"{name} {'/'.join(action.option_strings) or action.dest}", action


def _parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield "frpipe", _parser(COMMANDS)
    for job in BUILT_IN:
        yield f"run {job}", import_module(f"frpipe.cli.jobs.{job}")._parser()


def test_no_option_answers_with_the_name_of_a_function() -> None:
    found, wrong = 0, []
    for name, parser in _parsers():
        for option, action in _actions(parser, name):
            found += 1
            for text in ODD:
                try:
                    parser._get_value(action, text)
                except argparse.ArgumentError as error:
                    if re.match(r"invalid .* value: ", error.message) or not error.message:
                        wrong.append(f"{option} {text[:9]!r}: {error.message[:80]}")
    assert not wrong
    assert found > 100


@pytest.mark.parametrize("words", NAMED)
def test_it_says_what_is_asked_for(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["run", *words.split()])
    said = capsys.readouterr().err
    assert NAMED[words] in said and words.split()[1] in said
