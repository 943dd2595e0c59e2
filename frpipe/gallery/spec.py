"""Specification of a gallery: its model, its recipe, its form of vector."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from frpipe.core.errors import GalleryError, GalleryMismatch

FORMAT_VERSION = 1
NORMALISATION = "unit"
AES = "aes-256-gcm"
SAME_VECTORS = "same_vectors"
RECIPE_HASHES = ("embedder_hash", "preprocessing_hash", "detector_hash")


@dataclass(frozen=True, slots=True)
class GallerySpec:
    """Settings that are chosen once, when the gallery is made.

    dim:            numbers in a vector
    *_hash:         of the recipe that made the vectors (see `Recipe`); vectors of another are refused
    dtype:          as stored; float16 halves the files at about 1e-3 of error in a similarity
    encryption:     None, or "aes-256-gcm" with the key of FRPIPE_GALLERY_KEY or FRPIPE_GALLERY_KEY_FILE
    rows_per_shard: rows of a full shard file
    same_vectors:   further preprocessing hashes that stand for the same vectors (see `Recipe.same_vectors`)
    """

    dim: int
    embedder_hash: str
    preprocessing_hash: str
    detector_hash: str
    dtype: Literal["float32", "float16"] = "float32"
    encryption: Literal["aes-256-gcm"] | None = None
    rows_per_shard: int = 65_536
    same_vectors: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        hashes = (self.embedder_hash, self.detector_hash, *self.preprocessing_hashes)
        if not 1 <= self.dim <= 65_536 or not 1 <= self.rows_per_shard <= 1_000_000:
            raise GalleryError(
                "the dimension or the rows of a shard are out of range",
                "dim is 1 to 65,536, rows_per_shard 1 to 1,000,000",
            )
        if self.dtype not in ("float32", "float16") or self.encryption not in (None, AES):
            raise GalleryError("unknown dtype or encryption", f"float32 or float16; none or {AES}")
        if not all(h and h.isascii() and h.isprintable() and len(h) <= 128 for h in hashes):
            raise GalleryError("a hash is empty or not plain ASCII", "take the hashes of the run's recipe")

    @property
    def stored_type(self) -> str:
        """NumPy's name of the stored numbers, little-endian."""
        return "<f2" if self.dtype == "float16" else "<f4"

    @property
    def hashes(self) -> dict[str, str]:
        """The hashes of the recipe, by their names."""
        return {name: getattr(self, name) for name in RECIPE_HASHES}

    @property
    def preprocessing_hashes(self) -> frozenset[str]:
        """All hashes that stand for the recipe of these vectors."""
        return frozenset((self.preprocessing_hash, *self.same_vectors))

    def same_preprocessing(self, other: GallerySpec) -> bool:
        """Whether the recipes of both make the same vectors, the embedder's weights excluded."""
        return not self.preprocessing_hashes.isdisjoint(other.preprocessing_hashes)

    def check_same(self, other: GallerySpec) -> None:
        """Raise GalleryMismatch, both values named, unless vectors made for `other` may come in here."""
        its = self.preprocessing_hash if self.same_preprocessing(other) else other.preprocessing_hash
        self.check_recipe(other.embedder_hash, its, other.detector_hash, other.dim)

    def check_recipe(self, embedder_hash: str, preprocessing_hash: str, detector_hash: str, dim: int) -> None:
        """Check as `check_same` does, for a run's recipe."""
        facts = (
            ("embedder", self.embedder_hash, embedder_hash),
            ("preprocessing", self.preprocessing_hash, preprocessing_hash),
            ("detector", self.detector_hash, detector_hash),
            ("dimension", self.dim, dim),
        )
        differences = [
            f"{name}: the gallery's is {own}, this is {its}" for name, own, its in facts if own != its
        ]
        if differences:
            raise GalleryMismatch(
                "; ".join(differences),
                "enroll the photos again with the gallery's model and settings, or use another gallery",
            )
