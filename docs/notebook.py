"""Turn a page of the documentation into a Jupyter notebook: its text, its blocks, and no outputs.

    python docs/notebook.py                     docs/lecture.md as build/lecture.ipynb
    python docs/notebook.py PAGE NOTEBOOK

Commands become cells of `%%bash`, Python becomes cells of Python, and a picture that either writes is shown
in a cell of its own, tagged `picture`. Outputs that the page shows are left out. Commands that need data of
the reader's stay text.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"^(?:<!-- ([^\n]*) -->\n)?```(\w+)\n(.*?)^```\n", re.M | re.S)
_PICTURE = re.compile(r"""(?:-o |savefig\("|\.save\(")([\w-]+\.png)""")
# A command of `console`, on several lines where these end in a backslash.
_COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*\n)", re.M)
_SHELL = ("sh", "console")
_SHELL_HEAD = "%%bash\nset -e\n"


def notebook(page: str, here: str = "") -> dict[str, Any]:
    """Make a notebook, in nbformat 4.5, of the text of a page.

    here: the way from the notebook's folder to the page's, for links.
    """
    cells = [
        {
            "id": f"cell-{number}",
            "cell_type": kind,
            "metadata": {},
            "source": source.splitlines(keepends=True),
        }
        for number, (kind, source) in enumerate(_cells(page, here))
    ]
    for cell in cells:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
            if cell["source"][0].startswith("import IPython"):
                cell["metadata"] = {"tags": ["picture"]}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    about = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": about, "cells": cells}


def _cells(page: str, here: str) -> Iterator[tuple[str, str]]:
    """Kind and source of each cell."""
    anchors = {_anchor(heading): heading for heading in re.findall(r"^#+ (.*)$", page, re.M)}
    text, end = "", 0
    for block in _FENCE.finditer(page):
        remark, language, content = block.groups()
        text, end = text + page[end : block.start()], block.end()
        source = _source(language, content)
        if remark == "output":
            continue
        if not source or remark == "not run: data":
            text += f"```{language}\n{content}```\n"
            continue
        if text.strip():
            yield "markdown", _linked(text.strip(), here, anchors)
        text = ""
        yield "code", source.rstrip("\n")
        for picture in dict.fromkeys(_PICTURE.findall(content)):
            yield "code", f'import IPython.display\n\nIPython.display.Image("{picture}")'
    if text := (text + page[end:]).strip():
        yield "markdown", _linked(text, here, anchors)


def _source(language: str, content: str) -> str:
    """What a cell runs; empty: nothing."""
    if language == "console":
        content = "".join(_COMMAND.findall(content))
    if language in _SHELL:
        return _SHELL_HEAD + content
    return content if language == "python" else ""


def _linked(text: str, here: str, anchors: dict[str, str]) -> str:
    """With links that lead from the notebook to where they led; Jupyter has anchors of its own."""

    def moved(link: re.Match[str]) -> str:
        target = link[1]
        if target.startswith("#"):
            return f"](#{anchors.get(target[1:], target[1:]).replace(' ', '-')})"
        return f"]({here}{target})" if here and "://" not in target else link[0]

    return re.sub(r"\]\(([^)\s]+)\)", moved, text)


def _anchor(heading: str) -> str:
    """As GitHub calls it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def main(arguments: list[str]) -> int:
    page, target = (
        Path(name) for name in arguments or (ROOT / "docs/lecture.md", ROOT / "build/lecture.ipynb")
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    here = Path(os.path.relpath(page.parent, target.parent)).as_posix()
    made = notebook(page.read_text(encoding="utf-8"), f"{here}/")
    target.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"{target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
