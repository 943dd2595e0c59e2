"""The recipe of an output: what decides its content, and the hashes that name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from frpipe.core.config import Config, canonical_hash
from frpipe.core.schema import LATER_COLUMNS, SCHEMA_VERSION, WITH_CAPTURE_TIMES

# Raised by hand when the code of decode, detect, align or embed changes what it computes. A recipe of a
# single look at each photo is of version 1, and is computed as it was then. Further stages have versions of
# their own.
SINGLE_LOOK, LOOKS_AGAIN = 1, 2

# Settings that decide which photos and faces are taken, or how fast, and change no vector.
_NO_VECTOR = {
    "decode": ("max_bytes", "max_pixels", "min_side_px", "truncated", "plugins", "captured_at"),
    "detect": ("policy", "max_faces", "not_photographs"),
}
# A recipe of a single look is hashed with its limits in it, as it always was. These are the ones that it had
# where nothing else was said.
_NO_VECTOR_OF_SINGLE_LOOK = {"detect": ("policy", "max_faces")}
_FIRST_LIMITS: dict[str, Any] = {
    "max_bytes": 64 << 20,
    "max_pixels": 80_000_000,
    "min_side_px": 16,
    "truncated": "reject",
    "plugins": [],
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings and model facts that decide an output, as plain data.

    `detector` and `embedder` are the parts of the two cards that change a number: hash, input, outputs.
    `looks`: what counts as sure, with the facts of the judge; None where faces are looked at once.
    `further`: of each embedder behind the first, by its name, what `embedder` is of that.
    `stages`: of each further stage its version, its models, its reasons, and whether it changes vectors
    or may hold faces back.
    `columns`: which of the later columns of `faces` it writes; it changes no vector.
    """

    settings: dict[str, Any]
    detector: dict[str, Any]
    embedder: dict[str, Any]
    looks: dict[str, Any] | None = None
    further: dict[str, dict[str, Any]] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    columns: tuple[str, ...] = LATER_COLUMNS

    @classmethod
    def of(
        cls,
        config: Config,
        detector: dict[str, Any],
        embedder: dict[str, Any],
        looks: dict[str, Any] | None = None,
        *,
        further: Mapping[str, dict[str, Any]] | None = None,
        stages: Mapping[str, dict[str, Any]] | None = None,
    ) -> Recipe:
        """Make a recipe. looks: as they are on the card; left out where the configuration looks once."""
        looks = None if config.detect.is_single_look else looks
        return cls(config.recipe(), detector, embedder, looks, dict(further or {}), dict(stages or {}))

    @classmethod
    def stored(cls, known: Mapping[str, Any]) -> Recipe:
        """Read a recipe from what `as_dict` made, as `run.json` has it."""
        first = known["settings"], known["detector"], known["embedder"]
        more = known.get("looks"), known.get("embedders", {}), known.get("stages", {})
        return cls(*first, *more, columns=tuple(known.get("columns", ())))

    def of_embedder(self, name: str) -> Recipe:
        """The recipe of a run whose only embedder is one of the further ones: its vectors are the same."""
        own = next(each for each in self._embed if each["model"] == name)
        return replace(
            self, settings={**self.settings, "embed": own}, embedder=self.further[name], further={}
        )

    @property
    def first_embedder(self) -> str:
        """The name of the first embedder, whose vectors stand in `faces`."""
        return str(self._embed[0]["model"])

    @property
    def _embed(self) -> list[dict[str, Any]]:
        """Settings of the embedders, the first one first."""
        embed = self.settings["embed"]
        return embed if isinstance(embed, list) else [embed]

    @property
    def algorithm(self) -> int:
        """The version of the algorithm."""
        return SINGLE_LOOK if "turns" not in self.settings["detect"] else LOOKS_AGAIN

    @property
    def schema_version(self) -> int:
        """The version of the columns: an output goes on with those that it began with."""
        if self.algorithm == SINGLE_LOOK:
            return 1
        return WITH_CAPTURE_TIMES if "captured_at" in self.settings["decode"] else SCHEMA_VERSION

    @property
    def detector_hash(self) -> str:
        return str(self.detector["sha256"])

    @property
    def embedder_hash(self) -> str:
        return str(self.embedder["sha256"])

    @property
    def preprocessing_hash(self) -> str:
        """The hash of all that turns a face into the embedder's input: the embedder's own weights excluded.

        Which photos and faces are kept changes no vector, so that runs of different policies may be compared.
        """
        left_out = _NO_VECTOR_OF_SINGLE_LOOK if self.algorithm == SINGLE_LOOK else _NO_VECTOR
        return self._hash_without(left_out)

    @property
    def same_vectors(self) -> tuple[str, ...]:
        """Further hashes that stand for the same vectors as `preprocessing_hash`, the plainest one first.

        That of all that changes a vector alone: no limits, and no name of the detector's card, whose weights
        and facts are in it. Of a single look also that with the limits of whoever gave none, which is all
        that a gallery of that time says.
        """
        no_vector = {**_NO_VECTOR, "detect": (*_NO_VECTOR["detect"], "model")}
        plain = self._hash_without(no_vector)
        if self.algorithm != SINGLE_LOOK:
            return (plain,)
        decode = {**self.settings["decode"], **_FIRST_LIMITS}
        unlimited = replace(self, settings={**self.settings, "decode": decode})
        return plain, unlimited.preprocessing_hash

    @property
    def preprocessing_hashes(self) -> frozenset[str]:
        """All hashes that stand for the way in which these vectors are made."""
        return frozenset((self.preprocessing_hash, *self.same_vectors))

    def _hash_without(self, left_out: Mapping[str, tuple[str, ...]]) -> str:
        settings = {
            section: {k: v for k, v in self.settings[section].items() if k not in left_out.get(section, ())}
            for section in ("decode", "detect", "align")
        }
        facts = {
            "algorithm": self.algorithm,
            "settings": settings,
            "flip": self._embed[0]["flip"],
            "detector": self.detector,
            "input": self.embedder["input"],
        }
        if changing := self._changing_stages:
            facts["stages"] = changing
        return canonical_hash(facts if self.algorithm == SINGLE_LOOK else {**facts, "looks": self.looks})

    @property
    def _changing_stages(self) -> dict[str, Any]:
        """Facts of the stages that change vectors, as far as they decide how."""
        return {
            name: {
                "version": stage["version"],
                "models": stage["models"],
                "settings": self.settings["stages"][name],
            }
            for name, stage in self.stages.items()
            if stage["changes_vectors"]
        }

    def as_dict(self) -> dict[str, Any]:
        """The whole recipe as plain data, for `run.json`."""
        facts = {
            "algorithm": self.algorithm,
            "settings": self.settings,
            "detector": self.detector,
            "embedder": self.embedder,
            **({"embedders": self.further} if self.further else {}),
            **({"stages": self.stages} if self.stages else {}),
            **({"columns": [*self.columns]} if self.columns else {}),
        }
        return facts if self.algorithm == SINGLE_LOOK else {**facts, "looks": self.looks}

    def metadata(self) -> dict[str, str]:
        """Key-value metadata of every Parquet file."""
        return {
            "frpipe.schema_version": str(self.schema_version),
            "frpipe.recipe_hash": canonical_hash(self.as_dict()),
            "frpipe.detector_hash": self.detector_hash,
            "frpipe.embedder_hash": self.embedder_hash,
            "frpipe.preprocessing_hash": self.preprocessing_hash,
        }
