"""Small JSON files that carry their own SHA-256, so that a changed byte is found when they are read."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from frpipe.core.errors import GalleryDamaged

_SEAL = "sha256"


def sealed(content: dict[str, Any]) -> bytes:
    """The file of some content: JSON, UTF-8, the digest of all the rest last."""
    return _encoded({**content, _SEAL: _digest(content)})


def unsealed(data: bytes, name: str) -> dict[str, Any]:
    """The content of such a file. Raises GalleryDamaged where any byte is not as it was written."""
    try:
        content = json.loads(data)
        seal = content.pop(_SEAL)
        intact = seal == _digest(content) and data == _encoded({**content, _SEAL: seal})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        intact = False
    if not intact:
        raise damaged(name, "it is not as it was written")
    return dict(content)


def damaged(name: str, what: str) -> GalleryDamaged:
    """The error for a file of a gallery that cannot be used."""
    return GalleryDamaged(
        f"{name} of the gallery: {what}",
        "run `frpipe gallery verify`, then restore the file from a copy or roll back to a version without it",
    )


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(_encoded(content)).hexdigest()


def _encoded(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()
