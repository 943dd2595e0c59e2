"""What the documentation shows works: a page is a program of commands, queries, Python and settings."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from doc_blocks import PAGES, ROOT, Block, blocks_of, words_of
from doc_place import NEEDS, in_this_process, make_models, make_place

from frpipe.cli.main import COMMANDS, main
from frpipe.cli.main import _parser as frpipe_parser
from frpipe.core.config import load_config
from frpipe.core.night_config import load_night
from frpipe.core.threshold import ThresholdCard
from frpipe.jobs.face_pipeline import pipeline_of
from frpipe.models.card import Card

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
# What a block may need that tests do not have: its commands are read, and not run.
NOT_RUN = {
    "README.md": ["internet", "cluster", "internet"],
    "docs/benchmarks.md": ["hours", "hours", "hours"],
    "docs/cluster.md": ["cluster"],
    "docs/configuration.md": ["internet"],
    "docs/evaluation.md": ["data", "data", "data", "data"],
    "docs/faults.md": ["hours"],
    "docs/identify.md": ["cluster"],
    "docs/kubernetes.md": ["cluster"] * 3,
    "docs/lecture.md": ["internet", "data"],
    "docs/models.md": ["internet"],
    "docs/nightly.md": ["cluster", "hours"],
    "docs/outputs.md": ["spark"] * 5,
    "docs/pad.md": ["hours"],
    "docs/quality.md": ["hours"],
    "docs/queries.md": ["engines"] + ["cluster"] * 3 + ["engines"] * 6 + ["spark"] + ["engines"] * 3,
    "docs/recipes.md": ["internet", "gpu"],
    "docs/tables.md": ["engines"],
    "docs/verify-job.md": ["cluster"],
}
# A program that needs a real Ray, which tests/flow/test_ray_data.py runs from the page; one that has a test.
ELSEWHERE = ("docs/ray-data.md", "docs/lecture.md")
RUN = ("sh", "console", "sql", "python")


def test_every_block_says_what_it_is() -> None:
    known = {*RUN, "yaml", "json", "toml", "text"}
    assert [
        block.place for block in BLOCKS if block.language.strip("{}") == block.language not in known
    ] == []


def test_no_command_hides_in_a_block_of_text() -> None:
    command = re.compile(
        rf"^(\$ |python |ray |make |kubectl |SELECT |frpipe ({'|'.join((*COMMANDS, 'demo'))})\b)", re.M
    )
    assert [b.place for b in BLOCKS if b.language == "text" and command.search(b.text)] == []


def test_what_is_not_run_is_known() -> None:
    found: dict[str, list[str]] = {}
    for block in BLOCKS:
        if block.why:
            found.setdefault(block.page, []).append(block.why)
    assert found == NOT_RUN


# commands that are not run


def _asked(words: list[str]) -> None:
    """Read a command as its parser does. Raises SystemExit where it refuses a word."""
    if words[0] == "make":
        makefile = (ROOT / "Makefile").read_text()
        targets = [word for word in words[1:] if "=" not in word]
        assert all(f"\n{target}:" in makefile for target in targets), words
    elif words[0] == "frpipe":
        frpipe_parser(COMMANDS).parse_args(words[1:])
    elif words[:2] == ["ray", "job"]:
        _asked(words[words.index("--") + 1 :])
    elif words[0] == "python" and words[1].startswith("jobs/"):
        importlib.import_module(f"frpipe.cli.jobs.{Path(words[1]).stem}")._parser().parse_args(words[2:])
    elif words[0] == "python":
        assert (ROOT / words[1]).exists(), words
    else:
        assert words[0] in {"kubectl"}, words


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.why and b.language in RUN[:2]], ids=lambda block: block.place
)
def test_commands_that_are_not_run_are_understood(block: Block) -> None:
    for command in block.commands():
        with redirect_stderr(StringIO()) as said:
            try:
                _asked(words_of(command))
            except SystemExit:
                pytest.fail(f"{command}\n{said.getvalue()}")


# settings


def _yaml(block: Block) -> None:
    if block.page == "docs/models.md":
        _card(block)
        return
    load: Callable[[Path], Any] = load_night if block.page == "docs/nightly.md" else load_config
    Path("settings.yaml").write_text(block.text)
    load(Path("settings.yaml"))


def _card(block: Block) -> None:
    """A card, or what may stand in one; of the shown one where it says `...`."""
    (shown,) = (b for b in BLOCKS if b.page == block.page and b.text.startswith("name:"))
    for part in yaml.safe_load_all(block.text.replace("sha256: ...", f"sha256: {'a' * 64}")):
        whole = yaml.safe_load(shown.text.replace("sha256: ...", f"sha256: {'a' * 64}")) | part
        Card.model_validate(whole)


def _json(block: Block) -> None:
    if block.page == "docs/thresholds.md":
        ThresholdCard.parse(block.text)
    else:
        json.loads(block.text)


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.language in ("yaml", "json", "toml")], ids=lambda block: block.place
)
def test_settings_are_read(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    {"yaml": _yaml, "json": _json, "toml": lambda block: tomllib.loads(block.text)}[block.language](block)


# pages


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tiny models under the names of real ones, and jobs that stay in this process."""
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch, make_models(tmp_path_factory.mktemp("models")))
        yield
    pipeline_of.cache_clear()


