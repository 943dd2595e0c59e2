"""What decides the content of an output, and the hashes that name it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from frpipe.core.config import Config, canonical_hash
from frpipe.core.schema import SCHEMA_VERSION

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
        """Of all that turns a face into the embedder's input: the embedder's own weights excluded.

        Which faces of a photo are kept changes no vector, so that runs of different policies may be compared.
        """
        settings = {name: dict(self.settings[name]) for name in ("decode", "detect", "align")}
        for which_faces in ("policy", "max_faces"):
            del settings["detect"][which_faces]
        return canonical_hash(
            {
                "algorithm": ALGORITHM_VERSION,
                "settings": settings,
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
            "frpipe.schema_version": str(SCHEMA_VERSION),
            "frpipe.recipe_hash": canonical_hash(self.as_dict()),
            "frpipe.detector_hash": self.detector_hash,
            "frpipe.embedder_hash": self.embedder_hash,
            "frpipe.preprocessing_hash": self.preprocessing_hash,
        }
