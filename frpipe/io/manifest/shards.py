"""Read photos that are members of archives, .tar, .tar.gz and .zip, as `SHARD#MEMBER`.

Nothing is unpacked to a disk. A .tar and a .zip are indexed once, and members are read by their ranges; a
.tar.gz is read in one pass. A member is looked up by its name as written, which leads nowhere: one that would
lead out of a folder, a link, what is encrypted, and sizes that lie, are rejections of that photo.
"""

from __future__ import annotations

import gzip
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from frpipe.core.reasons import Reason, Reject
from frpipe.io.manifest.shard_ref import clean_name
from frpipe.io.storage.window import ReadRange, WindowedFile

_BLOCK = 512
# A header of ours is a few hundred bytes; who claims more wants memory.
_MOST_HEADER = 1 << 20
# Photos are compressed already: what unpacks to more is made to be large.
_MOST_TIMES, _SKIP_BYTES = 100, 1 << 20
_LOCAL = struct.Struct("<4s2xHH16xHH")
_SLACK = 256
_SIZE = re.compile("[0-9]{1,19}")
_REGULAR = frozenset((tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE))
_LINKS = frozenset((tarfile.LNKTYPE, tarfile.SYMTYPE))
_WITHOUT_DATA = _LINKS | {tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE}
_DIRECTORY_ERRORS = (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OverflowError)
_STREAM_ERRORS = (gzip.BadGzipFile, EOFError, zlib.error)


class ShardFault(Exception):
    """The error for a shard that is none, or is damaged from some place on."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a shard.

    offset: of its data in a .tar, of its header in a .zip.  stored: bytes that it takes there.  deflated:
    whether these are compressed.  crc: CRC-32 of the file; None: not known.  fault: why it is not read.
    """

    name: str
    offset: int
    stored: int
    size: int
    deflated: bool = False
    crc: int | None = None
    fault: str = ""


@dataclass(slots=True)
class ShardIndex:
    """An index of members by name, the first of each. fault: why there may be more than these."""

    members: dict[str, Member] = field(default_factory=dict)
    fault: str = ""

    @classmethod
    def of(cls, file: str, read: ReadRange, size: int, window: int) -> ShardIndex:
        """Read the headers of a .tar, or the directory of a .zip."""
        index = cls()
        try:
            for member in members(file, WindowedFile(read, size, window), size):
                index.members.setdefault(member.name, member)
        except ShardFault as fault:
            index.fault = str(fault)
        return index

    def find(self, name: str) -> Member:
        """Find a member. Raises Reject: NOT_FOUND; BAD_MEMBER where the shard is damaged before it."""
        if name in self.members:
            return self.members[name]
        raise _missing(self.fault)


