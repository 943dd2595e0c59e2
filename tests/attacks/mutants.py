"""Mutated photos, the same for the same seed: bits flipped, bytes cut or doubled, two files spliced."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

# Segments of the head: sizes, tables, orientation. Most of what a decoder believes stands there.
_HEAD_BYTES = 700


def mutants(originals: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Each comes of one or two of the originals, by one to three changes."""
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        data = bytearray(chance.choice(originals))
        for _ in range(chance.randint(1, 3)):
            chance.choice(_CHANGES)(data, chance, originals)
        yield bytes(data)


def _flip(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    for at in _places(data, chance, chance.choice((1, 8, 64))):
        data[at] ^= 1 << chance.randrange(8)


def _flip_head(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    for at in _places(data[:_HEAD_BYTES], chance, chance.choice((1, 4, 16))):
        data[at] ^= 1 << chance.randrange(8)


def _overwrite(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    start, end = _range(data, chance)
    data[start:end] = chance.choice(
        (bytes(end - start), b"\xff" * (end - start), chance.randbytes(end - start))
    )


def _cut(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _remove(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    start, end = _range(data, chance)
    del data[start:end]


def _double(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    start, end = _range(data, chance)
    data[end:end] = data[start:end]


def _splice(data: bytearray, chance: random.Random, originals: Sequence[bytes]) -> None:
    other = chance.choice(originals)
    data[chance.randrange(len(data) + 1) :] = other[chance.randrange(len(other)) :]


def _mark(data: bytearray, chance: random.Random, _: Sequence[bytes]) -> None:
    """A JPEG marker with any length, anywhere."""
    at = chance.randrange(len(data) + 1)
    data[at:at] = bytes((0xFF, chance.randrange(0xC0, 0xFF))) + chance.randbytes(2)


def _places(data: bytearray, chance: random.Random, count: int) -> list[int]:
    return [chance.randrange(len(data)) for _ in range(count)] if data else []


def _range(data: bytearray, chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.randrange(1, 2000))


_CHANGES: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], None], ...] = (
    _flip,
    _flip_head,
    _overwrite,
    _cut,
    _remove,
    _double,
    _splice,
    _mark,
)
