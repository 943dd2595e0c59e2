"""Read pages of keys from S3, a thousand at a time, as columns.

botocore makes a dictionary for each key and parses its time of change: 100 microseconds a key, where all else
that is done about a key takes one. So the keys are taken out of an answer before botocore reads the rest of
it. An answer that is written in any other way than stores write it is left to botocore, whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.errors import StorageError
from frpipe.io.storage.listed import BYTES, LISTED, NAME, VERSION

# With this name it comes before a handler of botocore that reads the whole answer to see that it is no error.
_EVENT, _HANDLER, _TAKEN = "before-parse.*.ListObjectsV2", "frpipe-keys", "frpipe-keys"
_FIRST, _LAST = b"<Contents>", b"</Contents>"
# A key with a reference such as `&amp;` or a control character, or elements in elements: not matched, and so
# left to botocore.
_OBJECT = re.compile(
    rb"(<Contents>(?:<Key>([^<&>\x00-\x1f]+)</Key>|<Size>([0-9]{1,18})</Size>"
    rb'|<ETag>(?:&quot;|&#34;|")?([^<&>"\x00-\x1f]+)(?:&quot;|&#34;|")?</ETag>'
    rb"|<((?!Key>|Size>|ETag>|Contents>)[A-Za-z]\w*)>[ -%'-;=?-~]*</\5>)*</Contents>)"
)
# What stands before the first one: the beginning of the answer, and elements that are closed again.
_HEAD = re.compile(
    rb"(?:<\?xml[^<>]*\?>)?\s*<ListBucketResult(?:\s[^<>]*)?>\s*"
    rb"(?:<([A-Za-z]\w*)(?:\s*/>|\s*>[^<]*</\1\s*>)\s*)*"
)
_OTHER_OBJECT = re.compile(rb"[</:]Contents[\s/>]")
# XML holds neither; the parser refuses them.
_NO_CHARACTERS = (b"\xef\xbf\xbe", b"\xef\xbf\xbf")
_asked: ContextVar[bool] = ContextVar("asked", default=False)


@dataclass(frozen=True, slots=True)
class Page:
    """Keys of a bucket in a row. files: with whole keys as names.  token: of the page behind it, if any."""

    files: pa.Table
    token: str | None

    @property
    def first(self) -> str | None:
        """The first key."""
        return self.files[NAME][0].as_py() if len(self.files) else None

    @property
    def last(self) -> str | None:
        """The last key."""
        return self.files[NAME][len(self.files) - 1].as_py() if len(self.files) else None

    def is_behind(self, key: str | None) -> bool:
        """Whether the keys are sorted, and behind another key if there is one."""
        names = self.files[NAME].combine_chunks()
        is_sorted = pc.all(pc.less(names[:-1], names[1:]), min_count=0).as_py()
        return is_sorted and (key is None or self.first is None or self.first > key)


def take_keys(fs: Any) -> None:
    """Have a file system of `s3fs` read keys for `read_page`; without it, botocore does."""
    fs.s3.meta.events.register(_EVENT, _take_keys, unique_id=_HANDLER)


def read_page(fs: Any, request: Mapping[str, str]) -> Page:
    """Read one page. fs: an `s3fs` file system.  request: of ListObjectsV2, without a delimiter."""
    # Other listings of the same file system go on as they are: an answer is read in the context of its call.
    before = _asked.set(True)
    try:
        answer = fs.call_s3("list_objects_v2", **request)
    finally:
        _asked.reset(before)
    token = answer.get("NextContinuationToken") if answer.get("IsTruncated") else None
    if answer.get("IsTruncated") and token in ("", None, request.get("ContinuationToken")):
        raise StorageError(
            "the store lists some keys, and does not say where the next ones begin",
            "list the photos in a manifest, or ask whoever runs the store",
        )
    if _TAKEN not in answer:
        return Page(_of_botocore(answer.get("Contents", ())), token)
    files = answer[_TAKEN]
    if answer.get("EncodingType") == "url":
        at = files.schema.get_field_index(NAME)
        files = files.set_column(at, NAME, _decoded(files[NAME]))
    return Page(files, token)


def common_prefixes(fs: Any, request: Mapping[str, str]) -> list[str]:
    """Find the folders right below a prefix; none where a page does not hold them, or the store refuses."""
    # A policy may bind the right to list to a prefix, or a store know no delimiters: they are but guesses.
    with suppress(Exception):
        answer = fs.call_s3("list_objects_v2", **request, Delimiter="/")
        if not answer.get("IsTruncated"):
            return [each["Prefix"] for each in answer.get("CommonPrefixes", ())]
    return []


def version_of(info: Mapping[str, Any]) -> str:
    """The version of a file from what a store says of it: its ETag, or else a time."""
    for key in ("ETag", "etag", "mtime", "LastModified", "last_modified", "created"):
        if info.get(key):
            return str(info[key]).strip('"')
    return ""


def _take_keys(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Take the keys out of an answer before botocore parses it, where this is sure to lose nothing."""
    if not _asked.get() or response_dict["status_code"] != 200:
        return
    body = response_dict["body"]
    start, end = body.find(_FIRST), body.rfind(_LAST) + len(_LAST)
    if start < 0 or end <= start or any(each in body for each in (b"<!", *_NO_CHARACTERS)):
        return
    # Outside there is no object that is written in another way, and botocore would find.
    if not _HEAD.fullmatch(body, 0, start) or _OTHER_OBJECT.search(body, 0, start):
        return
    if _OTHER_OBJECT.search(body, end):
        return
    found = _OBJECT.findall(body, start, end)
    # All that lies between is objects, and each has one key, one size and one version.
    if sum(len(each[0]) for each in found) != end - start or not all(all(each[1:4]) for each in found):
        return
    if any(body.count(name, start, end) != len(found) for name in (b"<Key>", b"<Size>", b"<ETag>")):
        return
    with suppress(pa.ArrowInvalid):  # not UTF-8
        parts = ([each[at] for each in found] for at in (1, 2, 3))
        columns = [pa.array(each, pa.binary()).cast(pa.string()) for each in parts]
        table = pa.table({NAME: columns[0], BYTES: columns[1].cast(pa.int64()), VERSION: columns[2]})
        customized_response_dict[_TAKEN] = table.cast(LISTED)
        response_dict["body"] = body[:start] + body[end:]


def _of_botocore(contents: Any) -> pa.Table:
    rows = [(each["Key"], int(each["Size"] or 0), version_of(each)) for each in contents]
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, LISTED, strict=True)], schema=LISTED)


def _decoded(keys: pa.ChunkedArray) -> pa.Array:
    """Decode keys that a store has encoded as in an address."""
    is_plain = pc.all(pc.invert(pc.match_substring_regex(keys, "[%+]")), min_count=0).as_py()
    return keys.combine_chunks() if is_plain else pa.array(map(unquote_plus, keys.to_pylist()), pa.string())
