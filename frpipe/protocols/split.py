"""Split the people of a manifest into enrolled and strangers, and choose probes: by hashes, not by chance.

Persons and photos are put in the order of a 64-bit BLAKE2b hash of seed, repeat and id. The same seed gives
the same split on any machine and for any order of rows, and a manifest that grew splits nearly as before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from frpipe.core.errors import ConfigError

Few = Literal["leave-out", "gallery", "strangers"]
# Roles of a photo.
UNUSED, GALLERY, MATED, NONMATED = range(4)
Roles = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Split:
    """Settings of a split.

    strangers: share of people, of those with `min_photos`, not enrolled; 0: a closed set.
    gallery_per_subject: photos enrolled of each person.  few: what becomes of people with fewer than
    `min_photos`: left out, enrolled without probes, or strangers too.
    """

    strangers: float = 0.5
    gallery_per_subject: int = 1
    min_photos: int = 2
    few: Few = "leave-out"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.strangers < 1:
            raise ConfigError("the share of strangers is not in 0..1", "give a share such as 0.5")
        if not 1 <= self.gallery_per_subject < self.min_photos:
            raise ConfigError(
                "min-photos must be more than gallery-per-subject, and that at least 1",
                "everybody who is enrolled needs a photo that is not",
            )

    def as_dict(self) -> dict[str, Any]:
        """The settings, for the protocol."""
        return asdict(self)

    def roles(self, images: list[str], subjects: list[str | None], repeat: int = 1) -> Roles:
        """Roles, (n,), of photos with these ids and persons, None where unknown: such photos are unused."""
        known = np.array([subject is not None for subject in subjects], bool)
        names, person = np.unique([subject or "" for subject in subjects], return_inverse=True)
        photos = np.bincount(person[known], minlength=len(names))
        role = self._people(names.tolist(), photos, repeat)[person]
        enrolled = np.flatnonzero((role == GALLERY) & known)
        keys = _hashes((self.seed, repeat, subjects[row], images[row]) for row in enrolled)
        order = enrolled[np.lexsort((keys, person[enrolled]))]
        first = np.searchsorted(person[order], person[order])
        rest = order[np.arange(len(order)) - first >= self.gallery_per_subject]
        role[rest] = np.where(photos[person[rest]] < self.min_photos, UNUSED, MATED)
        role[~known] = UNUSED
        return role

    def _people(self, names: list[str], photos: NDArray[np.int64], repeat: int) -> Roles:
        """Roles, (people,): GALLERY for the enrolled, NONMATED for strangers."""
        few = {"leave-out": UNUSED, "gallery": GALLERY, "strangers": NONMATED}[self.few]
        role = np.where(photos > 0, few, UNUSED).astype(np.int8)
        many = np.flatnonzero(photos >= self.min_photos)
        keys = _hashes((self.seed, repeat, names[person]) for person in many)
        ordered = many[np.argsort(keys, kind="stable")]
        strangers = round(self.strangers * len(many))
        role[ordered[:strangers]], role[ordered[strangers:]] = NONMATED, GALLERY
        return role


def _hashes(rows: Iterable[tuple[object, ...]]) -> NDArray[np.uint64]:
    texts = ("\0".join(map(str, parts)).encode() for parts in rows)
    return np.array([int.from_bytes(blake2b(text, digest_size=8).digest()) for text in texts], np.uint64)
