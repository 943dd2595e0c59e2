"""What is installed is pinned, and the audit of it does not take silence for health."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _pins() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _declared() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(text) for texts in (PROJECT["dependencies"], *extras) for text in texts]


def test_every_pin_is_exact_and_there_is_one_for_a_package() -> None:
    pins = _pins()
    assert not [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!]+", pin)]
    names = [canonicalize_name(pin.partition("==")[0]) for pin in pins]
    assert len(names) == len(set(names))


def test_every_declared_dependency_is_pinned_to_a_version_it_allows() -> None:
    pinned = {canonicalize_name(name): version for name, _, version in (p.partition("==") for p in _pins())}
    for requirement in _declared():
        version = pinned.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is not in constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement} does not allow {version}"


@pytest.fixture(scope="module")
def audit() -> Any:
    found = importlib.util.spec_from_file_location("audit", ROOT / ".ci/audit.py")
    assert found
    assert found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


SOUND = {"name": "sound", "version": "1.0", "vulns": []}
UNKNOWN = {"name": "unheard", "skip_reason": "not found"}
BAD = {"name": "bad", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}


def test_the_audit_names_what_is_vulnerable_and_where_it_is_mended(audit: Any) -> None:
    assert audit.verdict([SOUND, BAD], require=False) == (
        "bad 1.0: PYSEC-1 (mended in 1.1)",
        audit.VULNERABLE,
    )


@pytest.mark.parametrize("packages", [[], [UNKNOWN, UNKNOWN]])
def test_an_audit_of_nothing_is_not_a_clean_one(packages: list[Any], audit: Any) -> None:
    text, code = audit.verdict(packages, require=True)
    assert text.startswith("SKIPPED")
    assert code == audit.NOT_AUDITED
    assert audit.verdict(packages, require=False)[1] == 0


def test_packages_that_the_service_does_not_know_are_named(audit: Any) -> None:
    text, code = audit.verdict([SOUND, UNKNOWN], require=True)
    assert text == "1 packages without a known vulnerability; not known to the service: unheard"
    assert code == audit.NOT_AUDITED
    assert audit.verdict([SOUND], require=True)[1] == 0
