"""List the photos in a shard, and their persons by the files of the same key beside them.

Members that follow each other and share a path up to the first dot of their name are one sample, as in
WebDataset: `0001.jpg`, `0001.json`, `0001.cls`. The person is `subject_id` of its .json, else the text of
its .cls.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from frpipe.core.reasons import Reject
from frpipe.io.manifest.photo_rules import LeftOut, PhotoRules, is_photo
from frpipe.io.manifest.shard_ref import is_streamed
from frpipe.io.manifest.shards import (
    Member,
    ShardFault,
    extract,
    leads_out,
    members,
    streamed,
)
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.window import WindowedFile

_SIDECARS = (".json", ".cls")
_MOST_SIDECAR = 1 << 20
_LOCAL_WINDOW, _REMOTE_WINDOW = 4096, 256 << 10


class ShardPhoto(NamedTuple):
    """A photo in a shard: its name there, and the person whom its sample names."""

    member: str
    subject: str | None


def photos_in(folder: Folder, shard: str, rules: PhotoRules, left_out: LeftOut) -> Iterator[ShardPhoto]:
    """Find the photos of a shard that the rules take, in its order; of several with one name the first.

    What the rules leave out is counted in `left_out`. Raises ShardFault where the shard is damaged, maybe
    after some.
    """
    seen: set[str] = set()
    faults: list[ShardFault] = []
    for _, sample in groupby(_contents(folder, shard, faults), key=lambda each: _key(each[0])):
        photos, named = [], dict[str, str]()
        for name, content in sample:
            # One whose name leads out is a row, so that it is known to be rejected.
            cause = None if leads_out(name) and is_photo(name) else rules.first(name)
            if cause is None:
                photos.append(name)
            elif content is not None and (person := _person(name, content)):
                named[_suffix(name)] = person
            else:
                left_out.add(*cause)
        subject = next((named[suffix] for suffix in _SIDECARS if suffix in named), None)
        for name in photos:
            if name in seen:
                left_out.repeated += 1
                continue
            seen.add(name)
            yield ShardPhoto(name, subject)
    for fault in faults:
        raise fault


def _contents(folder: Folder, shard: str, faults: list[ShardFault]) -> Iterator[tuple[str, bytes | None]]:
    """Read the names of the members, and what sidecars hold.

    faults: gets what ends it before its time.
    """
    try:
        yield from _stream(folder, shard) if is_streamed(shard) else _ranges(folder, shard)
    except Reject as why:
        faults.append(ShardFault(why.detail))
    except ShardFault as fault:
        faults.append(fault)


def _stream(folder: Folder, shard: str) -> Iterator[tuple[str, bytes | None]]:
    with folder.open(shard) as file:
        size = folder.entry(shard).bytes
        for member, content in streamed(file, size, _is_sidecar, _MOST_SIDECAR):
            yield member.name, content if isinstance(content, bytes) else None


def _ranges(folder: Folder, shard: str) -> Iterator[tuple[str, bytes | None]]:
    size = folder.entry(shard).bytes
    window = WindowedFile(
        lambda start, end: folder.read_range(shard, start, end),
        size,
        _LOCAL_WINDOW if folder.is_local else _REMOTE_WINDOW,
    )
    for member in members(shard, window, size):
        yield member.name, _content(member, window) if _is_sidecar(member) else None


def _content(member: Member, window: WindowedFile) -> bytes | None:
    try:
        return extract(member, window.range, _MOST_SIDECAR)
    except Reject:
        return None


def _person(name: str, content: bytes) -> str | None:
    """The person whom a sidecar names."""
    try:
        text = content.decode("utf-8").strip()
        told = json.loads(text) if _suffix(name) == ".json" else {"subject_id": text}
    except (ValueError, RecursionError):
        return None
    person = told.get("subject_id") if isinstance(told, dict) else None
    is_named = isinstance(person, str | int) and not isinstance(person, bool)
    return str(person) if is_named and str(person).isprintable() else None


def _is_sidecar(member: Member) -> bool:
    return _suffix(member.name) in _SIDECARS


def _suffix(name: str) -> str:
    return name[name.rfind(".") :].lower()


def _key(name: str) -> str:
    """The key of a name: the path up to its first dot."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last[:1]}{last[1:].partition('.')[0]}"