class _File(Protocol):
    def read(self, count: int, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...


def members(path: str, file: WindowedFile, size: int) -> Iterator[Member]:
    """Iterate over the files in a .tar or .zip, as its headers say. Raises ShardFault, maybe after some."""
    if path.lower().endswith(".zip"):
        yield from _zip_members(file)
    else:
        yield from _tar_members(file, size)


def extract(member: Member, read: ReadRange, max_bytes: int) -> bytes:
    """Read the content of a member of a .tar or .zip. Raises Reject: BAD_MEMBER, TOO_MANY_BYTES."""
    _check(member, max_bytes)
    if member.crc is None:
        return _whole(read(member.offset, member.offset + member.size), member)
    data = _stored(member, read)
    if member.deflated:
        unpack = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = unpack.decompress(data, member.size + 1)
        except zlib.error:
            raise Reject(Reason.BAD_MEMBER, "it cannot be unpacked") from None
    data = _whole(data, member)
    if zlib.crc32(data) != member.crc:
        raise Reject(Reason.BAD_MEMBER, "it is not what its checksum says")
    return data


def streamed(
    file: BinaryIO, size: int, wanted: Callable[[Member], bool], max_bytes: int
) -> Iterator[tuple[Member, bytes | Reject | None]]:
    """Iterate over the files in a .tar.gz in order, with the content of those that are wanted.

    size: of the packed shard. Raises ShardFault, maybe after some; Reject TOO_MANY_BYTES where it unpacks to
    more than is reasonable.
    """
    forward = _Forward(file, size * _MOST_TIMES + max_bytes)
    for member in _tar_members(forward, None):
        content: bytes | Reject | None = None
        if wanted(member):
            try:
                _check(member, max_bytes)
                forward.seek(member.offset)
                content = _whole(forward.read(member.size), member)
            except Reject as why:
                content = why
        yield member, content


def photos_of_stream(
    file: BinaryIO, size: int, names: Collection[str], wants: Callable[[str], bool], max_bytes: int
) -> Iterator[tuple[str, bytes | Reject]]:
    """Iterate, in the order of a .tar.gz, over those of some members that are wanted when their turn comes.

    Each comes once. At the end come those that are not there, with the reason.
    """
    missing = set(names)

    def is_wanted(member: Member) -> bool:
        if member.name not in missing:
            return False
        if wants(member.name):
            return True
        missing.discard(member.name)
        return False

    try:
        for member, content in streamed(file, size, is_wanted, max_bytes):
            if content is not None:
                missing.discard(member.name)
                yield member.name, content
            if not missing:
                return
        why = _missing("")
    except ShardFault as fault:
        why = _missing(str(fault))
    except Reject as reject:
        why = reject
    yield from ((name, why) for name in missing)


def _missing(fault: str) -> Reject:
    return Reject(Reason.BAD_MEMBER, fault) if fault else Reject(Reason.NOT_FOUND, "no member of this name")


def _check(member: Member, max_bytes: int) -> None:
    if member.fault:
        raise Reject(Reason.BAD_MEMBER, member.fault)
    if member.size > max_bytes or member.stored > max_bytes + _SKIP_BYTES:
        raise Reject(Reason.TOO_MANY_BYTES, f"{member.size} bytes, limit {max_bytes}")


def _whole(data: bytes, member: Member) -> bytes:
    if len(data) != member.size:
        raise Reject(Reason.BAD_MEMBER, "it is not as long as its header says")
    return data


def _stored(member: Member, read: ReadRange) -> bytes:
    """Read the bytes of a member of a .zip, behind its own header, which is read along."""
    start = member.offset
    name_bytes = len(member.name.encode(errors="replace"))
    data = read(start, start + _LOCAL.size + name_bytes + _SLACK + member.stored) if start >= 0 else b""
    if len(data) < _LOCAL.size or not data.startswith(b"PK\3\4"):
        raise Reject(Reason.BAD_MEMBER, "it is not where the directory says")
    _, flags, _, name, extra = _LOCAL.unpack_from(data)
    if flags & 1:
        raise Reject(Reason.BAD_MEMBER, "it is encrypted")
    behind = _LOCAL.size + name + extra
    if behind + member.stored > len(data):
        data, behind = read(start + behind, start + behind + member.stored), 0
    return data[behind : behind + member.stored]


def _zip_members(file: WindowedFile) -> Iterator[Member]:
    try:
        with zipfile.ZipFile(file) as archive:
            listed = [info for info in archive.infolist() if not info.filename.endswith("/")]
    except _DIRECTORY_ERRORS:
        raise ShardFault("the shard is no zip file, is damaged or is cut short") from None
    for info in listed:
        deflated = info.compress_type == zipfile.ZIP_DEFLATED
        fault = _fault_of_name(info.filename)
        if info.flag_bits & 1:
            fault = "it is encrypted"
        elif stat.S_ISLNK(info.external_attr >> 16):
            fault = "it is a link"
        elif not deflated and info.compress_type != zipfile.ZIP_STORED:
            fault = "it is compressed in another way than deflate"
        size, stored = info.file_size, info.compress_size
        name = clean_name(info.filename)
        yield Member(name, info.header_offset, stored, size, deflated, info.CRC, fault)


def _tar_members(file: _File, size: int | None) -> Iterator[Member]:
    """Iterate over the members of a .tar. size: of the shard, where it is known."""
    at, name, pax = 0, "", dict[str, str]()
    while (info := _header(file, at)) is not None:
        data, length = at + _BLOCK, info.size
        if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            pax = _pax(_payload(file, data, length))
        elif info.type == tarfile.GNUTYPE_LONGNAME:
            name = _payload(file, data, length).rstrip(b"\0").decode("utf-8", "surrogateescape")
        elif info.type not in (tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK):
            if _SIZE.fullmatch(pax.get("size", "")):
                length = int(pax["size"])
            if info.type != tarfile.DIRTYPE:
                shown = clean_name(pax.get("path") or name or info.name)
                fault = _fault_in_tar(info.type, shown, pax)
                if size is not None and info.type in _REGULAR and data + length > size:
                    fault = "its size is more than the shard holds"
                yield Member(shown, data, length, length, fault=fault)
            if info.type in _WITHOUT_DATA:
                length = 0
            name, pax = "", {}
        at = data + -(-length // _BLOCK) * _BLOCK


def _fault_in_tar(kind: bytes, name: str, pax: dict[str, str]) -> str:
    if kind in _LINKS:
        return "it is a link"
    if kind not in _REGULAR or any(key.startswith("GNU.sparse") for key in pax):
        return "it is no regular file"
    return _fault_of_name(name)


def _header(file: _File, at: int) -> tarfile.TarInfo | None:
    """Read the header at a place; None at the end."""
    file.seek(at)
    block = file.read(_BLOCK)
    if (not block and at) or (len(block) == _BLOCK and not block.strip(b"\0")):
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise ShardFault("the shard is no tar file, is damaged or is cut short") from None
    if info.size < 0:
        raise ShardFault("the shard is damaged")
    return info


def _payload(file: _File, at: int, size: int) -> bytes:
    if size > _MOST_HEADER:
        raise ShardFault("the shard has a header of unreasonable size")
    file.seek(at)
    data = file.read(size)
    if len(data) != size:
        raise ShardFault("the shard is cut short")
    return data


def _pax(payload: bytes) -> dict[str, str]:
    """Parse the records `LENGTH KEY=VALUE` of an extended header."""
    found, at = {}, 0
    while at < len(payload) and payload[at : at + 1] != b"\0":
        length, _, _ = payload[at : at + 20].partition(b" ")
        if not length.isdigit() or not int(length):
            raise ShardFault("the shard is damaged")
        key, _, value = payload[at + len(length) + 1 : at + int(length) - 1].partition(b"=")
        found[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        at += int(length)
    return found


def leads_out(name: str) -> bool:
    """Whether a member's name, taken for a path, leads out of a folder."""
    segments = name.replace("\\", "/").split("/")
    return not segments[0] or ".." in segments or re.fullmatch("[A-Za-z]:", segments[0]) is not None


def _fault_of_name(name: str) -> str:
    return "its name leads out of the shard" if leads_out(name) else ""


class _Forward:
    """The unpacked content of a gzip stream, for reading forward only. most: bytes of it."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._stream = gzip.GzipFile(fileobj=file, mode="rb")
        self._most = most
        self._at = 0

    def read(self, count: int) -> bytes:
        try:
            data = self._stream.read(count)
        except _STREAM_ERRORS:
            raise ShardFault("the shard is no gzip file, is damaged or is cut short") from None
        self._at += len(data)
        if self._at > self._most:
            raise Reject(
                Reason.TOO_MANY_BYTES, f"the shard unpacks to more than {_MOST_TIMES} times its size"
            )
        return data

    def seek(self, offset: int) -> int:
        while self._at < offset and self.read(min(offset - self._at, _SKIP_BYTES)):
            pass
        return self._at
