"""Run models, loaded once, on single photos in this process, as jobs do, without Ray."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from frpipe.core.config import Config
from frpipe.core.errors import FaceError
from frpipe.core.reasons import Reject
from frpipe.io.manifest.fetch import Fetcher
from frpipe.models.card import Card
from frpipe.models.embedders.arcface import Embedder
from frpipe.models.loading import load_embedder
from frpipe.models.registry import Registry
from frpipe.stages.locate import Located, Locator, locator_of
from frpipe.stages.models import Models

if TYPE_CHECKING:
    from frpipe.stages.chain import StageChain

PhotoSource = str | Path | bytes | np.ndarray
# Of an aligned crop, in pixels.
_CENTRE = slice(28, 84)


@dataclass(frozen=True, slots=True)
class FacePipeline:
    """A locator and an embedder. Models reuse their memory, so that one call at a time may use them.

    chain: the further stages; None where there are none.
    """

    locator: Locator
    embedder: Embedder
    fetcher: Fetcher
    chain: StageChain | None
    lock: Lock = field(default_factory=Lock)

    @property
    def card(self) -> Card:
        """The card of the embedder."""
        return self.embedder.card

    def locate(self, photos: Sequence[PhotoSource]) -> list[Located]:
        """Locate the faces of photos: paths, URIs, encoded bytes, or (H, W, 3) uint8 RGB pixels."""
        with self.lock:
            outcomes = list(self.locator.locate(self.read(photo) for photo in photos))
            if self.chain is not None:
                for outcome in outcomes:
                    self.chain.apply(outcome)
        for photo, outcome in zip(photos, outcomes, strict=True):
            if isinstance(photo, np.ndarray) and outcome.crops:
                _warn_of_bgr(outcome)
        return outcomes

    def embed(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Embed aligned crops as vectors, (n, dim), not of unit length."""
        with self.lock:
            return self.embedder.embed(np.stack(crops)).astype(np.float64)

    def read(self, photo: PhotoSource) -> bytes | Reject:
        """Read the encoded photo, or say why there is none."""
        if isinstance(photo, np.ndarray):
            return encoded(photo)
        if isinstance(photo, bytes):
            return photo
        try:
            return self.fetcher.fetch(str(photo) if "://" in str(photo) else str(Path(photo).absolute()))
        except Reject as why:
            return why


@lru_cache(maxsize=4)
def pipeline_of(config: Config) -> FacePipeline:
    """The pipeline of a configuration, loaded at its first use."""
    models = Models.of(config)
    Registry.default().require(filter(None, (models.detector, models.embedder, models.judge)))
    chain = _chain(models) if config.stages else None
    enlarged = chain.enlarged if chain else ()
    return FacePipeline(
        locator_of(models.config, models.detector, models.judge, enlarged=enlarged),
        load_embedder(models.embedder, config.embedder, config.resources.embed),
        Fetcher.of(config),
        chain,
    )


def _chain(models: Models) -> StageChain:
    from frpipe.stages.chain import StageChain  # noqa: PLC0415 - its columns are Arrow's

    return StageChain.of(models.config, models.stage_cards)


def encoded(pixels: np.ndarray) -> bytes:
    """Encode RGB pixels as PNG, without loss, so that arrays take the same way as files.

    Raises FaceError: not (H, W, 3) uint8.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise FaceError("the array is not a picture", "pass (H, W, 3) uint8 RGB")
    _, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return bytes(data)


def _warn_of_bgr(located: Located) -> None:
    """Warn where faces of an array are bluer than red: OpenCV reads BGR.

    Skin is redder than blue in any light that people are photographed in.
    """
    red, _, blue = np.mean([each[_CENTRE, _CENTRE] for each in located.crops], axis=(0, 1, 2))
    if blue > red:
        warnings.warn(
            "faces of this array are bluer than red: if it is BGR, as OpenCV reads photos, "
            "pass pixels[..., ::-1]",
            UserWarning,
            stacklevel=3,
        )
