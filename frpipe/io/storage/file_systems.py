"""Recognise mounted file systems that guarantee less than outputs and galleries rest on."""

from __future__ import annotations

import os
from pathlib import Path

from frpipe.io.storage import uri as uris

_NO_LINKS = (
    "no hard links, no modes, times to 2 s, no upper and lower case: outputs and galleries cannot lie here"
)
_NETWORK = "every client sees changes late: let one machine write, and mount it without caching of attributes"
_BRIDGE = "what fsync and hard links do depends on the other side: rely on it only after a trial of your own"
_VOLATILE = "it is memory: all is gone when the machine or the container stops"
_REMARKS = {
    "vfat": _NO_LINKS,
    "msdos": _NO_LINKS,
    "exfat": _NO_LINKS,
    "ntfs": _BRIDGE,
    "ntfs3": _BRIDGE,
    "hfsplus": _BRIDGE,
    "9p": _BRIDGE,
    "virtiofs": _BRIDGE,
    "fuseblk": _BRIDGE,
    "nfs": "version 2 cannot create a file for one writer only, and clients see changes some seconds late",
    "nfs4": "",
    "cifs": _NETWORK,
    "smb3": _NETWORK,
    "tmpfs": _VOLATILE,
    "ramfs": _VOLATILE,
    "overlay": "it is a container's own layer: all is gone with the container",
}


def type_at(path: Path) -> str:
    """The type of the file system that holds a path, as the kernel names it; else `unknown`."""
    real = os.path.realpath(path)
    best, kind = "", "unknown"
    for line in _mounts():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = fields[4].encode().decode("unicode_escape")
        if uris.inside(real, point) and len(point) >= len(best):
            best, kind = point, after.split(" ")[0]
    return kind


def remark_on(kind: str) -> str:
    """A remark on a type of file system; empty where there is nothing to remark."""
    if kind.startswith("fuse."):
        return _BRIDGE
    return _REMARKS.get(kind, "")


def _mounts() -> list[str]:
    try:
        return Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
