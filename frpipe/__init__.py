"""frpipe: face recognition in batches.

    frpipe.verify(a, b)          are two photos of one person?
    frpipe.load_config(path)     settings for jobs and calls

Importing this loads neither Ray nor OpenCV nor ONNX Runtime; the first use does. None of them reports to its
maker then: `SILENCED` says so to them, in this process and those that it starts.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frpipe.core.config import Config, load_config
    from frpipe.core.errors import FrpipeError
    from frpipe.jobs.verify.single import Verification, verify

__version__ = "0.1.0"
__all__ = ["Config", "FrpipeError", "Verification", "__version__", "load_config", "verify"]

SILENCED = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Read by libraries when they are loaded, so they are set before; whatever they were."""
os.environ.update(SILENCED)

_HOMES = {
    "Config": "frpipe.core.config",
    "FrpipeError": "frpipe.core.errors",
    "Verification": "frpipe.jobs.verify.single",
    "load_config": "frpipe.core.config",
    "verify": "frpipe.jobs.verify.single",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'frpipe' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
