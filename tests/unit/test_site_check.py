"""The check of the built documentation finds what a browser would load from another host."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LOCAL = """<html><head><link rel="stylesheet" href="a.css"><script src="a.js"></script></head>
<body><a href="https://example.org/">to follow</a><img src="data:image/png;base64,AA=="></body></html>"""


@pytest.fixture(scope="module")
def check() -> ModuleType:
    found = importlib.util.spec_from_file_location("check_site", ROOT / ".ci/check_site.py")
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("b.html", '<link rel="stylesheet" href="https://example.org/a.css">'),
        ("b.html", '<script async src="//example.org/a.js"></script>'),
        ("b.html", '<img src="HTTP://example.org/a.png">'),
        ("b.html", '<img srcset="a.png 1x, https://example.org/a.png 2x">'),
        ("b.html", '<iframe src="https://example.org/"></iframe>'),
        ("b.html", "<style>@import 'https://example.org/a.css';</style>"),
        ("b.html", "<script>fetch('https://example.org/a')</script>"),
        ("a.css", "p { background: url(https://example.org/a.png) }"),
        ("a.css", '@import url("//example.org/a.css");'),
        ("a.js", 'const s = document.createElement("script"); s.src = "https://example.org/a.js"'),
    ],
)
def test_what_is_loaded_from_another_host_is_named(
    check: ModuleType, tmp_path: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.html").write_text(LOCAL)
    assert check.main([str(tmp_path)]) == 0
    (tmp_path / name).write_text(text)
    assert check.main([str(tmp_path)]) == 1
    assert f"{name}: " in capsys.readouterr().out


def test_a_site_without_pages_is_none(check: ModuleType, tmp_path: Path) -> None:
    assert check.main([str(tmp_path)]) == 1


def test_other_hosts_of_code_run_the_same_as_ci() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    commands = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    assert commands == {"bash .ci/run", "make docs", "make wheel"}


def test_hooks_before_a_commit_are_the_checks_of_make_test() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    entries = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in repository["hooks"]}
    recipes = (ROOT / "Makefile").read_text()
    assert entries == {"ruff", "mypy", "lint-imports", "pytest"}
    assert all(f"$(BIN)/{name}" in recipes for name in entries)
