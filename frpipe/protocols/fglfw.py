"""The list of FGLFW, also called SLLFW: LFW with look-alikes as non-mated pairs (Deng et al. 2017).

Two forms are read. As public readers of `pair_FGLFW.txt` and `pair_SLLFW.txt` have it: no first line of
counts, one path `Name/Name_0001.jpg` a line, two lines (or one with both paths) a pair, ten folds of equal
length in order. Or LFW's own, see `lfw`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from frpipe.core.errors import ManifestError
from frpipe.protocols.lfw import fold_label, read_view2
from frpipe.protocols.listed import ListedPair, Photo
from frpipe.protocols.source import Source

_FOLDS = 10
_REMEDY = "a pair is two lines of a path `Name/Name_0001.jpg` each, or one line of two; or LFW's own form"


def read_fglfw(source: Source) -> list[ListedPair]:
    """The pairs of the list; folds `01` to `10`, as those of LFW.

    Raises ManifestError: lines of neither form, or folds that are not half mated, half non-mated.
    """
    if all(text.isdecimal() for text in source.lines[0][1].split()):
        return read_view2(source)
    photos = list(_photos(source))
    if len(photos) % (4 * _FOLDS):
        raise ManifestError(
            f"{source.name}: {len(photos):,} photos do not make {_FOLDS} folds of as many mated as non-mated",
            "the file is cut short or was edited: use it as published",
        )
    size, pairs = len(photos) // (2 * _FOLDS), []
    for index in range(0, len(photos), 2):
        (a, _), (b, line) = photos[index : index + 2]
        pairs.append(ListedPair(a, b, fold_label(index // (2 * size)), line, source))
    source.refuse([pair.line for pair in pairs if pair.a == pair.b], "a photo is paired with itself", _REMEDY)
    _check_folds(source, pairs, size)
    return pairs


def _photos(source: Source) -> Iterator[tuple[Photo, int]]:
    width = len(source.lines[0][1].split())
    bad, found = [], []
    for number, line in source.lines:
        photos = [Photo.of_path(path) for path in line.split()]
        if len(photos) != width or width not in {1, 2} or None in photos:
            bad.append(number)
        found += [(photo, number) for photo in photos if photo]
    source.refuse(bad, "not of the form of the first line, or no photo's path", _REMEDY)
    yield from found


def _check_folds(source: Source, pairs: list[ListedPair], size: int) -> None:
    mated = Counter(pair.fold for pair in pairs if pair.mated)
    for fold in sorted({pair.fold for pair in pairs}):
        if 2 * mated[fold] != size:
            raise ManifestError(
                f"{source.name}: of {size:,} pairs in fold {fold} {mated[fold]:,} are mated, not half",
                "the list is not in the order of its ten folds: use it as published",
            )
