"""What no module may do, and no output may hold."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for folder in ("frpipe", "jobs", "k8s", ".ci") for path in (ROOT / folder).rglob("*.py")
)
# Modules that run what they read.
RUN_WHAT_THEY_READ = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "imp"}
# It packs objects for other processes of its own job, and reads nothing else.
PACKS = ROOT / "frpipe/runtime/between_processes.py"
# Calls that do so, by the name that they are called by.
DANGEROUS_CALLS = {"eval", "exec", "compile", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system"}
DANGEROUS_ARGUMENTS = {
    ("allow_pickle", True),
    ("shell", True),
    ("verify", False),
    ("trust_remote_code", True),
}
SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLEONLY",
    "AWS_SECRET_ACCESS_KEY": "a-needle-in-a-stack",
    "AWS_SESSION_TOKEN": "another-needle-in-a-stack",
    "FRPIPE_GALLERY_KEY": "a-third-needle-in-a-stack",
}


def _faults(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = {alias.name.partition(".")[0] for alias in node.names}
            yield from (f"{node.lineno}: import {name}" for name in names & RUN_WHAT_THEY_READ)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in RUN_WHAT_THEY_READ:
                yield f"{node.lineno}: from {node.module}"
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func) in DANGEROUS_CALLS:
                yield f"{node.lineno}: {ast.unparse(node.func)}"
            given = {
                (word.arg, word.value.value) for word in node.keywords if isinstance(word.value, ast.Constant)
            }
            yield from (f"{node.lineno}: {name}={value}" for name, value in given & DANGEROUS_ARGUMENTS)


def test_nothing_runs_what_it_reads() -> None:
    assert len(SOURCES) > 100
    others = [path for path in SOURCES if path != PACKS]
    found = [f"{path.relative_to(ROOT)}:{fault}" for path in others for fault in _faults(path.read_text())]
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from dill import loads",
        "def f():\n    import joblib.x",
        "numpy.load(p, allow_pickle=True)",
        "yaml.load(text)",
        "exec(text)",
        "subprocess.run(c, shell=True)",
    ],
)
def test_the_rule_finds_what_it_is_for(source: str) -> None:
    assert list(_faults(source))


def test_what_the_threat_model_points_to_is_there() -> None:
    page = (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:tests|docs)/[\w/-]+(?:\.\w+)?", page))
    assert len(named) > 10
    assert not [name for name in named if not list(ROOT.glob(f"{name}*"))]


# secrets


@pytest.fixture
def verify_job(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FRPIPE_TRACEBACK", "1")
    found = importlib.util.spec_from_file_location("verify_job", ROOT / "jobs/verify.py")
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_an_error_of_the_object_store_holds_no_credential(
    verify_job: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    words = ("--pairs", "s3://bucket/p.csv", "--features", "s3://bucket/f", "--output", "s3://bucket/o")
    assert verify_job.main(list(words)) == 7
    said = capfd.readouterr()
    assert "storage" in said.err
    assert not [name for name, value in SECRETS.items() if value in said.out + said.err]


@pytest.mark.parametrize("key", ["a-third-needle-in-a-stack", "bmVlZGxlLW5lZWRsZQ=="])
def test_a_key_that_is_none_is_refused_without_being_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from frpipe.core.errors import FrpipeError
    from frpipe.gallery.encryption import Cipher

    monkeypatch.setenv("FRPIPE_GALLERY_KEY", key)
    with pytest.raises(FrpipeError) as caught:
        Cipher.from_environment("gallery")
    assert key not in str(caught.value)
    assert key not in repr(caught.value)
