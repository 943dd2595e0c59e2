"""The lists of Labeled Faces in the Wild (Huang et al. 2007): View 1 for development, View 2 for results.

`pairs.txt`, View 2: a line `folds n`, then for each fold n lines `name n1 n2` of one person and n lines
`name1 n1 name2 n2` of two. `pairsDevTrain.txt` and `pairsDevTest.txt`, View 1: a line `n`, then as one fold.
"""

from __future__ import annotations

from frpipe.core.errors import ManifestError
from frpipe.protocols.listed import ListedPair, Photo
from frpipe.protocols.source import Source

TRAIN, TEST = "train", "test"
_REMEDY = "use the file as published: fields apart by tabs or spaces, photos numbered from 1"


def read_view2(source: Source) -> list[ListedPair]:
    """The pairs of `pairs.txt`; folds `01`, `02` and so on.

    Raises ManifestError: the counts of the first line are not those of the file, or lines are malformed.
    """
    folds, pairs = _counts(source, 2)
    return _pairs(source, [fold_label(fold) for fold in range(folds)], pairs)


def read_view1(train: Source, test: Source) -> list[ListedPair]:
    """The pairs of both lists, folds `train` and `test`. Raises ManifestError as `read_view2`."""
    found = []
    for source, label in ((train, TRAIN), (test, TEST)):
        (pairs,) = _counts(source, 1)
        found += _pairs(source, [label], pairs)
    return found


def fold_label(index: int) -> str:
    """Of a fold counted from 0: labels sort as numbers do."""
    return f"{index + 1:02d}"


def _counts(source: Source, fields: int) -> tuple[int, ...]:
    number, first = source.lines[0]
    counts = first.split()
    if len(counts) != fields or not all(text.isdecimal() and int(text) for text in counts):
        form = "`folds pairs`, as 10 300" if fields == 2 else "one count, as 1100"
        raise ManifestError(
            f"{source.name}: line {number} is not {form}",
            "View 2 is pairs.txt (--pairs), View 1 pairsDevTrain.txt and pairsDevTest.txt (--train, --test)",
        )
    return tuple(int(text) for text in counts)


def _pairs(source: Source, folds: list[str], pairs: int) -> list[ListedPair]:
    lines, announced = source.lines[1:], 2 * pairs * len(folds)
    if len(lines) != announced:
        raise ManifestError(
            f"{source.name}: the first line announces {announced:,} pairs, {len(lines):,} lines follow",
            "the file is cut short or was edited: use it as published",
        )
    found, bad = [], []
    for index, (number, line) in enumerate(lines):
        mated = index % (2 * pairs) < pairs
        sides = _sides(line.split(), mated)
        if sides is None:
            bad.append(number)
        else:
            found.append(ListedPair(*sides, folds[index // (2 * pairs)], number, source))
    form = "not `name n1 n2` or, in the second half of a fold, `name1 n1 name2 n2` of two people"
    source.refuse(bad, form, _REMEDY)
    return found


def _sides(fields: list[str], mated: bool) -> tuple[Photo, Photo] | None:
    if len(fields) != (3 if mated else 4):
        return None
    names, numbers = (fields[0], fields[-2] if not mated else fields[0]), (fields[1], fields[-1])
    if not all(text.isdecimal() and 0 < int(text) < 10_000 for text in numbers):
        return None
    a, b = (Photo(name, int(number)) for name, number in zip(names, numbers, strict=True))
    return (a, b) if a != b and (a.subject == b.subject) == mated else None
