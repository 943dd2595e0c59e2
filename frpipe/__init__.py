"""frpipe: face recognition in batches; single photos by these names.

    detect, crop, align, embed      the steps, one by one
    similarity, distance            of two templates
    verify(a, b)                    are two photos of one person?
    Gallery, identify               people by id, and who is on a photo
    read_features(output)           the faces of an enroll output
    load_config(path)               settings for jobs and calls

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
    from frpipe.jobs.identify.single import Identification
    from frpipe.jobs.verify.single import Verification
    from frpipe.photos.faces import (
        Face,
        align,
        crop,
        detect,
        distance,
        embed,
        read_features,
        similarity,
        verify,
    )
    from frpipe.photos.people import Gallery, Person, identify

__version__ = "0.1.0"
__all__ = [
    "Config",
    "Face",
    "FrpipeError",
    "Gallery",
    "Identification",
    "Person",
    "Verification",
    "__version__",
    "align",
    "crop",
    "detect",
    "distance",
    "embed",
    "identify",
    "load_config",
    "read_features",
    "similarity",
    "verify",
]

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
    "Identification": "frpipe.jobs.identify.single",
    "Verification": "frpipe.jobs.verify.single",
    "load_config": "frpipe.core.config",
    **dict.fromkeys(("Gallery", "Person", "identify"), "frpipe.photos.people"),
    **dict.fromkeys(
        ("Face", "align", "crop", "detect", "distance", "embed", "read_features", "similarity", "verify"),
        "frpipe.photos.faces",
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'frpipe' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
