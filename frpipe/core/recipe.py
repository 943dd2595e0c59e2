"""What decides the content of an output, and the hashes that name it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from frpipe.core.config import Config, canonical_hash

# Raised by hand when the code of decode, detect, align or embed changes what it computes.
ALGORITHM_VERSION = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings and model facts that decide an output, as plain data.

    `detector` and `embedder` are the parts of the two cards that change a number: hash, input, outputs.
    """

    settings: dict[str, Any]
    detector: dict[str, Any]
    embedder: dict[str, Any]

    @classmethod
    def of(cls, config: Config, detector: dict[str, Any], embedder: dict[str, Any]) -> Recipe:
        return cls(config.recipe(), detector, embedder)

    @property
    def detector_hash(self) -> str:
        return str(self.detector["sha256"])

    @property
    def embedder_hash(self) -> str:
        return str(self.embedder["sha256"])

    @property
    def preprocessing_hash(self) -> str:
        """Of all that turns a photo into the embedder's input: the embedder's own weights excluded."""
        return canonical_hash(
            {
                "algorithm": ALGORITHM_VERSION,
                "settings": {name: self.settings[name] for name in ("decode", "detect", "align")},
                "flip": self.settings["embed"]["flip"],
                "detector": self.detector,
                "input": self.embedder["input"],
            }
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it, for `run.json`."""
        return {
            "algorithm": ALGORITHM_VERSION,
            "settings": self.settings,
            "detector": self.detector,
            "embedder": self.embedder,
        }

    def metadata(self) -> dict[str, str]:
        """Key-value metadata of every Parquet file."""
        return {
            "frpipe.detector_hash": self.detector_hash,
            "frpipe.embedder_hash": self.embedder_hash,
            "frpipe.preprocessing_hash": self.preprocessing_hash,
        }
