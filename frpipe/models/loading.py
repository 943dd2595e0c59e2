"""Load a model, ready to run, by its card and the settings."""

from __future__ import annotations

from frpipe.core.config import DetectConfig, EmbedConfig, PoolConfig
from frpipe.models.card import Card
from frpipe.models.crop_model import CropModel
from frpipe.models.detectors.base import Detector
from frpipe.models.detectors.finder import Finder
from frpipe.models.embedders.arcface import Embedder
from frpipe.models.registry import Registry
from frpipe.models.session import Session, open_bytes


def load_detector(card: Card, settings: DetectConfig, pool: PoolConfig) -> Detector:
    """Load a card's detector (`Registry.card_for`), its weights checked against it, on the pool's device.

    Raises ModelError: not a detector; ModelMissing, ModelMismatch: its weights; ProviderMissing: its device.
    """
    return Detector(card, _open(card, pool), settings, pool.batch_rows, fixed_batch=_fixed(pool))


def load_finder(card: Card, judge: Card, settings: DetectConfig, pool: PoolConfig) -> Finder:
    """Load a detector with its judge, which may be the same. Raises as `load_detector` does."""
    detector = load_detector(card, settings, pool)
    if judge.sha256 == card.sha256:
        return Finder(detector, detector, settings)
    return Finder(detector, load_detector(judge, DetectConfig(), pool), settings)


def load_embedder(card: Card, settings: EmbedConfig, pool: PoolConfig) -> Embedder:
    """Load the embedder of a card. Raises as `load_detector` does."""
    return Embedder(card, _open(card, pool), pool.batch_rows, settings.flip, fixed_batch=_fixed(pool))


def load_crop_model(card: Card, pool: PoolConfig) -> CropModel:
    """Load the network of a card of a further stage. Raises as `load_detector` does."""
    return CropModel(card, _open(card, pool), pool.batch_rows, fixed_batch=_fixed(pool))


def _open(card: Card, pool: PoolConfig) -> Session:
    return open_bytes(Registry.default().read(card), pool.resolved_device, pool.threads, name=card.file)


def _fixed(pool: PoolConfig) -> bool:
    return pool.resolved_device != "cpu"
