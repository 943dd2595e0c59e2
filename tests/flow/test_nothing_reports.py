"""No library that frpipe uses reports to its maker: no files of theirs are left, nobody is called."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import frozen
import pytest
from enrollment import ROOT, command

import frpipe

_CALL = re.compile(r"sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )\"([^\"]+)\"")
_HERE = re.compile(r"(::ffff:)?127\.|::1$|0\.0\.0\.0$")
# Ray asks the system which of its addresses leads there, by a datagram socket to which it writes nothing.
_UNSENT = ("53", "8.8.8.8")
# The photos are drawn.
SETTINGS = [word for each in (*frozen.settings(), "detect.not_photographs=keep") for word in ("--set", each)]


@dataclass
class Watched:
    """Folders that are empty before, and a program that notes every call over the network."""

    root: Path
    environment: dict[str, str]

    def run(self, *words: str) -> None:
        """Run a command with fresh folders of its own, whatever the caller's environment says."""
        for name in ("home", "tmp", "here"):
            (self.root / name).mkdir(exist_ok=True)
        home = str(self.root / "home")
        fresh = {"HOME": home, "TMPDIR": str(self.root / "tmp"), "RAY_TMPDIR": str(self.root / "tmp")}
        fresh |= {
            f"XDG_{kind}_HOME": f"{home}/{kind.lower()}" for kind in ("CACHE", "CONFIG", "DATA", "STATE")
        }
        fresh |= {"PYTHONPATH": str(ROOT), "ORT_DISABLE_TELEMETRY": "0", "RAY_USAGE_STATS_ENABLED": "1"}
        # Not CI: where that is set, ONNX Runtime is silent by itself.
        kept = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
        watch = [
            "strace",
            "-f",
            "-qq",
            "--seccomp-bpf",
            "-e",
            "trace=connect,sendto,sendmsg,sendmmsg",
            "-o",
            str(self.root / "calls"),
        ]
        subprocess.run(
            [*watch, *words], env={**kept, **self.environment, **fresh}, cwd=self.root / "here", check=True
        )

    def left(self) -> list[str]:
        """Files that are left in the fresh folders."""
        return [
            str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file() and p.name != "calls"
        ]

    def called(self) -> set[tuple[str, str]]:
        """Ports and addresses outside this machine."""
        lines = (self.root / "calls").read_text("utf-8", "replace").splitlines()
        places = {place for line in lines for place in _CALL.findall(line)}
        return {(port, ip) for port, ip in places if not _HERE.match(ip)}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    if not shutil.which("strace"):
        pytest.skip("strace, which sees the calls of processes, is not on this machine")
    with frozen.copied(tmp_path / "frozen") as copy:
        (tmp_path / "w").mkdir()
        yield Watched(tmp_path / "w", copy.environment)


def test_the_watch_sees_a_name_looked_up_and_a_file_left(watched: Watched) -> None:
    look_up = (
        "import pathlib, socket; pathlib.Path('left').touch()\ntry: socket.getaddrinfo('a.example', 80)\n"
    )
    watched.run(sys.executable, "-c", f"{look_up}except OSError: pass")
    assert watched.left() == ["here/left"]
    if "nameserver" not in Path("/etc/resolv.conf").read_text():
        pytest.skip("this machine has no name server to be asked")
    assert any(port == "53" for port, _ in watched.called())


def test_two_photos_are_compared_in_silence(watched: Watched, tmp_path: Path) -> None:
    photos = [str(tmp_path / f"frozen/photos/anna-{n}.png") for n in (1, 2)]
    watched.run(sys.executable, "-m", "frpipe", "verify", *photos, *SETTINGS, "--threshold", "0.5")
    assert (watched.left(), watched.called()) == ([], set())


@pytest.mark.parametrize("executor", ["local", pytest.param("ray", marks=pytest.mark.slow)])
def test_photos_are_enrolled_in_silence(watched: Watched, tmp_path: Path, executor: str) -> None:
    enroll = command(tmp_path / "frozen/photos.csv", tmp_path / "out", *SETTINGS, "--executor", executor)
    watched.run(enroll[0], str(ROOT / enroll[1]), *enroll[2:])
    assert (tmp_path / "out/_SUCCESS").exists()
    assert (watched.left(), watched.called() - {_UNSENT}) == ([], set())
    sent = (watched.root / "calls").read_text("utf-8", "replace")
    assert "sendmmsg(" not in sent, "with it names are looked up"


def test_the_image_of_the_pods_says_the_same() -> None:
    """Its head starts Ray without importing frpipe."""
    image = (ROOT / "k8s/docker/Dockerfile").read_text(encoding="utf-8")
    assert all(f"    {name}={value}" in image for name, value in frpipe.SILENCED.items())
