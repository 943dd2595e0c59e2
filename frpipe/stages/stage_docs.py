"""The documentation of a further stage, from what it declares."""

from __future__ import annotations

import json
from collections.abc import Iterator

from frpipe.core.config import iter_settings
from frpipe.core.schema import markdown
from frpipe.stages.stage import FaceStage


def stage_tables(stage: type[FaceStage]) -> str:
    """Write a stage's settings, columns and reasons as tables in Markdown."""
    return "\n\n".join(_tables(stage))


def _tables(stage: type[FaceStage]) -> Iterator[str]:
    settings = iter_settings(stage.section, f"stages.{stage.name}.")
    if settings:
        rows = (f"| `{name}` | `{json.dumps(default)}` | {doc} |" for name, default, doc in settings)
        yield "\n".join(("| setting | default | meaning |", "|---|---|---|", *rows))
    if stage.roles:
        rows = (f"| `stages.{stage.name}.{name}` | {role} |" for name, role in stage.roles.items())
        yield "\n".join(("| setting that names a card | its role |", "|---|---|", *rows))
    for table, columns in (("faces", stage.face_columns), ("images", stage.timed_columns())):
        if columns:
            yield f"In `{table}`:"
            yield markdown(columns)
    if stage.reasons:
        rows = (f"| `{reason}` | {meaning} |" for reason, meaning in stage.reasons.items())
        yield "\n".join(("| reason | meaning |", "|---|---|", *rows))
