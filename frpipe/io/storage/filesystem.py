"""Open remote file systems, in one place, with the options that correctness needs."""

from __future__ import annotations

from typing import Any

from frpipe.core.errors import StorageError
from frpipe.io.storage import uri as uris


def connect(uri: str) -> Any:
    """Open the fsspec file system of a remote URI. Listings are never cached: others write at the same time.

    Chained URIs (`zip://a::s3://b`) are not taken apart, so a chain cannot lead elsewhere.
    Raises StorageError: no such scheme, or its package is not installed.
    """
    scheme, _ = uris.split(uri)
    cls = _class_of(scheme)
    options: dict[str, Any] = {**cls._get_kwargs_from_urls(uri), "use_listings_cache": False}
    if scheme in uris.WEB:
        options |= {"allow_redirects": False, "client_kwargs": {"raise_for_status": _refuse_redirect}}
        # Letter by letter, as for signed addresses; what HTTP cannot carry has to be encoded.
        options |= {"encoded": uri.isascii() and " " not in uri}
    try:
        return cls(**options)
    except ImportError as error:
        raise _not_installed(scheme) from error
    except (TypeError, ValueError) as error:
        raise StorageError(f"{scheme}:// cannot be opened by its URI alone", "use another storage") from error


def _class_of(scheme: str) -> Any:
    import fsspec  # noqa: PLC0415 - takes asyncio with it, which local files do without

    try:
        return fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise _not_installed(scheme) from error
    except ValueError as error:
        raise StorageError(f"there is no storage with the scheme {scheme}://", "check the URI") from error


def _not_installed(scheme: str) -> StorageError:
    if scheme == "s3":
        return StorageError("the package for s3:// is not installed", "pip install 'frpipe[s3]'")
    import fsspec  # noqa: PLC0415

    known = fsspec.registry.known_implementations.get(scheme, {})
    return StorageError(
        f"the package for {scheme}:// is not installed", known.get("err", "install its fsspec package")
    )


async def _refuse_redirect(reply: Any) -> None:
    if 300 <= reply.status < 400:
        raise StorageError("the web server redirects to another address", "give that address instead")
