"""The lists of Labeled Faces in the Wild (Huang et al. 2007): View 1 for development, View 2 for results.

`pairs.txt`, View 2: a line `folds n`, then for each fold n lines `name n1 n2` of one person and n lines
`name1 n1 name2 n2` of two. `pairsDevTrain.txt` and `pairsDevTest.txt`, View 1: a line `n`, then as one fold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from frpipe.core.counted import counted
from frpipe.core.errors import ManifestError
from frpipe.protocols.source import ListedPair, PhotoName, Source

TRAIN, TEST = "train", "test"
_REMEDY = "use the file as published: fields apart by tabs or spaces, photos numbered from 1"


_FOLDS = 10
_FGLFW_REMEDY = (
    "a pair is two lines of a path `Name/Name_0001.jpg` each, or one line of two; or LFW's own form"
)


def read_view2(source: Source) -> list[ListedPair]:
    """Read the pairs of `pairs.txt`; folds `01`, `02` and so on.

    Raises ManifestError: the counts of the first line are not those of the file, or lines are malformed.
    """
    folds, pairs = _counts(source, 2)
    return _pairs(source, [fold_label(fold) for fold in range(folds)], pairs)


def read_view1(train: Source, test: Source) -> list[ListedPair]:
    """Read the pairs of both lists, folds `train` and `test`. Raises ManifestError as `read_view2`."""
    found = []
    for source, label in ((train, TRAIN), (test, TEST)):
        (pairs,) = _counts(source, 1)
        found += _pairs(source, [label], pairs)
    return found


def fold_label(index: int) -> str:
    """The label of a fold counted from 0: labels sort as numbers do."""
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
            f"{source.name}: the first line announces {counted(announced, 'pairs')}, "
            f"{counted(len(lines), 'lines')} follow",
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


def _sides(fields: list[str], mated: bool) -> tuple[PhotoName, PhotoName] | None:
    if len(fields) != (3 if mated else 4):
        return None
    names, numbers = (fields[0], fields[-2] if not mated else fields[0]), (fields[1], fields[-1])
    if not all(text.isdecimal() and 0 < int(text) < 10_000 for text in numbers):
        return None
    a, b = (PhotoName(name, int(number)) for name, number in zip(names, numbers, strict=True))
    return (a, b) if a != b and (a.subject == b.subject) == mated else None


def read_fglfw(source: Source) -> list[ListedPair]:
    """Read the pairs of the list; folds `01` to `10`, as those of LFW.

    Raises ManifestError: lines of neither form, or folds that are not half mated, half non-mated.
    """
    if all(text.isdecimal() for text in source.lines[0][1].split()):
        return read_view2(source)
    photos = list(_photos(source))
    if len(photos) % (4 * _FOLDS):
        raise ManifestError(
            f"{source.name}: {counted(len(photos), 'photos do')} not make {_FOLDS} folds of "
            "as many mated as non-mated",
            "the file is cut short or was edited: use it as published",
        )
    size, pairs = len(photos) // (2 * _FOLDS), []
    for index in range(0, len(photos), 2):
        (a, _), (b, line) = photos[index : index + 2]
        pairs.append(ListedPair(a, b, fold_label(index // (2 * size)), line, source))
    source.refuse(
        [pair.line for pair in pairs if pair.a == pair.b], "a photo is paired with itself", _FGLFW_REMEDY
    )
    _check_folds(source, pairs, size)
    return pairs


def _photos(source: Source) -> Iterator[tuple[PhotoName, int]]:
    width = len(source.lines[0][1].split())
    bad, found = [], []
    for number, line in source.lines:
        photos = [PhotoName.of_path(path) for path in line.split()]
        if len(photos) != width or width not in {1, 2} or None in photos:
            bad.append(number)
        found += [(photo, number) for photo in photos if photo]
    source.refuse(bad, "not of the form of the first line, or no photo's path", _FGLFW_REMEDY)
    yield from found


def _check_folds(source: Source, pairs: list[ListedPair], size: int) -> None:
    mated = Counter(pair.fold for pair in pairs if pair.mated)
    for fold in sorted({pair.fold for pair in pairs}):
        if 2 * mated[fold] != size:
            raise ManifestError(
                f"{source.name}: of {counted(size, 'pairs')} in fold {fold} {mated[fold]:,} are "
                "mated, not half",
                "the list is not in the order of its ten folds: use it as published",
            )
