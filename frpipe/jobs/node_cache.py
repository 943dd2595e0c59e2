"""The cache of shards that jobs keep on each node: its settings, and its life, which is the job's work."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from frpipe.core.cache_size import DEFAULT_CACHE_MB
from frpipe.core.errors import ConfigError
from frpipe.gallery.shard_cache import CacheSpec
from frpipe.io.storage import uri as uris
from frpipe.runtime.executor import Executor

Units = Mapping[int, tuple[int, int]]
"""Pairs of blocks, by number."""


BlockT_co = TypeVar("BlockT_co", covariant=True)


class BlockSource(Protocol[BlockT_co]):
    """A source from which workers get blocks; it is sent to each of them."""

    def block(self, number: int) -> BlockT_co:
        """Read a block anew."""

    def check_cache(self) -> None:
        """Raise StorageError where what a block is read from was changed while the block is in use."""


class SizedBlocks(Protocol):
    """A source that is cut into blocks.

    gallery: its address, if it is one.  sizes: of the blocks, in bytes.
    """

    @property
    def gallery(self) -> str | None: ...

    @property
    def sizes(self) -> Sequence[int]: ...


@dataclass(frozen=True, slots=True)
class NodeCache:
    """A cache.

    most_mb: of all shards that a node keeps; 0: none.  place: a folder of each node; empty: TMPDIR.
    """

    most_mb: int = DEFAULT_CACHE_MB
    place: str = ""

    def check(self) -> None:
        """Raise ConfigError for a place that is no folder of a node."""
        if self.most_mb < 0:
            raise ConfigError("--cache-mb is a size from 0 up", "0 keeps no shards")
        if self.place and not Path(self.place).is_absolute():
            raise ConfigError(
                f"--cache-dir {self.place} is not an absolute path of a disk",
                "name a folder that can be made on each node, for example /scratch",
            )

    def bytes_of(self, gallery: str | None) -> int:
        """The most bytes of a gallery that a node keeps; 0 for none, or for one mapped where it lies."""
        return 0 if gallery is None or uris.is_local(gallery) else self.most_mb << 20

    def ordered(self, units: Units, source: SizedBlocks) -> Units:
        """Order units so that blocks come again while a node still keeps them.

        Row by row where it keeps all, or none, for a worker holds one block of a row. Else in squares of as
        many blocks a side as fit twice, and in each row by row.
        """
        most, sizes = self.bytes_of(source.gallery), source.sizes
        side = most // (2 * max(sizes, default=1))
        if sum(sizes) <= most or side < 1:
            return units

        def place(item: tuple[int, tuple[int, int]]) -> tuple[int, int, int, int]:
            first, second = item[1]
            return first // side, second // side, first, second

        return dict(sorted(units.items(), key=place))

    def read_by_units(self, gallery: str, size: int, units: int, workers: int, held: int) -> int:
        """The bytes that a node fetches if each unit needs all of a gallery. held: bytes by each worker."""
        if uris.is_local(gallery):
            return size
        kept = min(size, self.bytes_of(gallery))
        own = min(size - kept, held)
        return kept + workers * own + units * (size - kept - own)

    def read_by_pairs(self, source: SizedBlocks, units: int, workers: int, block: int) -> int:
        """The bytes that a node reads if each unit needs two blocks, of which a worker keeps one.

        block: bytes of one, where the source has no sizes.
        """
        most, sizes = self.bytes_of(source.gallery), source.sizes
        if source.gallery is not None and (uris.is_local(source.gallery) or sum(sizes) <= most):
            return sum(sizes)
        block = max(sizes, default=block)
        side = most // (2 * max(1, block))
        if side < 1:
            return (units + workers) * block
        squares = math.ceil(len(sizes) / side)
        return squares * (squares + 1) * side * block

    @contextmanager
    def opened(self, gallery: str | None, executor: Executor) -> Iterator[CacheSpec | None]:
        """Open the cache of a run for a gallery, removed from all nodes at the end; None: none is kept."""
        most = self.bytes_of(gallery)
        if not most:
            yield None
            return
        spec = CacheSpec.new(most, self.place)
        try:
            yield spec
        finally:
            executor.everywhere(spec.remove)


DEFAULT_CACHE = NodeCache()
