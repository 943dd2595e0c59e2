"""How many CPUs a private Ray is given: by affinity, and by control groups."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from frpipe.runtime import cpus
from frpipe.runtime.cpus import usable_cpus


@pytest.fixture(autouse=True)
def _eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus.os, "sched_getaffinity", lambda _: set(range(8)))


def _tree(root: Path, **files: str) -> Path:
    """A fake file system of control groups; `__` stands for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def _v2(root: Path, group: str, **limits: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"0::{group}\n")
    for folder, text in limits.items():
        path = root / "sys/fs/cgroup" / folder.strip("_").replace("_", "/") / "cpu.max"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("limit", "count"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("5000 100000", 1),
        ("9900000 100000", 8),
    ],
)
def test_a_quota_of_version_2_is_rounded_up(limit: str, count: int, tmp_path: Path) -> None:
    assert usable_cpus(_v2(tmp_path, "/", _=limit)) == count


def test_the_tightest_of_nested_groups_counts(tmp_path: Path) -> None:
    assert usable_cpus(_v2(tmp_path, "/pod/box", pod="300000 100000", pod_box="max 100000")) == 3


def test_a_group_that_a_container_sees_as_its_mount_counts(tmp_path: Path) -> None:
    assert usable_cpus(_v2(tmp_path, "/outside/only", _="300000 100000")) == 3


@pytest.mark.parametrize(("quota", "count"), [("-1", 8), ("250000", 3)])
@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_a_quota_of_version_1_is_rounded_up(mount: str, quota: str, count: int, tmp_path: Path) -> None:
    base = f"sys__fs__cgroup__{mount}__box__"
    files = {
        "proc__self__cgroup": f"5:memory:/other\n4:{mount}:/box\n0::/\n",
        f"{base}cpu.cfs_quota_us": f"{quota}\n",
        f"{base}cpu.cfs_period_us": "100000\n",
    }
    assert usable_cpus(_tree(tmp_path, **files)) == count


@pytest.mark.parametrize("text", ["", "junk", "0::\n", "::::\n", "1:cpu\n"])
def test_what_cannot_be_read_limits_nothing(text: str, tmp_path: Path) -> None:
    assert usable_cpus(_tree(tmp_path, proc__self__cgroup=text)) == 8
    assert usable_cpus(tmp_path / "nothing") == 8


def test_an_affinity_is_respected() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from frpipe.runtime.cpus import usable_cpus; print(usable_cpus())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
