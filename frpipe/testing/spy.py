"""A session that keeps what it was given."""

from __future__ import annotations

from typing import Any

import numpy as np

from frpipe.models.session import Session

Array = np.ndarray[Any, Any]


class Spy(Session):
    """Run another session and keep a copy of every input tensor in `blobs`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.provider = session.provider
        self.blobs: list[Array] = []

    def run(self, blob: Array) -> list[Array]:
        self.blobs.append(blob.copy())
        return self._session.run(blob)
