"""Embed aligned faces with a configuration's embedders, and make the final tables of images and faces."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pyarrow as pa

from frpipe.core.config import Config
from frpipe.core.recipe import Recipe
from frpipe.models.card import Card
from frpipe.models.loading import load_embedder
from frpipe.stages.part_batch import PartBatch
from frpipe.stages.tabulate import finish


class Embedders:
    """The first embedder and the further ones, loaded.

    cards: in the order of `config.embed`.
    """

    def __init__(self, config: Config, cards: Sequence[Card], recipe: Recipe) -> None:
        pool = config.resources.embed
        loaded = [
            (card.name, load_embedder(card, settings, pool))
            for card, settings in zip(cards, config.embed, strict=True)
        ]
        (_, self._first), *further = loaded
        self._further = dict(further)
        self._recipe = recipe

    def __call__(
        self, part_batch: PartBatch, tell: Callable[[int], None] = lambda _: None
    ) -> tuple[pa.Table, pa.Table]:
        """Make images and faces, as `finish` does. tell: called with the number of faces done so far."""
        start = time.perf_counter()
        further = {name: each.embed(part_batch.crops) for name, each in self._further.items()}
        vectors = self._first.embed(part_batch.crops, tell)
        return finish(part_batch, vectors, time.perf_counter() - start, self._recipe, further)
