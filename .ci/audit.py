"""Look up known vulnerabilities of everything that constraints.txt pins: `make audit`.

    python .ci/audit.py              where no advisory service answers, say so and end with 0
    python .ci/audit.py --require    end with 3 there, and where a package could not be looked up

Exit code 1: a pinned version has a known vulnerability. The advisories come from the package index, or with
--service osv from OSV, through pip-audit (of the extra `audit`). A package that the service does not know is
not a package without faults, so it is counted apart.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VULNERABLE, NOT_AUDITED = 1, 3


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if importlib.util.find_spec("pip_audit") is None:
        sys.stderr.write("pip-audit is not installed: pip install -e '.[audit]', or make audit\n")
        return NOT_AUDITED
    try:
        done = subprocess.run(_command(options), capture_output=True, text=True, timeout=600, check=False)
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, subprocess.TimeoutExpired):
        packages = []
    text, code = verdict(packages, options.require)
    sys.stdout.write(f"{text}\n")
    return code


def verdict(packages: list[dict[str, Any]], require: bool) -> tuple[str, int]:
    """What to print, and the exit code. packages: `dependencies` of pip-audit's JSON."""
    bad = [package for package in packages if package.get("vulns")]
    unknown = [package for package in packages if "skip_reason" in package]
    audited = len(packages) - len(unknown)
    if bad:
        return "\n".join(_line(package) for package in bad), VULNERABLE
    if not audited:
        return "SKIPPED: no advisory service answers here; nothing was audited", NOT_AUDITED if require else 0
    text = f"{audited} packages without a known vulnerability"
    if not unknown:
        return text, 0
    names = ", ".join(package["name"] for package in unknown)
    return f"{text}; not known to the service: {names}", NOT_AUDITED if require else 0


def _line(package: dict[str, Any]) -> str:
    found = ", ".join(
        f"{each['id']} (mended in {', '.join(each['fix_versions']) or 'no version'})"
        for each in package["vulns"]
    )
    return f"{package['name']} {package['version']}: {found}"


def _command(options: argparse.Namespace) -> list[str]:
    listed = ("--requirement", str(ROOT / "constraints.txt"), "--no-deps", "--disable-pip")
    form = ("--format", "json", "--progress-spinner", "off", "--vulnerability-service", options.service)
    return [sys.executable, "-m", "pip_audit", *listed, *form]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--require", action="store_true", help="a failure where anything was not audited")
    parser.add_argument("--service", choices=("pypi", "osv"), default="pypi", help="default: %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
