"""Default size of a node's cache of shards."""

from __future__ import annotations

DEFAULT_CACHE_MB = 32_768
