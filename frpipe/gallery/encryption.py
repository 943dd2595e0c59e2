"""Encrypt shards at rest: AES-256-GCM in chunks, so that no shard can be changed, cut or exchanged.

File: magic (8) | salt (16) | chunks of 1 MiB of plain text, each with its 16-byte tag; the last is shorter.

The key of a file is HKDF-SHA256(key, salt, file's context): with a random salt per file no (key, nonce) pair
comes twice, and the nonce may be the chunk's number. The context (gallery id and file name), the number and
whether the chunk is the last are authenticated with each chunk: a chunk that is moved, left out or cut off
fails, as does a file under another name. The form is that of Tink's AES-GCM-HKDF streams.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import mmap
import os
import struct
from pathlib import Path
from typing import Any

from frpipe.core.errors import GalleryError
from frpipe.gallery.document import damaged

KEY_VARIABLE = "FRPIPE_GALLERY_KEY"
KEY_FILE_VARIABLE = "FRPIPE_GALLERY_KEY_FILE"

_MAGIC = b"FRPENC01"
_SALT_BYTES = 16
_TAG_BYTES = 16
_CHUNK_BYTES = 1 << 20
_KEY_BYTES = 32
# Name of the folder into which Ray unpacks the files that a job has uploaded.
_UPLOADED = "_ray_pkg_"


class Cipher:
    """Cipher of one gallery, for whole files. The key comes from the environment alone."""

    def __init__(self, gallery_id: str, key: bytes) -> None:
        self._context = gallery_id.encode()
        self._key = key

    @classmethod
    def from_environment(cls, gallery_id: str) -> Cipher:
        """Make the cipher with the key of the environment: FRPIPE_GALLERY_KEY, or FRPIPE_GALLERY_KEY_FILE.

        Raises GalleryError where there is none, or it is not 32 bytes in base64.
        """
        return cls(gallery_id, _key())

    def check_value(self) -> str:
        """Check value of the key: 32 hex digits that reveal only whether a key is the right one."""
        return hmac.new(self._key, b"frpipe key check " + self._context, hashlib.sha256).hexdigest()[:32]

    def check(self, expected: str) -> None:
        """Raise GalleryError where the key is not the gallery's."""
        if not hmac.compare_digest(self.check_value(), expected):
            raise GalleryError(
                "the key is not the one that the gallery was made with",
                f"set {KEY_VARIABLE} or {KEY_FILE_VARIABLE} to the gallery's key",
            )

    def encrypt(self, name: str, plain: memoryview) -> bytearray:
        """Encrypt bytes to a file of this name."""
        salt = os.urandom(_SALT_BYTES)
        cipher, context = self._cipher(name, salt), self._context_of(name)
        out = bytearray(_MAGIC + salt)
        for number, start in enumerate(_starts(len(plain), _CHUNK_BYTES)):
            last = start + _CHUNK_BYTES >= len(plain)
            nonce, bound = _nonce(number), _bound(context, number, last)
            out += cipher.encrypt(nonce, bytes(plain[start : start + _CHUNK_BYTES]), bound)
        return out

    def decrypt(self, name: str, data: bytes | mmap.mmap) -> bytearray:
        """Decrypt a file. Raises GalleryDamaged where anything of it is not as it was written."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an optional package

        view = memoryview(data)
        head = len(_MAGIC) + _SALT_BYTES
        if len(view) < head + _TAG_BYTES or view[: len(_MAGIC)] != _MAGIC:
            raise damaged(name, "it is not an encrypted shard")
        cipher, context = self._cipher(name, bytes(view[len(_MAGIC) : head])), self._context_of(name)
        body, step, out = view[head:], _CHUNK_BYTES + _TAG_BYTES, bytearray()
        try:
            for number, start in enumerate(_starts(len(body), step)):
                bound = _bound(context, number, start + step >= len(body))
                out += cipher.decrypt(_nonce(number), bytes(body[start : start + step]), bound)
        except (InvalidTag, ValueError):
            raise damaged(name, "it has been changed, cut or exchanged since it was encrypted") from None
        return out

    def _cipher(self, name: str, salt: bytes) -> Any:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
            from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415
        except ImportError:
            raise GalleryError(
                "the package that encrypts is not installed", "pip install 'frpipe[encrypt]'"
            ) from None
        return AESGCM(HKDF(SHA256(), _KEY_BYTES, salt, self._context_of(name)).derive(self._key))

    def _context_of(self, name: str) -> bytes:
        return b"frpipe shard\0" + self._context + b"\0" + name.encode()


def key_is_given() -> bool:
    """Whether the environment names a key, right or wrong."""
    return bool(os.environ.get(KEY_VARIABLE) or os.environ.get(KEY_FILE_VARIABLE))


def _starts(size: int, step: int) -> range:
    """Offsets at which chunks begin; an empty file has one empty chunk."""
    return range(0, max(size, 1), step)


def _nonce(number: int) -> bytes:
    return struct.pack(">IQ", 0, number)


def _bound(context: bytes, number: int, last: bool) -> bytes:
    return context + struct.pack(">Q?", number, last)


def _refuse_uploaded(path: str) -> None:
    """Raise GalleryError for a key in the folder that `ray job submit --working-dir` has uploaded."""
    if any(part.startswith(_UPLOADED) for part in Path(path).absolute().parts):
        raise GalleryError(
            "the key file was uploaded with the job's working folder: the cluster keeps it, beside the code",
            "take the key for known and move the gallery to another (docs/operations.md); keep that one out "
            f"of the working folder, and let {KEY_FILE_VARIABLE} name a file that only the pods' user reads",
        )


def _key() -> bytes:
    text, path = os.environ.get(KEY_VARIABLE), os.environ.get(KEY_FILE_VARIABLE)
    if not text and not path:
        raise GalleryError(
            "the gallery is encrypted and no key is given",
            f"set {KEY_VARIABLE} (32 bytes, base64), or {KEY_FILE_VARIABLE} to a file that holds it",
        )
    if path and not text:
        _refuse_uploaded(path)
    try:
        given = text or Path(str(path)).read_text(encoding="ascii")
        key = base64.b64decode(given.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    except OSError as error:
        raise GalleryError(
            f"the key file cannot be read ({type(error).__name__})", "check its path"
        ) from None
    if len(key) != _KEY_BYTES:
        raise GalleryError(
            "the key is not 32 bytes in base64", "make one: `head -c 32 /dev/urandom | base64`"
        )
    return key
