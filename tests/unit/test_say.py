"""What jobs say while they work, for a person and for a log store."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from frpipe.cli import reporter as say
from frpipe.cli.reporter import Speaker
from frpipe.core.errors import ConfigError


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FRPIPE_LOG", "FRPIPE_RUN", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)
    say._run.cache_clear()


def _said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    said = capsys.readouterr()
    assert said.out == ""
    return [json.loads(line) for line in said.err.splitlines()]


def test_a_person_gets_the_line_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Speaker("enroll")("20 of 1,000 photos")
    assert capsys.readouterr().err == "20 of 1,000 photos\n"


def test_a_log_store_gets_one_object_a_line_with_the_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FRPIPE_LOG", "json")
    speak = Speaker("enroll")
    speak("20 of 1,000 photos  10.1/s  ok 20")
    speak("warning: two\nlines")
    first, second = _said(capsys)
    assert datetime.fromisoformat(first["time"]).utcoffset() == timedelta(0)
    assert (first["level"], first["job"], first["event"]) == ("info", "enroll", "progress")
    assert (first["done"], first["total"]) == (20, 1000)
    assert (second["level"], second["event"], second["message"]) == ("warning", "note", "warning: two\nlines")
    assert first["run"] == second["run"]


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("FRPIPE_RUN", "night-7", "night-7"),
        ("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"metadata": {"job_submission_id": "raysubmit_1"}}', "raysubmit_1"),
    ],
)
def test_a_run_is_found_again_by_the_name_that_others_know(
    variable: str,
    value: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FRPIPE_LOG", "json")
    monkeypatch.setenv(variable, value)
    Speaker("enroll")("hello")
    assert _said(capsys)[0]["run"] == expected


def test_another_form_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRPIPE_LOG", "jsn")
    with pytest.raises(ConfigError):
        Speaker("enroll")("hello")
