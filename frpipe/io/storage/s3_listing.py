"""List a prefix of S3 from several places at once.

S3 gives a thousand keys a request, and says only with them where the next ones begin: 100 million keys are
100,000 requests, one behind the other. So stretches of the listing are read ahead, each from a key that is
guessed. A guess is only where to begin: a stretch counts once the listing, read from its beginning, comes to
the very key that the stretch begins with. Elsewhere it goes on without it, as it does from where keys are not
sorted any more, and where a stretch could not be read.

So what is listed, and its order, is what one request behind the other would give, in every store that lists
behind a given key what it lists behind it otherwise, whatever its order is. A store that lists in one order
and begins in another would lose keys, and nothing in the listing shows it: who knows keys of before asks for
some that are missing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.io.storage.in_order import in_order
from frpipe.io.storage.listed import NAME
from frpipe.io.storage.s3_page import Page, common_prefixes, read_page, take_keys

STRETCH_KEYS = 1 << 15
"""Keys between two guesses, so that requests are few to what lies between."""

_AT_ONCE = 16
# Pages of a stretch that are read ahead and held, a tenth of a MB each.
_MOST_PAGES = 64
# Folders that hold nothing but one folder.
_MOST_LEVELS = 8
# A store of this kind sorts by nothing, and begins at no given key.
_UNSORTED = "--x-s3"


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Pages in a row; none where a guess could not be read."""

    pages: list[Page]

    @property
    def first(self) -> str | None:
        return self.pages[0].first if self.pages else None


class S3Listing:
    """The keys of a bucket below a prefix."""

    def __init__(self, fs: Any, bucket: str, prefix: str) -> None:
        take_keys(fs)
        self._fs, self._bucket, self._prefix = fs, bucket, prefix
        self._request = {"Bucket": bucket, "Prefix": prefix}

    def one_by_one(self) -> Iterator[pa.Table]:
        """Iterate over all keys in the order of the store, a page at a time, one request behind the other."""
        return (page.files for page in self._behind(None))

    def at_once(self, guesses: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Iterate as `one_by_one`, with stretches read ahead.

        guesses: keys, below the prefix, from which to read; None: from folders, if there are many keys.
        """
        if self._bucket.endswith(_UNSORTED):
            yield from self.one_by_one()
            return
        begun = self._stretch((None, None)) if guesses is None else None
        behind = self._folders_behind(begun) if begun else {f"{self._prefix}{each}" for each in guesses or ()}
        starts: list[str | None] = [*([] if begun else [None]), *sorted(behind)]
        ahead = in_order(self._stretch, zip(starts, [*starts[1:], None], strict=False), _AT_ONCE, _AT_ONCE)
        for page in self._followed(chain([begun] if begun else (), ahead)):
            yield page.files

    def folders(self) -> list[str]:
        """Find where folders begin, the topmost that are several; none where they are thousands."""
        found = [self._prefix]
        for _ in range(_MOST_LEVELS):
            found = common_prefixes(self._fs, {**self._request, "Prefix": found[0]})
            if len(found) != 1:
                break
        return found

    def _folders_behind(self, begun: _Stretch) -> list[str]:
        """Choose folders behind a stretch, so far apart that some pages are likely to lie between them."""
        last = begun.pages[-1].last
        if begun.pages[-1].token is None or last is None:
            return []
        found = sorted(self.folders())
        passed = bisect_right(found, last)
        return found[passed :: 1 + passed * STRETCH_KEYS // sum(len(page.files) for page in begun.pages)]

    def _stretch(self, bounds: tuple[str | None, str | None]) -> _Stretch:
        """Read pages from behind a key until one has keys behind another, or until there are too many.

        A guess that fails is cut short there: the listing itself comes to the same place, or says what fails.
        """
        start, end = bounds
        pages: list[Page] = []
        with suppress(*((Exception,) if start else ())):
            for page in self._behind(None, start):
                pages.append(page)
                is_over = end is not None and page.last is not None and page.last > end
                if is_over or len(pages) >= _MOST_PAGES:
                    break
        return _Stretch(pages)

    def _behind(self, token: str | None, start: str | None = None) -> Iterator[Page]:
        """Iterate over the pages from a token, or from behind a key, or from the beginning."""
        place = {"ContinuationToken": token} if token else {"StartAfter": start} if start else {}
        while True:
            page = read_page(self._fs, {**self._request, **place})
            yield page
            if page.token is None:
                return
            place = {"ContinuationToken": page.token}

    def _rest(self, stretch: _Stretch) -> Iterator[Page]:
        yield from stretch.pages
        token = stretch.pages[-1].token
        if token is not None:
            yield from self._behind(token)

    def _followed(self, stretches: Iterator[_Stretch]) -> Iterator[Page]:
        """Follow the listing from its beginning, over to each stretch whose first key it comes to."""
        here, ahead, last = self._rest(next(stretches)), _next(stretches), None
        while (page := next(here, None)) is not None:
            if ahead is not None and not page.is_behind(last):
                ahead = None  # in a store that does not sort, what is behind a key may lack others
            at = -1
            while ahead is not None and at < 0 and _has_passed(page, ahead):
                at = pc.index(page.files[NAME], ahead.first).as_py()
                if at < 0:
                    ahead = _next(stretches)
            if ahead is not None and at >= 0:
                page = Page(page.files.slice(0, at), None)
                here, ahead = self._rest(ahead), _next(stretches)
            yield page
            last = page.last or last


def _next(stretches: Iterator[_Stretch]) -> _Stretch | None:
    """The next stretch that has a key; None: there is none, or the store refuses one after another."""
    failed = 0
    for each in stretches:
        if each.first is not None:
            return each
        failed += not each.pages
        if failed == _AT_ONCE:
            break
    return None


def _has_passed(page: Page, ahead: _Stretch) -> bool:
    """Whether a listing in order of keys would have come to a stretch by the end of this page."""
    return page.last is not None and ahead.first is not None and page.last >= ahead.first
