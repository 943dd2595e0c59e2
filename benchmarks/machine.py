"""The machine and the libraries that numbers were taken on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_LIBRARIES = (
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "simplejpeg",
    "pyarrow",
    "ray",
    "insightface",
)


def machine() -> dict[str, object]:
    """CPU, cores, load at this moment, and versions, as plain data."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: _version(name) for name in _LIBRARIES},
    }


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
