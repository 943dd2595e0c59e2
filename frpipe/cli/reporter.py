"""Report what a job does, on standard error: lines for a person, or JSON for a log store.

FRPIPE_LOG=json makes each line an object: `time` (UTC), `level`, `job`, `run`, `event` and `message`, and the
numbers `done` and `total` where the event is `progress`. `run` is the same for all lines of a process: Ray's
submission id, FRPIPE_RUN, or else made up.
"""

from __future__ import annotations

import json
import os
import re
import sys
import uuid
from datetime import UTC, datetime
from functools import cache
from typing import Any

from frpipe.core.errors import ConfigError

VARIABLE = "FRPIPE_LOG"
_RUN = "FRPIPE_RUN"
_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
_PROGRESS = re.compile(r"(?P<done>[\d,]+) of (?P<total>[\d,]+) ")


class Speaker:
    """Say the lines of one job. Raises ConfigError where FRPIPE_LOG is neither text nor json."""

    def __init__(self, job: str) -> None:
        self._job = job

    def __call__(self, line: str) -> None:
        if self.as_json:
            level = "warning" if line.startswith("warning") else "info"
            self.tell(level, _event(line), message=line, **_numbers(line))
        else:
            _print(line)

    @property
    def as_json(self) -> bool:
        """Whether lines are JSON."""
        form = os.environ.get(VARIABLE) or "text"
        if form not in {"text", "json"}:
            raise ConfigError(f"{VARIABLE} is {form!r}", "say text or json")
        return form == "json"

    def tell(self, level: str, event: str, **fields: Any) -> None:
        """Write one JSON line. The fields hold no names, vectors or pixels."""
        _print(line_of(self._job, level, event, **fields))


def line_of(job: str, level: str, event: str, **fields: Any) -> str:
    """Make a line of the log of a job, as JSON."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"time": now, "level": level, "job": job, "run": _run(), "event": event, **fields}
    return json.dumps(line, ensure_ascii=False)


def _print(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        # A log on a full disk is no reason to stop the work.
        pass


def _event(line: str) -> str:
    return "progress" if _PROGRESS.match(line) else "note"


def _numbers(line: str) -> dict[str, int]:
    found = _PROGRESS.match(line)
    return {name: int(text.replace(",", "")) for name, text in found.groupdict().items()} if found else {}


@cache
def _run() -> str:
    named = os.environ.get(_RUN)
    if named:
        return named
    try:
        metadata = json.loads(os.environ.get(_RAY_JOB, "{}"))["metadata"]
        return str(metadata["job_submission_id"])
    except (ValueError, KeyError, TypeError):
        return uuid.uuid4().hex[:12]
