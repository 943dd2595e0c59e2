"""Classify errors of file systems and object stores, whatever library raised them."""

from __future__ import annotations

import errno
import io
from enum import Enum
from types import TracebackType
from typing import BinaryIO

from frpipe.core.errors import FrpipeError, StorageError


class Failure(Enum):
    """A kind of failure: (what to say, what to do about it)."""

    MISSING = ("there is no such file, or a part of its path is no folder", "check the path")
    DENIED = (
        "permission is denied",
        "check the folder's owner and mode, or the policy of the bucket and the credentials in use",
    )
    CREDENTIALS = (
        "the credentials are missing, wrong or expired",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or a profile, a role), or the store's variables",
    )
    UNREACHABLE = (
        "the object store does not answer",
        "check the network, and AWS_ENDPOINT_URL where the store is not Amazon's",
    )
    FULL = ("there is no space left", "free some space or use another folder; finished work is kept")
    NO_LINKS = (
        "this file system has no hard links, so a file cannot be created by one writer only",
        "use a local disk, NFS or an object-store URI",
    )
    FOLDER = ("a folder lies where a file belongs", "move it away, then run again")
    CONFLICT = ("another writer is at the same file", "run again")
    OTHER = ("the storage does not do what it is asked", "see the cause above, then run again")


_CREDENTIAL_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_CREDENTIAL_ERRORS = frozenset(
    {
        "ClientAuthenticationError",
        "CredentialRetrievalError",
        "DefaultCredentialsError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "RefreshError",
        "SSOError",
        "TokenRetrievalError",
    }
)
_UNREACHABLE_ERRORS = frozenset(
    {
        "ClientConnectorError",
        "ConnectTimeoutError",
        "ConnectionRefusedError",
        "EndpointConnectionError",
        "ProxyConnectionError",
        "ServiceRequestError",
        "gaierror",
    }
)
_CONFLICT_CODES = frozenset({"ConditionalRequestConflict", "OperationAborted", "409"})
_PRESENT_CODES = frozenset({"PreconditionFailed", "412"})
_ERRNO = {
    errno.ENOSPC: Failure.FULL,
    errno.EDQUOT: Failure.FULL,
    errno.EROFS: Failure.DENIED,
    errno.EACCES: Failure.DENIED,
    errno.EPERM: Failure.DENIED,
    errno.EISDIR: Failure.FOLDER,
}


def classify(error: BaseException) -> Failure:
    """The kind of failure that an exception stands for."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return Failure.MISSING
    kind = _by_reply(error) or _by_class(error)
    if kind is None and isinstance(error, PermissionError):
        kind = Failure.DENIED
    if kind is None and isinstance(error, OSError):
        kind = _ERRNO.get(error.errno or 0)
    return kind or Failure.OTHER


def says_present(error: BaseException) -> bool:
    """Whether an exclusive create was refused because the object is there.

    S3 stores other than Amazon's leave the failed condition out of the reply, and s3fs then raises a plain
    OSError instead of FileExistsError: the code of the reply decides.
    """
    return isinstance(error, FileExistsError) or not _PRESENT_CODES.isdisjoint(codes_of(error))


class Explained:
    """Context that turns what storage libraries raise into StorageError.

    Absent and present files pass as they are. No generator: look-ups read a few small pieces of many files.
    """

    __slots__ = ("_uri",)

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(
            error, (FrpipeError, FileNotFoundError, FileExistsError)
        ):
            return
        if type(error).__module__ == "builtins" and not isinstance(error, (OSError, UnicodeError)):
            return
        raise storage_error(error, self._uri) from error


def storage_error(error: BaseException, uri: str) -> StorageError:
    """The error to raise for a folder whose storage failed."""
    kind = classify(error)
    what, remedy = kind.value
    detail = f" ({describe(error)})" if kind is Failure.OTHER else ""
    return StorageError(f"{uri}: {what}{detail}", remedy)


def describe(error: BaseException) -> str:
    """The class of an error and its code, without the path that its message may hold."""
    codes = sorted(codes_of(error))
    if codes:
        return f"{type(error).__name__} {codes[0]}"
    if isinstance(error, OSError) and error.errno is not None and error.errno in errno.errorcode:
        return f"{type(error).__name__} {errno.errorcode[error.errno]}"
    return type(error).__name__


def _by_reply(error: BaseException) -> Failure | None:
    codes = codes_of(error)
    if not _CREDENTIAL_CODES.isdisjoint(codes):
        return Failure.CREDENTIALS
    if not _CONFLICT_CODES.isdisjoint(codes):
        return Failure.CONFLICT
    return None if codes.isdisjoint({"401", "403"}) else Failure.DENIED


def _by_class(error: BaseException) -> Failure | None:
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & _CREDENTIAL_ERRORS:
        return Failure.CREDENTIALS
    return Failure.UNREACHABLE if names & _UNREACHABLE_ERRORS else None


def codes_of(error: BaseException) -> set[str]:
    """The codes of the store's reply behind an exception: S3's names, or the HTTP status."""
    codes = set()
    for source in (error, error.__cause__):
        reply, status = getattr(source, "response", None), getattr(source, "status", None)
        if isinstance(reply, dict) and "Error" in reply:
            codes.add(str(reply["Error"].get("Code")))
        if isinstance(status, int):
            codes.add(str(status))
    return codes


class ExplainedFile(io.RawIOBase):
    """A file whose read errors are turned into StorageError. uri: what the errors name."""

    def __init__(self, file: BinaryIO, uri: str) -> None:
        self._file, self._uri = file, uri

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read(len(memoryview(buffer).cast("B")))
        memoryview(buffer).cast("B")[: len(data)] = data
        return len(data)

    def read(self, count: int = -1) -> bytes:
        with Explained(self._uri):
            return self._file.read(count)

    def seek(self, offset: int, whence: int = 0) -> int:
        with Explained(self._uri):
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
