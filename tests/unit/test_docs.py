"""The tables of the documentation are up to date. `python tests/unit/test_docs.py` rewrites them."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import pytest

from frpipe.core.config import iter_settings
from frpipe.core.held import FACES_HELD, HELD_COLUMNS, HELD_INSTEAD
from frpipe.core.reasons import Reason
from frpipe.core.schema import IMAGE_COLUMNS, LATER_IMAGE_COLUMNS, embedding_columns, face_columns, markdown
from frpipe.jobs.identify.schema import RATIO_COLUMN
from frpipe.jobs.publish.schema import TABLES as PUBLISHED
from frpipe.jobs.ratios import LLR_COLUMN
from frpipe.stages.stage import stage_class
from frpipe.stages.stage_docs import stage_tables

DOCS = Path(__file__).resolve().parents[2] / "docs"


def _settings() -> str:
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for name, default, description in iter_settings():
        shown = json.dumps(default, default=list)
        lines.append(f"| `{name}` | `{shown}` | {description} |")
    return "\n".join(lines)


def _reasons() -> str:
    return "\n".join(f"- `{reason.value}`" for reason in Reason)


TABLES = {
    ("outputs.md", "images"): lambda: markdown((*IMAGE_COLUMNS, *LATER_IMAGE_COLUMNS)),
    ("outputs.md", "faces"): lambda: markdown(face_columns(512)),
    ("outputs.md", "embeddings"): lambda: markdown(embedding_columns(512)),
    ("outputs.md", "held"): lambda: markdown((*HELD_COLUMNS, FACES_HELD, HELD_INSTEAD)),
    ("outputs.md", "llr"): lambda: markdown((LLR_COLUMN, RATIO_COLUMN)),
    ("outputs.md", "reasons"): _reasons,
    ("configuration.md", "settings"): _settings,
    **{("tables.md", spec.name): partial(markdown, spec.columns) for spec in PUBLISHED},
    ("pad.md", "pad"): lambda: stage_tables(stage_class("pad")),
    ("quality.md", "quality"): lambda: stage_tables(stage_class("quality")),
}


def _filled(text: str, mark: str, table: str) -> str:
    """The text with what stands between the mark and the next heading (or the end) replaced by the table."""
    pattern = rf"(<!-- {mark} -->\n).*?(?=\n#|\Z)"
    return re.sub(pattern, lambda match: f"{match.group(1)}\n{table}\n", text, flags=re.DOTALL)


@pytest.mark.parametrize(("page", "mark"), list(TABLES))
def test_the_documentation_shows_what_the_code_says(page: str, mark: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert f"<!-- {mark} -->" in text
    assert _filled(text, mark, TABLES[page, mark]()) == text, f"run: python {Path(__file__).name}"


if __name__ == "__main__":
    for (page, mark), table in TABLES.items():
        path = DOCS / page
        path.write_text(_filled(path.read_text(encoding="utf-8"), mark, table()), encoding="utf-8")
