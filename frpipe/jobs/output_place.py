"""Check the places that a job reads from and writes to."""

from __future__ import annotations

from pathlib import Path

from frpipe.core.errors import ConfigError
from frpipe.io.output import run
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.runtime.runtime import in_submitted_job


def output_place(uri: str, own: str = "_plan/") -> Folder:
    """The folder of an output, if it may be written to.

    own: what the job may leave there before it claims it. Raises ConfigError for a relative path in a
    submitted job; OutputError where the folder holds other files.
    """
    if _is_lost(uri):
        raise ConfigError(
            "a submitted job runs in a folder of Ray's, and a relative --output would be lost with it",
            "give an absolute path that every node sees, or s3://",
        )
    out = Folder.at(uri)
    run.refuse_foreign(out, own)
    return out


def refuse_relative(flag: str, uri: str) -> None:
    """Raise ConfigError for a relative path in a submitted job, for what workers on other nodes read."""
    if _is_lost(uri):
        raise ConfigError(
            f"a submitted job runs in a folder of Ray's, where a relative {flag} names something else",
            "give an absolute path that every node sees, or s3://",
        )


def _is_lost(uri: str) -> bool:
    return in_submitted_job() and uris.is_local(uri) and not Path(uris.split(uri)[1]).is_absolute()
