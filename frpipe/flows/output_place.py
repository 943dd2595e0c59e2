"""Where a job writes to."""

from __future__ import annotations

from pathlib import Path

from frpipe.core.errors import ConfigError
from frpipe.io import run
from frpipe.io.folder import Folder
from frpipe.stages.cluster import in_submitted_job


def output_place(uri: str, own: str = "_plan/") -> Folder:
    """The folder, if it may be written to. own: what the job may leave there before it claims it.

    Raises ConfigError for a relative path in a submitted job; OutputError where the folder holds other files.
    """
    out = Folder.at(uri)
    if in_submitted_job() and out.is_local and not Path(uri).is_absolute():
        raise ConfigError(
            "a submitted job runs in a folder of Ray's, and a relative --output would be lost with it",
            "give an absolute path that every node sees, or s3://",
        )
    run.refuse_foreign(out, own)
    return out