@pytest.fixture
def place(tmp_path: Path, models: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    make_place(tmp_path)
    return tmp_path


class Program:
    """A page as a program: what one block leaves, the next finds."""

    def __init__(self, place: Path, patch: pytest.MonkeyPatch) -> None:
        self._place, self._patch = place, patch
        self._names: dict[str, Any] = {}

    def run(self, block: Block) -> list[str]:
        """What Python prints, or each of the commands."""
        if block.language == "sql":
            duckdb.sql(self._here(block.text)).fetchall()
            return []
        if block.language == "python":
            with redirect_stdout(StringIO()) as printed:
                code = "\n" * (block.line - 1) + self._here(block.text)
                exec(compile(code, str(ROOT / block.page), "exec"), self._names)
            return [printed.getvalue()]
        return [self._command(self._here(command), block) for command in block.commands()]

    def _here(self, text: str) -> str:
        """With what lies elsewhere in this folder."""
        for far, near in (
            ("s3://", "s3/"),
            ("/data/", "data/"),
            ("/secure/", "secure/"),
            ("/dev/shm/", "shm/"),
        ):
            text = text.replace(far, f"{self._place}/{near}")
        return text

    def _command(self, command: str, block: Block) -> str:
        words = words_of(command)
        said, printed, code = StringIO(), StringIO(), 0
        if words[0] == "export":
            for word in words[1:]:
                name, _, value = word.partition("=")
                self._patch.setenv(name, str(Path(value).expanduser()))
        elif words[0] == "frpipe" and not {"|", ">", ";"} & {*words}:
            code = _code(lambda: main(words[1:]), said, printed)
        elif words[0] == "python" and words[1].startswith("jobs/"):
            job = importlib.import_module(f"frpipe.cli.jobs.{Path(words[1]).stem}")
            code = _code(lambda: job.main(words[2:]), said, printed)
        elif words[0] != ".":
            done = subprocess.run(
                ["bash", "-ec", command], capture_output=True, text=True, check=False, timeout=120
            )
            code = done.returncode
            said.write(done.stderr)
            printed.write(done.stdout)
        assert code == 0, f"{block.place}: exit code {code}: {command}\n{said.getvalue()}"
        return printed.getvalue()


def _code(run: Callable[[], int], said: StringIO, printed: StringIO) -> int:
    """The exit code of a command in this process. said, printed: take what it says."""
    with redirect_stdout(printed), redirect_stderr(said):
        try:
            return run()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)


PROGRAMS = {
    page: found
    for page in dict.fromkeys(block.page for block in BLOCKS)
    if (found := [b for b in BLOCKS if b.page == page and b.language in RUN and not b.why])
}


@pytest.mark.parametrize("name", [page for page in PROGRAMS if page not in ELSEWHERE])
def test_a_page_is_a_program(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with NEEDS.get(name, nullcontext)() or nullcontext():
        program = Program(place, monkeypatch)
        for block in PROGRAMS[name]:
            program.run(block)
