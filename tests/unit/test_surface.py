"""The package from outside: what it offers, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import frpipe


def test_everything_announced_is_there() -> None:
    assert all(getattr(frpipe, name) is not None for name in frpipe.__all__)
    assert sorted(frpipe.__all__) == dir(frpipe)


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = ("ray", "cv2", "onnxruntime", "pyarrow", "numpy")
    assert _python(f"import sys, frpipe; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_the_commands_explain_themselves_without_loading_ray() -> None:
    commands = [
        ["models", "pull"],
        ["manifest", "scan"],
        ["gallery", "list"],
        ["gallery", "backup"],
        ["gallery", "restore"],
        ["cluster", "size"],
        ["metrics", "lecture"],
        ["metrics", "scores"],
        ["look"],
        ["protocol", "lfw"],
        ["rejects"],
        ["doctor"],
        ["erase"],
        ["check"],
        ["identify"],
        ["verify"],
        ["sheet"],
        ["demo"],
        ["run"],
    ]
    said = _python(f"""
import sys
from frpipe.cli.main import main
for words in {commands!r}:
    try:
        main([*words, "--help"])
    except SystemExit:
        print(words, "loads Ray:", "ray" in sys.modules)
""")
    for words in commands:
        assert f"{words} loads Ray: False" in said
        assert f"usage: frpipe {' '.join(words)} " in said


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()
